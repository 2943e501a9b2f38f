"""Digit reels are a fair test: norms say nothing, a snippet says something, its context more."""

import json
import pickle

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from jaxad.data import digit_reels
from jaxad.errors import InputError

SMALL = {"train_reels": 4, "validation_reels": 3, "test_reels": 5, "snippets": (8, 20)}


@pytest.fixture(scope="module")
def splits():
    return digit_reels.splits()


def frame_auc(reels, scores):
    """ROC AUC over frames of scores per snippet."""
    per_reel = np.split(scores, reels.starts[1:-1])
    frames = [np.repeat(s, 16)[: len(t)] for s, t in zip(per_reel, reels.frames, strict=True)]
    return roc_auc_score(np.concatenate(reels.frames), np.concatenate(frames))


def smoothed(reels, scores, width=5):
    window = np.ones(width)
    return np.concatenate(
        [
            np.convolve(s, window, "same") / np.convolve(np.ones(len(s)), window, "same")
            for s in np.split(scores, reels.starts[1:-1])
        ]
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_context_helps_and_shortcuts_do_not(seed, record_property):
    opened = digit_reels.splits(seed=seed)
    train, test = (digit_reels.reels_of(opened[part]) for part in ("train", "test"))
    probe = LogisticRegression(C=0.1, max_iter=2000)
    probe.fit(train.snippets, train.event_share > 0.5)
    scores = probe.decision_function(test.snippets)
    norm = frame_auc(test, np.linalg.norm(test.snippets, axis=1))
    single, context = frame_auc(test, scores), frame_auc(test, smoothed(test, scores))
    record_property("norm, single, context", (norm, single, context))
    assert 0.4 < norm < 0.6
    assert 0.82 < single < 0.92
    assert context > 0.95


def test_shapes_and_sizes(splits):
    assert {part: len(split) for part, split in splits.items()} == {
        "train": 120,
        "validation": 60,
        "test": 80,
    }
    for part, split in splits.items():
        fixed = part == "train"
        assert np.bincount(split.labels).tolist() == [len(split) // 2] * 2
        assert len(set(split.names)) == len(split)
        assert (split.lengths is None) == fixed
        assert split.time_axes == {"features": 1}
        for i in (0, len(split) - 1):
            record = split.read(i)
            length = 32 if fixed else split.lengths[i]
            assert record["features"].shape == (4, length, 64)
            assert (record["features"].dtype, record["label"].dtype) == (np.float32, np.int32)
            assert record["label"] == split.labels[i]


def test_lengths_vary(splits):
    for part in ("validation", "test"):
        lengths = splits[part].lengths
        assert lengths.min() >= 24
        assert lengths.max() <= 96
        assert len(set(lengths.tolist())) > len(lengths) // 3


def test_truth_is_consistent_and_for_the_test_split_only(splits):
    assert splits["train"].frames is None
    assert splits["validation"].frames is None
    test = splits["test"]
    borders = []
    for frames, length, label in zip(test.frames, test.lengths, test.labels, strict=True):
        assert 16 * (length - 1) < len(frames) <= 16 * length
        edges = np.flatnonzero(np.diff(frames, prepend=0, append=0))
        assert len(edges) == 2 * label  # One run, or none.
        assert frames.sum() <= len(frames) / 3
        borders += edges.tolist()
    assert 0.03 < np.concatenate(test.frames).mean() < 0.12
    assert np.mean(np.array(borders) % 16 == 0) < 0.3
    assert np.mean([len(frames) % 16 == 0 for frames in test.frames]) < 0.3
    assert {c for c in test.classes if c} == {"digit 7", "digit 8", "digit 9"}
    assert [c != "" for c in test.classes] == (test.labels == 1).tolist()


def test_handwriting_of_splits_is_disjoint(splits):
    pools = [set(digit_reels.reels_of(split).images.tolist()) for split in splits.values()]
    assert sum(map(len, pools)) == len(set.union(*pools)) == 1797


def test_seed_determines_everything():
    first, again = (digit_reels.splits(**SMALL, seed=3) for _ in range(2))
    other = digit_reels.splits(**SMALL, seed=4)
    for part in first:
        assert first[part].fingerprint == again[part].fingerprint
        assert first[part].fingerprint != other[part].fingerprint
        one, two = first[part].read(1), again[part].read(1)
        np.testing.assert_array_equal(one["features"], two["features"])
        json.dumps(first[part].fingerprint)
    lists = digit_reels.splits(**{**SMALL, "snippets": [8, 20]}, seed=3)
    assert lists["test"].fingerprint == first["test"].fingerprint


def test_reading_is_picklable_and_repeatable():
    split = digit_reels.splits(**SMALL)["test"]
    copy = pickle.loads(pickle.dumps(split))
    np.testing.assert_array_equal(copy.read(2)["features"], split.read(2)["features"])
    np.testing.assert_array_equal(split.read(2)["features"], split.read(2)["features"])


def test_crops_are_moved_and_noisy_views():
    quiet = digit_reels.splits(**SMALL, crop_noise=0.0)["test"].read(0)["features"]
    images = quiet.reshape(*quiet.shape[:2], 8, 8)
    np.testing.assert_array_equal(images[1, :, :, 1:], images[0, :, :, :-1])  # One pixel right.
    np.testing.assert_array_equal(images[2, :, 1:], images[0, :, :-1])  # One pixel down.
    noisy = digit_reels.splits(**SMALL)["test"].read(0)["features"]
    np.testing.assert_array_equal(noisy[0], quiet[0])
    assert np.std(noisy[1] - quiet[1]) == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize(
    "option",
    [
        {"crops": 0},
        {"crops": 11},
        {"segments": 0},
        {"snippets": (9, 8)},
        {"weight": (0.5, 1.5)},
        {"train_reels": 0},
        {"hidden": 9},
    ],
)
def test_options_out_of_range_are_named(option):
    with pytest.raises(InputError, match=f"Option {next(iter(option))} of digit_reels"):
        digit_reels.splits(**option)
