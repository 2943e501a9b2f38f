import numpy as np
import pytest
import vectors
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn import metrics as sk

from jaxad.metrics import ranking

AREAS = [ranking.roc_auc, ranking.average_precision, ranking.pr_auc, ranking.fpr_at_tpr]
RATES = [ranking.fpr_at_tpr, ranking.fpr_at_tpr_nearest, ranking.fpr_at_tpr_normal_positive]
EVERY = [*AREAS, *RATES[1:]]
# Few distinct scores, so that most examples have ties.
ENTRIES = st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=40)


def both(entries):
    truth = np.array([t for t, _ in entries], np.uint8)
    assume(0 < truth.sum() < len(truth))
    return truth, np.array([s for _, s in entries], np.float64)


def test_published_scoring_is_reproduced():
    golden = vectors.load("rtfm", "test_scoring")
    truth, scores = golden["gt"], golden["frame_scores"]
    actual = [
        f(truth, scores) for f in (ranking.roc_auc, ranking.pr_auc, ranking.average_precision)
    ]
    np.testing.assert_allclose(actual, golden["metrics64"], rtol=1e-12)


@given(ENTRIES)
def test_roc_auc_is_the_share_of_pairs_in_order(entries):
    truth, scores = both(entries)
    gaps = scores[truth == 1][:, None] - scores[truth == 0][None]
    expected = np.mean((gaps > 0) + 0.5 * (gaps == 0))
    assert ranking.roc_auc(truth, scores) == pytest.approx(expected, abs=1e-12)


@given(ENTRIES)
def test_average_precision_by_thresholds(entries):
    truth, scores = both(entries)
    expected, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        chosen = scores >= threshold
        gained = truth[chosen].sum() / truth.sum()
        expected += (gained - recall) * truth[chosen].mean()
        recall = gained
    assert ranking.average_precision(truth, scores) == pytest.approx(expected, abs=1e-12)


@given(ENTRIES, st.sampled_from([0.05, 0.5, 0.8, 0.95, 1.0]))
def test_fpr_at_tpr_by_thresholds(entries, tpr):
    truth, scores = both(entries)
    reached = [t for t in set(scores) if np.mean(scores[truth == 1] >= t) >= tpr]
    expected = np.mean(scores[truth == 0] >= max(reached))
    assert ranking.fpr_at_tpr(truth, scores, tpr=tpr) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", EVERY)
