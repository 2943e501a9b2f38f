import dataclasses

import numpy as np
import pytest

from jaxad.data.split import Split
from jaxad.errors import InputError
from jaxad.evaluation import predictions
from jaxad.evaluation.predictions import Predictions

LENGTHS = (3, 1, 4, 2, 5)
RNG = np.random.default_rng(0)
SNIPPET = tuple(RNG.random(length, np.float32) for length in LENGTHS)
MAGNITUDE = tuple(10 * RNG.random(length, np.float32) for length in LENGTHS)
IMAGE = RNG.random(5, np.float32)
TOP = 7 * RNG.random(5, np.float32)


def make_split(**changes):
    frames = [
        np.zeros(4 * length - 1, np.uint8) for length in LENGTHS
    ]  # The last snippet is short.
    frames[0][2:6] = 1
    split = Split(
        names=["a", "b", "ç/é", "d", "e"],
        labels=np.array([1, 0, 0, 1, 0]),
        read=lambda i: {},
        fingerprint={},
        classes=["fight", "", "", "fire", ""],
        frames=frames,
        frames_per_snippet=4,
    )
    return dataclasses.replace(split, **changes)


def rows(order, *, batch_size=2, padding=np.nan):
    """Batches of records in an order, rows and time padded with what must never be read."""
    time = max(LENGTHS) + 1
    for start in range(0, len(order), batch_size):
        own = list(order[start : start + batch_size])
        batch = {
            "index": np.full(batch_size, -1, np.int32),
            "valid": np.arange(batch_size) < len(own),
            "length": np.zeros(batch_size, np.int32),
            "image": np.full(batch_size, padding, np.float32),
            "snippet": np.full((batch_size, time), padding, np.float32),
            "top": np.full(batch_size, padding, np.float32),
            "magnitude": np.full((batch_size, time), padding, np.float32),
        }
        for row, i in enumerate(own):
            batch["index"][row], batch["length"][row] = i, LENGTHS[i]
            batch["image"][row], batch["top"][row] = IMAGE[i], TOP[i]
            batch["snippet"][row, : LENGTHS[i]] = SNIPPET[i]
            batch["magnitude"][row, : LENGTHS[i]] = MAGNITUDE[i]
        yield batch


def assert_same(actual, expected):
    for field in dataclasses.fields(Predictions):
        a, b = getattr(actual, field.name), getattr(expected, field.name)
        assert type(a) is type(b), field.name
        if field.name == "extra":
            assert list(a) == list(b)
            pairs = [(a[name], b[name]) for name in a]
        else:
            pairs = [(a, b)]
        for x, y in pairs:
            for u, v in zip(x, y, strict=True) if isinstance(x, tuple) else [(x, y)]:
                np.testing.assert_array_equal(u, v, err_msg=field.name, strict=True)


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 2, 0, 3, 1)])
@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
def test_rows_in_any_order_and_batching_give_the_split_order(order, batch_size):
    split = make_split()
    expected = Predictions(
        names=("a", "b", "ç/é", "d", "e"),
        labels=np.array([1, 0, 0, 1, 0]),
        image=IMAGE,
        snippet=SNIPPET,
        extra={"top": TOP, "magnitude": MAGNITUDE},
        frames=tuple(split.frames),
        classes=("fight", "", "", "fire", ""),
        frames_per_snippet=4,
    )
    assert_same(predictions.from_rows(split, rows(order, batch_size=batch_size)), expected)


def test_rows_without_length_are_whole():
    batch = {"index": [1, 0], "valid": [1, 1], "snippet": [[0.1, 0.2], [0.3, 0.4]]}
    split = make_split(names=["a", "b"], labels=np.array([1, 0]), classes=None, frames=None)
    found = predictions.from_rows(split, [{k: np.array(v) for k, v in batch.items()}])
    np.testing.assert_array_equal(found.snippet, [[0.3, 0.4], [0.1, 0.2]])
    assert found.image is None
    assert found.frames is None
    assert found.extra == {}


def test_low_precision_scores_become_float32():
    batch = {"index": np.array([0]), "valid": np.array([1]), "image": np.array([0.5], np.float16)}
    split = make_split(names=["a"], labels=np.array([1]), classes=None, frames=None)
    assert predictions.from_rows(split, [batch]).image.dtype == np.float32


