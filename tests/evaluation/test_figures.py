import io
import warnings

import numpy as np
import pytest
from PIL import Image

from jaxad.evaluation import figures
from jaxad.evaluation.predictions import Predictions

ROWS = [
    *({"step": s, "stage": "train", "split": "train", "loss": 100.0 / s} for s in range(1, 40)),
    {"step": 20, "stage": "train", "split": "validation", "image_auc": 0.7, "checkpoint": 20},
    {"step": 40, "stage": "train", "split": "validation", "image_auc": None, "checkpoint": 40},
    {"step": 5, "stage": "$odd_{stage", "split": "train", "a/loss": 1.0, "b/loss": -2.0},
]


def make(n=20, kinds=4, **changes):
    """Anomalous videos first; the score of video i is better the larger i is."""
    rng = np.random.default_rng(0)
    frames, snippet = [], []
    for i in range(n):
        truth = np.zeros(20, np.uint8)
        truth[5:9] = i < n // 2
        frames.append(np.repeat(truth, 4)[:-2])
        snippet.append(np.clip(0.3 + 0.03 * i * truth + 0.3 * rng.random(20), 0, 1))
    fields = {
        "names": tuple(f"video {i}" for i in range(n)),
        "labels": (np.arange(n) < n // 2).astype(int),
        "image": np.array([s.max() for s in snippet]),
        "snippet": tuple(snippet),
        "extra": {"top_k": np.zeros(n), "magnitude": tuple(50 * s for s in snippet)},
        "frames": tuple(frames),
        "classes": tuple(f"class {i % kinds}" if i < n // 2 else "" for i in range(n)),
        "frames_per_snippet": 4,
    }
    return Predictions(**{**fields, **changes})


def drawn(png):
    """Width of a figure that is one, with more than a background."""
    image = Image.open(io.BytesIO(png)).convert("L")
    assert len(np.unique(np.asarray(image))) > 10
    return image.width


def test_picks_are_worst_and_best_of_each_class_and_the_highest_normal():
    scored = make(kinds=2)
    area = [figures.within_auc(scored, i) for i in range(20)]
    chosen = figures.pick(scored, limit=8)
    assert len(chosen) == len(set(chosen)) == 8
    for name in ("class 0", "class 1"):
        members = [i for i in range(20) if scored.classes[i] == name]
        assert max(members, key=lambda i: area[i]) in chosen
        assert min(members, key=lambda i: area[i]) in chosen
    normal = sorted(range(10, 20), key=lambda i: -scored.snippet[i].max())
    assert chosen[-2:] == normal[:2]


@pytest.mark.parametrize("limit", [1, 3, 12, 100])
def test_picks_never_exceed_the_limit_nor_the_records(limit):
    for scored in (
        make(),
        make(frames=None, classes=None),
        make(labels=np.zeros(20, int), frames=None),
    ):
        chosen = figures.pick(scored, limit=limit)
        assert len(set(chosen)) == len(chosen) == min(limit, 20)


def test_figures_are_the_same_bytes_each_time():
    scored = make()
    first = [
        figures.score_curve(scored, 0),
        figures.histogram(scored),
        *figures.curves(scored).values(),
    ]
    again = [
        figures.score_curve(scored, 0),
        figures.histogram(scored),
        *figures.curves(scored).values(),
    ]
    assert first == again
    assert all(drawn(png) == 832 for png in first)


def test_true_intervals_are_shaded_only_where_they_are():
    image = Image.open(io.BytesIO(figures.score_curve(make(), 3))).convert("RGB")
    shade = np.asarray(image).astype(int)
    shaded = (shade[..., 0] > 240) & (shade[..., 2] < 200) & (shade[..., 2] > 150)
    columns = np.flatnonzero(shaded.sum(0) > 100)  # Frames 20 to 36 of 78.
    share = (columns.max() - columns.min()) / image.width
    assert 0.5 * 16 / 78 < share < 16 / 78
    quiet = Image.open(io.BytesIO(figures.score_curve(make(), 15))).convert("RGB")
    shade = np.asarray(quiet).astype(int)
    assert (
        not ((shade[..., 0] > 240) & (shade[..., 2] < 200) & (shade[..., 2] > 150)).sum(0).max()
        > 100
    )


def test_undefined_figures_are_left_out():
    normal = make(labels=np.zeros(20, int), frames=None, classes=None)
    assert figures.curves(normal) == {}
    drawn(figures.histogram(normal))
    drawn(figures.score_curve(normal, 0))
    assert figures.histogram(Predictions(("a",), np.array([0]))) is None


def test_equal_scores_and_one_snippet_can_be_drawn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value in (0.0, -3.0, 2e9):
            flat = Predictions(
                ("a", "b"), np.array([0, 1]), np.full(2, value), (np.full(1, value),) * 2,
                frames=(np.zeros(16, np.uint8), np.ones(3, np.uint8)),
            )  # fmt: skip
            drawn(figures.score_curve(flat, 1))
            drawn(figures.histogram(flat))
            assert len(figures.curves(flat)) == 2


def test_training_curves_by_stage():
    found = figures.training(ROWS)
    assert list(found) == [
        "train: training loss",
        "train: validation metrics",
        "$odd_{stage: training loss",
    ]
    for png in found.values():
        drawn(png)
    assert figures.training([]) == {}
