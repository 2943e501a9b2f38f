"""Rows of `jaxad.augment.cutout`."""

import numpy as np

from jaxad.augment import cutout
from tables.row import Row

RNG = np.random.default_rng(0)
IMAGES, KEYS, HOLES = RNG.random((8, 7, 6, 2)), np.arange(8), np.arange(8) % 4
CENTRES = RNG.integers(0, 6, (8, 3, 2))


def row(function, given, *errors, **options):
    given = {**given, "images": IMAGES}
    return Row(
        function,
        given,
        rows=tuple(given),
        options=options,
        bfloat16=0.0,
        float32=0.0,
        errors=[*errors],
    )


ROWS = [
    row(
        cutout.cut_out,
        {"centres": CENTRES, "holes": HOLES},
        ({"centres": CENTRES[..., 0]}, ValueError, r"centres.*\(8, n, 2\).*\(8, 3\)"),
        ({"holes": HOLES[:2]}, ValueError, r"holes.*\(8,\).*\(2,\)"),
        length=3,
    ),
    row(
        cutout.random_cutout,
        {"keys": KEYS, "holes": HOLES},
        ({"length": 6}, ValueError, "length.*less than 6.*6"),
        length=3,
    ),
    row(
        cutout.random_sized_cutout,
        {"keys": KEYS},
        ({"longest": 6}, ValueError, "longest.*less than 6.*6"),
        longest=4,
    ),
]