@given(entries=ENTRIES)
def test_only_the_order_of_scores_matters(metric, entries):
    truth, scores = both(entries)
    expected = metric(truth, scores)
    assert metric(truth, np.exp(scores) - 1000) == expected
    assert metric(truth, 1e6 * scores**3) == expected
    assert metric(truth[::-1], scores[::-1]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", EVERY)
@given(entries=ENTRIES)
def test_repeating_every_entry_changes_nothing(metric, entries):
    truth, scores = both(entries)
    actual = metric(np.repeat(truth, 16), np.repeat(scores, 16))
    assert actual == pytest.approx(metric(truth, scores), abs=1e-12)


@pytest.mark.parametrize("metric", EVERY)
def test_perfect_and_inverted_scores(metric):
    truth, scores = np.array([[0, 0], [1, 1]]), np.array([[-5.0, 1.0], [2.0, 9.0]])
    perfect, inverted = metric(truth, scores), metric(truth, -scores)
    if metric in RATES:
        assert (perfect, inverted) == (0.0, 1.0)
    else:
        assert perfect == 1.0
        assert inverted < 0.5


@pytest.mark.parametrize("metric", EVERY)
@pytest.mark.parametrize("truth", [[0, 0, 0], [1, 1, 1], []])
def test_one_class_is_undefined(metric, truth):
    assert np.isnan(metric(np.array(truth), np.arange(float(len(truth)))))


@pytest.mark.parametrize("curve", [ranking.roc_curve, ranking.precision_recall_curve])
def test_curve_of_one_class_is_empty(curve):
    x, y = curve(np.ones(3), np.arange(3.0))
    assert x.size == y.size == 0


@pytest.mark.parametrize("metric", [*EVERY, ranking.roc_curve, ranking.precision_recall_curve])
def test_bad_input_is_named(metric):
    truth = np.array([0, 1, 0])
    with pytest.raises(ValueError, match="2 of 3 scores are NaN or infinite"):
        metric(truth, np.array([np.nan, 1.0, -np.inf]))
    with pytest.raises(ValueError, match="found 255; remove void"):
        metric(np.array([0, 1, 255]), np.zeros(3))
    with pytest.raises(ValueError, match=r"\(3,\) and \(2,\)"):
        metric(truth, np.zeros(2))


@pytest.mark.parametrize("metric", RATES)
@pytest.mark.parametrize("tpr", [0.0, 1.1])
def test_tpr_out_of_range(metric, tpr):
    with pytest.raises(ValueError, match=f"got {tpr}"):
        metric(np.array([0, 1]), np.zeros(2), tpr=tpr)


@pytest.mark.parametrize("function", [ranking.roc_curve, ranking.precision_recall_curve])
def test_too_few_points(function):
    with pytest.raises(ValueError, match="got 1"):
        function(np.array([0, 1]), np.array([0.0, 1.0]), points=1)


def test_scores_keep_double_precision():
    scores = np.array([1.0, 1.0 + 1e-12])
    assert ranking.roc_auc(np.array([0, 1]), scores) == 1.0


def test_decimated_curves_keep_ends_and_area():
    rng = np.random.default_rng(0)
    truth = rng.random(20_000) < 0.1
    scores = rng.standard_normal(20_000) + 1.5 * truth
    x, y = ranking.roc_curve(truth, scores, points=200)
    assert len(x) <= 200
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert sk.auc(x, y) == pytest.approx(ranking.roc_auc(truth, scores), abs=1e-3)
    recall, precision = ranking.precision_recall_curve(truth, scores, points=200)
    assert len(recall) <= 200
    assert (recall[0], recall[-1], precision[0]) == (0, 1, 1)
    assert np.all(np.diff(recall) >= 0)
    assert sk.auc(recall, precision) == pytest.approx(ranking.pr_auc(truth, scores), abs=5e-3)


@given(ENTRIES)
def test_short_curves_are_whole(entries):
    truth, scores = both(entries)
    x, y = ranking.roc_curve(truth, scores)
    assert sk.auc(x, y) == pytest.approx(ranking.roc_auc(truth, scores), abs=1e-12)


@given(ENTRIES, st.sampled_from([0.3, 0.5, 0.8, 0.95, 1.0]))
def test_nearest_recall_by_thresholds(entries, tpr):
    truth, scores = both(entries)
    best = None
    for threshold in sorted(set(scores), reverse=True):
        recall = np.mean(scores[truth == 1] >= threshold)
        rate = np.mean(scores[truth == 0] >= threshold)
        distance = abs(recall - tpr)
        # A later threshold wins a tie, unless its recall is 1 again.
        if best is None or distance < best[0] or (distance == best[0] and best[1] < 1):
            best = (distance, recall, rate)
    actual = ranking.fpr_at_tpr_nearest(truth, scores, tpr=tpr)
    assert actual == pytest.approx(best[2], abs=1e-12)


def test_three_conventions_of_fpr_differ():
    # Recalls 1/2, 1/2, 1 at false positive rates 0, 1/3, 1: two normal scores tie with the 2.
    truth, scores = np.array([1, 0, 1, 0, 0]), np.array([4.0, 3.0, 2.0, 2.0, 2.0])
    assert ranking.fpr_at_tpr(truth, scores, tpr=0.6) == 1  # Recall 1.
    assert ranking.fpr_at_tpr_nearest(truth, scores, tpr=0.6) == 1 / 3  # Recall 1/2, its end.
    # 0.6 of three normal scores are two of them, so t = 2, and one of two anomalous ones passes.
    assert ranking.fpr_at_tpr_normal_positive(truth, scores, tpr=0.6) == 1 / 2


@given(ENTRIES, st.integers(1, 100))
def test_normal_positive_threshold_is_the_ceiling_of_the_share(entries, percent):
    truth, scores = both(entries)
    normal = np.sort(scores[truth == 0])
    threshold = normal[-(-percent * len(normal) // 100) - 1]  # ⌈percent n / 100⌉-th smallest.
    expected = np.mean(scores[truth == 1] <= threshold)
    actual = ranking.fpr_at_tpr_normal_positive(truth, scores, tpr=percent / 100)
    assert actual == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("case", ["c0", "c1"])
def test_image_level_goldens(case):
    golden = vectors.part(vectors.load("aux_prototypes", "metrics"), f"{case}/")
    scores = np.concatenate([golden["id_scores"], golden["ood_scores"]])
    truth = np.arange(len(scores)) >= len(golden["id_scores"])
    actual = [
        ranking.roc_auc(truth, scores),
        ranking.fpr_at_tpr_normal_positive(truth, scores),
        ranking.fpr_at_tpr(truth, scores),
    ]
    names = ["auroc", "fpr95_id_positive", "fpr95_ood_positive"]
    np.testing.assert_allclose(actual, [golden[name] for name in names], atol=1e-12)


PEBAL = "ties heavy_ties all_tied perfect inverted few_positives recall_exactly_95 no_positives"


@pytest.mark.parametrize("case", PEBAL.split())
def test_pixel_level_goldens(case):
    golden = vectors.part(vectors.load("pebal", "metrics"), f"{case}/")
    truth, scores = (golden[name][golden["label"] != 255] for name in ("label", "score"))
    areas = [ranking.roc_auc(truth, scores), ranking.average_precision(truth, scores)]
    nearest = [*areas, ranking.fpr_at_tpr_nearest(truth, scores)]
    np.testing.assert_allclose(nearest, golden["nearest"], atol=1e-12)
    if "at_least" in golden:
        at_least = [*areas, ranking.fpr_at_tpr(truth, scores)]
        np.testing.assert_allclose(at_least, golden["at_least"], atol=1e-12)
