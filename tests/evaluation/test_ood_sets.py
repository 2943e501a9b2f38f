import dataclasses
import math

import numpy as np
import ood_scenes
import pytest
import vectors
from hypothesis import given
from hypothesis import strategies as st

from jaxad.evaluation import measures, ood_sets
from jaxad.evaluation.predictions import Predictions
from jaxad.metrics import ranking

NAMES = ("", "a", "b", "c/d")
GROUPS = {"a": "C1", "b": "C2", "c/d": "C1"}
ENTRIES = st.lists(
    st.tuples(st.sampled_from(NAMES), st.integers(-5, 5)), min_size=1, max_size=40
).filter(lambda entries: any(name == "" for name, _ in entries))


def made(entries, groups=GROUPS):
    classes = tuple(name for name, _ in entries)
    return Predictions(
        names=tuple(f"{i}" for i in range(len(entries))),
        labels=np.array([int(bool(name)) for name in classes]),
        image=np.array([score for _, score in entries], np.float32),
        classes=classes,
        class_groups=groups,
    )


def test_metrics_by_hand():
    found = measures.measure(ood_scenes.collected())
    # Normal scores 1 2 2 3 4 5: the ⌈5.7⌉-th smallest is 5, and what scores up to that passes.
    assert found["image_fpr95"] == pytest.approx(4 / 7)
    assert found["class/scanner/image_fpr95"] == 1
    assert found["class/view/image_fpr95"] == 0
    assert found["class/organ/image_fpr95"] == 1 / 2
    # All of the scanner's are found at its lowest score, 1, where all normal ones are.
    assert found["class/scanner/image_fpr95_ood_positive"] == 1
    assert found["class/organ/image_fpr95_ood_positive"] == 1 / 6
    assert found["class/organ/image_auc"] == pytest.approx(11.5 / 12)
    assert found["class/scanner/image_auc"] == pytest.approx((4.5 + 5.5 + 0.5) / 18)


def test_means_are_plain_ones_over_sets():
    found = measures.measure(ood_scenes.collected())
    for metric in ood_sets.METRICS:
        own = {name: found[f"class/{name}/{metric}"] for name in ("scanner", "view", "organ")}
        assert found[f"group/C3/{metric}"] == own["scanner"]
        assert found[f"group/C1/{metric}"] == pytest.approx((own["view"] + own["organ"]) / 2)
        assert found[f"sets/{metric}"] == pytest.approx(sum(own.values()) / 3)
    assert not any(name.startswith("group/C2") for name in found)


@given(ENTRIES)
def test_each_set_is_measured_against_all_normal_images(entries):
    found, reasons = ood_sets.evaluated(made(entries))
    normal = np.sort([score for name, score in entries if not name])
    accepted = normal[math.ceil(0.95 * len(normal)) - 1]
    present = {name for name, _ in entries} - {""}
    assert {k.rpartition("/")[0] for k in found if k.startswith("class/")} == {
        f"class/{name}" for name in present
    }
    for name in present:
        own = np.array([score for other, score in entries if other == name])
        wins = np.mean((own[:, None] > normal) + 0.5 * (own[:, None] == normal))
        assert found[f"class/{name}/image_auc"] == pytest.approx(wins)
        assert found[f"class/{name}/image_fpr95"] == pytest.approx(np.mean(own <= accepted))
    assert reasons == {}


@given(ENTRIES)
def test_group_means_lie_between_their_sets_and_average_to_those_of_all(entries):
    scored = made(entries)
    found, _ = ood_sets.evaluated(scored)
    for metric in ood_sets.METRICS:
        total = 0.0
        for group, names in ood_sets.groups(scored).items():
            own = [found[f"class/{name}/{metric}"] for name in names]
            mean = found[f"group/{group}/{metric}"]
            assert min(own) - 1e-12 <= mean <= max(own) + 1e-12
            total += mean * len(names)
        count = len(ood_sets.members(scored))
        if count:
            assert found[f"sets/{metric}"] == pytest.approx(total / count)