def test_record_scored_twice_is_named():
    with pytest.raises(ValueError, match=r"ç/é \(record 2\) was scored twice"):
        predictions.from_rows(make_split(), rows((0, 1, 2, 3, 4, 2)))


def test_missing_records_are_named():
    with pytest.raises(ValueError, match="2 of 5 records have no scores: a, d"):
        predictions.from_rows(make_split(), rows((4, 2, 1)))


def test_index_outside_the_split():
    batch = {"index": np.array([7]), "valid": np.array([1]), "image": np.array([0.5])}
    with pytest.raises(ValueError, match="record 7 of a split of 5"):
        predictions.from_rows(make_split(), [batch])


def test_batches_with_other_scores_are_refused():
    batches = list(rows(range(5)))
    del batches[1]["top"]
    with pytest.raises(ValueError, match=r"ç/é was scored with .*, others with .*top"):
        predictions.from_rows(make_split(), batches)


def test_shapes_of_other_batches_are_refused():
    batches = list(rows(range(5)))
    batches[0]["top"] = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"snippets; expected \[B\] or \[B, T\]"):
        predictions.from_rows(make_split(), batches)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_name_the_record(bad):
    batches = list(rows(range(5)))
    batches[1]["snippet"][0, 3] = bad
    with pytest.raises(InputError, match=rf"ç/é: its snippet value is {bad} at snippet 3 of 4"):
        predictions.from_rows(make_split(), batches)
    batches = list(rows(range(5)))
    batches[0]["image"][1] = bad
    with pytest.raises(InputError, match=rf"b: its image value is {bad};"):
        predictions.from_rows(make_split(), batches)


@pytest.mark.parametrize("frames", [12, 17])
def test_truth_that_does_not_fit_the_snippets_names_the_record(frames):
    truth = make_split().frames
    truth[2] = np.zeros(frames, np.uint8)
    with pytest.raises(InputError, match=f"ç/é: {frames} frames of truth for 4 .* 13 to 16"):
        predictions.from_rows(make_split(frames=truth), rows(range(5)))


def test_truth_and_labels_are_binary():
    with pytest.raises(InputError, match="b: its label is 2"):
        Predictions(("a", "b"), np.array([0, 2]))
    with pytest.raises(InputError, match="a: its frame truth"):
        Predictions(("a",), np.array([0]), frames=(np.array([0, 2], np.uint8),))


def test_numbers_of_entries_must_agree():
    with pytest.raises(ValueError, match="image has 3 entries for 2 records"):
        Predictions(("a", "b"), np.array([0, 1]), image=np.zeros(3))
    with pytest.raises(ValueError, match=r"a: numbers of snippets differ: .*2.*3"):
        Predictions(("a",), np.array([0]), snippet=(np.zeros(2),), extra={"norm": (np.zeros(3),)})


@pytest.mark.parametrize("bare", [False, True])
def test_round_trip(tmp_path, bare):
    split = make_split(frames=None, classes=None) if bare else make_split()
    batches = [
        {k: v for k, v in batch.items() if not bare or k in ("index", "valid", "image")}
        for batch in rows(range(5))
    ]
    expected = predictions.from_rows(split, batches)
    expected.save(tmp_path / "test.npz")
    with np.load(tmp_path / "test.npz", allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)
    assert_same(predictions.load(tmp_path / "test.npz"), expected)


def test_the_same_scores_are_the_same_bytes(tmp_path):
    for name, order in (("a", (0, 1, 2, 3, 4)), ("b", (3, 1, 4, 0, 2))):
        predictions.from_rows(make_split(), rows(order)).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    def fail(file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    path = tmp_path / "test.npz"
    path.write_bytes(b"old")
    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(InputError, match=r"test\.npz.*No space"):
        predictions.from_rows(make_split(), rows(range(5))).save(path)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_unreadable_files_are_named(tmp_path):
    path = tmp_path / "scores.npz"
    with pytest.raises(InputError, match=r"scores\.npz does not exist"):
        predictions.load(path)
    path.write_bytes(b"no zip")
    with pytest.raises(InputError, match=r"scores\.npz cannot be read"):
        predictions.load(path)
    np.savez(path, other=np.zeros(3))
    with pytest.raises(InputError, match=r"scores\.npz cannot be read.*format"):
        predictions.load(path)
    predictions.from_rows(make_split(), rows(range(5))).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"scores\.npz cannot be read"):
        predictions.load(path)
