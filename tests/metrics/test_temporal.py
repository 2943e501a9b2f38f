import numpy as np
import pytest
import vectors
from hypothesis import given
from hypothesis import strategies as st

from jaxad.metrics import ranking, temporal


def test_expansion_reproduces_published_frame_scores():
    golden = vectors.load("rtfm", "test_scoring")
    frames = [temporal.expand_to_frames(golden[f"scores_{i}"]) for i in range(4)]
    np.testing.assert_array_equal(np.concatenate(frames), golden["frame_scores"])


def test_last_snippet_may_be_incomplete():
    actual = temporal.expand_to_frames(np.array([1.0, 2.0]), frames_per_snippet=3, n_frames=4)
    np.testing.assert_array_equal(actual, [1, 1, 1, 2])


@pytest.mark.parametrize("n_frames", [3, 7, 0])
def test_other_frame_counts_are_refused(n_frames):
    with pytest.raises(ValueError, match=f"cannot stand for {n_frames} frames: expected 4 to 6"):
        temporal.expand_to_frames(np.zeros(2), frames_per_snippet=3, n_frames=n_frames)


def test_scores_must_be_a_vector():
    with pytest.raises(ValueError, match=r"\(2, 1\)"):
        temporal.expand_to_frames(np.zeros((2, 1)))


@given(st.integers(0, 999), st.integers(2, 30))
def test_expansion_preserves_auc_of_snippet_labels(seed, count):
    rng = np.random.default_rng(seed)
    truth, scores = rng.integers(0, 2, count), rng.integers(0, 5, count) / 4
    frames = temporal.expand_to_frames(truth), temporal.expand_to_frames(scores)
    np.testing.assert_allclose(
        ranking.roc_auc(*frames), ranking.roc_auc(truth, scores), atol=1e-12, equal_nan=True
    )


def test_per_class_auc_alone_and_with_normal_videos():
    truth = [np.array([0, 1]), np.array([0, 0, 1]), np.array([1, 1]), np.array([0, 0])]
    scores = [np.array([0.1, 0.9]), np.array([0.2, 0.8, 0.5]), np.array([0.6, 0.7]), np.zeros(2)]
    actual = temporal.per_class_roc_auc(truth, scores, ["b", "a", "c", ""])
    assert list(actual) == ["a", "b", "c"]
    assert actual["a"] == {"alone": 1 / 2, "with_normal": 3 / 4}
    assert actual["b"] == {"alone": 1.0, "with_normal": 1.0}
    assert np.isnan(actual["c"]["alone"])  # Every frame of its videos is anomalous.
    assert actual["c"]["with_normal"] == 1.0


def test_per_class_auc_needs_one_entry_per_video():
    with pytest.raises(ValueError, match="got 1, 1 and 2"):
        temporal.per_class_roc_auc([np.zeros(1)], [np.zeros(1)], ["", ""])


def test_separability_equals_independent_code():
    golden = vectors.load("rtfm", "separability")
    actual = temporal.expected_separability(
        golden["k"],
        abnormal_snippets=int(golden["mu"]),
        abnormal_norm=float(golden["mean_abnormal"]),
        normal_norm=float(golden["mean_normal"]),
        epsilon=float(golden["eps"]),
    )
    np.testing.assert_allclose(actual, golden["expected"], rtol=1e-12)


@given(st.integers(1, 30), st.floats(0.01, 5), st.floats(0.1, 100))
def test_separability_peaks_at_the_number_of_abnormal_snippets(mu, epsilon, gap):
    curve = temporal.expected_separability(
        np.arange(1, 200),
        abnormal_snippets=mu,
        abnormal_norm=1 + gap,
        normal_norm=1.0,
        epsilon=epsilon,
    )
    assert np.argmax(curve) + 1 == mu
    assert np.all(np.diff(curve[:mu]) > 0)
    assert np.all(np.diff(curve[mu - 1 :]) < 0)


@given(st.integers(1, 20), st.floats(0.01, 5.0))
def test_separability_grows_up_to_the_abnormal_snippets_and_then_vanishes(mu, epsilon):
    curve = temporal.expected_separability(
        np.array([*range(1, 40), 1e3, 1e6, 1e9]),
        abnormal_snippets=mu,
        abnormal_norm=3.0,
        normal_norm=1.0,
        epsilon=epsilon,
    )
    assert (np.diff(curve[:mu]) > 0).all()
    assert (np.diff(curve[mu - 1 :]) < 0).all()
    assert curve[-1] < 1e-7


@pytest.mark.parametrize("k, epsilon", [(0, 0.4), (1, 0.0)])
def test_separability_out_of_range(k, epsilon):
    with pytest.raises(ValueError, match="at least 1 and epsilon positive"):
        temporal.expected_separability(
            k, abnormal_snippets=3, abnormal_norm=2.0, normal_norm=1.0, epsilon=epsilon
        )