@given(ENTRIES, st.randoms(use_true_random=False))
def test_order_and_scale_of_scores_change_nothing(entries, random):
    found, _ = ood_sets.evaluated(made(entries))
    turned = list(entries)
    random.shuffle(turned)
    scaled = made([(name, 3 * score + 7) for name, score in turned])
    other, _ = ood_sets.evaluated(scaled)
    assert other == pytest.approx(found)


def test_one_set_equals_the_metrics_over_all_images():
    scored = made([("", 1), ("", 3), ("a", 2), ("a", 4), ("a", 3)])
    found = measures.measure(scored)
    for metric in ood_sets.METRICS:
        assert found[metric] == found[f"class/a/{metric}"] == found[f"sets/{metric}"]


@pytest.mark.parametrize("case", ["c0", "c1"])
def test_image_level_goldens(case):
    golden = vectors.part(vectors.load("aux_prototypes", "metrics"), f"{case}/")
    parts = (("", golden["id_scores"]), ("a", golden["ood_scores"]))
    found = measures.measure(made([(name, s) for name, scores in parts for s in scores]))
    names = {
        "image_auc": "auroc",
        "image_fpr95": "fpr95_id_positive",
        "image_fpr95_ood_positive": "fpr95_ood_positive",
    }
    for metric, name in names.items():
        assert found[f"class/a/{metric}"] == pytest.approx(float(golden[name]), abs=1e-6)


def test_no_normal_images_leave_reasons():
    scored = made([("a", 1), ("b", 2)])
    found, reasons = measures.measure(scored), measures.undefined(scored)
    assert found == {}
    for name in ("class/a/image_auc", "group/C1/image_fpr95", "sets/image_fpr95_ood_positive"):
        assert "no normal images" in reasons[name]
    assert reasons["image_fpr95"] == "All 2 images are anomalous; both are needed."


def test_no_anomalous_images_leave_no_sets():
    scored = made([("", 1), ("", 2)])
    assert ood_sets.evaluated(scored) == ({}, {})
    assert "image_fpr95" in measures.undefined(scored)


def test_images_without_groups_have_means_over_all_sets_alone():
    found, _ = ood_sets.evaluated(made([("", 1), ("a", 2), ("b", 0)], groups=None))
    assert found["sets/image_auc"] == 0.5
    assert not any(name.startswith("group/") for name in found)


def test_videos_and_scores_of_pixels_alone_have_no_sets():
    videos = Predictions(
        ("a", "b"), np.array([1, 0]), np.array([0.5, 0.4]), (np.ones(1), np.ones(1)),
        classes=("Fight", ""),
    )  # fmt: skip
    assert set(measures.measure(videos)) == {"image_auc", "image_average_precision"}
    alone = dataclasses.replace(ood_scenes.collected(), image=None)
    assert ood_sets.evaluated(alone) == ({}, {})


def test_rows_of_the_table():
    scored = ood_scenes.collected()
    found = measures.measure(scored)
    rows = ood_sets.rows(found, scored)
    assert [(row["name"], row["group"], row["images"]) for row in rows] == [
        ("scanner", "C3", 3),
        ("view", "C1", 2),
        ("organ", "C1", 2),
        ("mean of 2", "C1", None),
        ("mean of 3", "", None),
    ]
    assert rows[1]["image_auc"] == ranking.roc_auc(scored.labels[[0, 9]], scored.image[[0, 9]])
    assert rows[-1]["image_fpr95"] == found["sets/image_fpr95"]


def test_every_metric_is_explained_and_headlines_have_the_means():
    found = measures.measure(ood_scenes.collected())
    for name in found:
        assert len(measures.explain(name)) > 20, name
    assert "set c/d against" in measures.explain("class/c/d/image_fpr95")
    assert measures.explain("class/c/d/other") == measures.explain("image_other") == ""
    headlines = measures.headlines(found, "image")
    assert headlines["image AUC, mean of sets"] == found["sets/image_auc"]
    assert headlines["image FPR95"] == found["image_fpr95"]
