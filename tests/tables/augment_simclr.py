"""Rows of `jaxad.augment.simclr` and `jaxad.augment.multi_crop`."""

import jax
import numpy as np

from jaxad.augment import multi_crop, simclr
from tables.row import Row

IMAGES, KEYS = np.random.default_rng(0).uniform(0.1, 0.9, (8, 6, 7, 3)), np.arange(8)
VIEW = simclr.draw_view(jax.vmap(jax.random.key)(KEYS), shape=(6, 7), solarize=0.3)
VIEW = jax.tree.map(np.asarray, VIEW)
SHORT = ({"keys": KEYS[:4]}, ValueError, r"keys.*\(8,\).*\(4,\)")
TWO = ({"images": IMAGES[..., :2]}, ValueError, r"images.*1 or 3 channels.*\(8, 6, 7, 2\)")
CHANCE = ({"grey": 1.5}, ValueError, r"grey.*\[0, 1\].*1.5")


def row(function, given, *errors, **options):
    given = {**given, "images": IMAGES}
    return Row(
        function,
        given,
        rows=tuple(given),
        bfloat16=2e-2,  # Five operations, each of which rounds.
        float32=2e-6,
        errors=[*errors],
        options=options,
    )


ROWS = [
    Row(
        simclr.draw_view,
        {"keys": KEYS},
        rows=("keys",),
        options={"shape": (6, 7)},
        errors=[CHANCE, ({"sigma": (-1.0, 1.0)}, ValueError, "sigma.*from 0.0 on")],
    ),
    row(
        simclr.apply_view,
        {"view": VIEW},
        TWO,
        ({"kernel_size": 2}, ValueError, "kernel_size.*odd.*2"),
        size=(5, 4),
        kernel_size=3,
    ),
    row(simclr.random_view, {"keys": KEYS}, SHORT, CHANCE, kernel_size=3),
    row(
        simclr.random_views,
        {"keys": KEYS},
        SHORT,
        ({"views": 0}, ValueError, "count.*at least 1.*0"),
        size=(4, 4),
    ),
    row(
        multi_crop.random_crops,
        {"keys": KEYS},
        SHORT,
        ({"global_blur": (1.0,)}, ValueError, "global_solarize.*one probability per global view"),
        ({"local_blur": 1.5}, ValueError, "local_blur.*1.5"),
        global_size=(6, 6),
        local_size=(4, 4),
        local_views=2,
        kernel_size=3,
    ),
]
