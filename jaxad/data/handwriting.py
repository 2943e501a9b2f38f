"""scikit-learn's 1,797 handwritten digits, 8×8, shared out to the splits of a source."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits

SIDE = 8


class Handwriting(NamedTuple):
    """Digits of one split.

    Attributes:
        ink: By digit 0 … 9, float64 `[m, 64]` in [0, 1], 0 is paper.
        positions: By digit, int64 `[m]`, where in `load_digits` these images are.
    """

    ink: tuple[np.ndarray, ...]
    positions: tuple[np.ndarray, ...]


def disjoint(shares: Sequence[float], seed: int) -> list[Handwriting]:
    """Shares out the images, so that no two splits have one in common.

    Args:
        shares: Per split, share of each digit's images; they add up to 1.
        seed: Of the order in which they are dealt.

    Returns:
        The images of each split.
    """
    data = load_digits()
    rng = np.random.default_rng([seed, len(shares)])
    parts = [([], []) for _ in shares]
    for digit in range(10):
        members = rng.permutation(np.flatnonzero(data.target == digit))
        cuts = np.round(np.cumsum(shares)[:-1] * len(members)).astype(int)
        for (ink, positions), chosen in zip(parts, np.split(members, cuts), strict=True):
            ink.append(data.data[chosen] / 16)
            positions.append(chosen)
    return [Handwriting(tuple(ink), tuple(positions)) for ink, positions in parts]
