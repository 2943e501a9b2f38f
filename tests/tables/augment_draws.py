"""Rows of `jaxad.augment.draws`."""

import numpy as np

from jaxad.augment import draws
from tables.row import Row

HOST = {draws.split: "returns keys, which are no numbers to compare"}
KEYS = {"keys": np.arange(8)}
UNTYPED = ({"keys": None}, TypeError, "missing|keys")


def row(function, *errors, **options):
    return Row(function, KEYS, rows=("keys",), options=options, errors=[*errors, UNTYPED])


ROWS = [
    row(draws.uniform, low=-1.0, high=2.0, shape=(3,)),
    row(draws.integers, low=-1, high=5, shape=(2, 2)),
    row(draws.normal, shape=(3,)),
    row(
        draws.happens,
        ({"probability": 1.5}, ValueError, r"probability.*\[0, 1\].*1.5"),
        probability=0.4,
    ),
    row(draws.orders, ({"count": 0}, ValueError, "count.*at least 1.*0"), count=5),
]
