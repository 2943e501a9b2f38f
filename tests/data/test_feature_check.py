import dataclasses

import numpy as np
import pytest

from jaxad.data import digit_reels, feature_check
from jaxad.data.split import Split
from jaxad.errors import InputError


def split_of(arrays, **changes):
    """A split of three snippets per record."""

    def read(i):
        if arrays[i] is None:
            raise InputError("file_1.npy is damaged.")
        return {"features": arrays[i], "label": np.int32(0)}

    given = {"labels": np.zeros(len(arrays), int), "lengths": np.full(len(arrays), 3), **changes}
    return Split(names=[f"v{i}" for i in range(len(arrays))], read=read, fingerprint={}, **given)


GOOD = np.zeros((2, 3, 4), np.float32)


def test_good_splits_are_counted():
    opened = digit_reels.splits(train_reels=2, validation_reels=1, test_reels=1)
    assert [feature_check.verify(split) for split in opened.values()] == [4, 2, 2]


def test_all_faulty_records_are_listed():
    with pytest.raises(InputError, match="2 of 4 records are faulty") as caught:
        feature_check.verify(split_of([GOOD, None, GOOD * np.nan, GOOD]))
    text = str(caught.value)
    assert "v1: file_1.npy is damaged." in text
    assert "v2: holds NaN" in text
    assert "v0" not in text


@pytest.mark.parametrize(
    "array, found",
    [
        (GOOD[0], r"found float32 \(3, 4\)"),
        (GOOD.astype(np.float64), r"found float64 \(2, 3, 4\)"),
        (GOOD[:, :2], "expected 3 snippets, found 2"),
    ],
)
def test_wrong_shapes_are_named(array, found):
    assert list(feature_check.faults(split_of([GOOD]))) == []
    with pytest.raises(InputError, match=f"v0: .*{found}"):
        feature_check.verify(split_of([array]))


def test_wrong_labels_are_named():
    split = dataclasses.replace(split_of([GOOD]), labels=np.ones(1, int))
    with pytest.raises(InputError, match="v0: expected label 1, found 0"):
        feature_check.verify(split)
