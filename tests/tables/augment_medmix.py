"""Rows of `jaxad.augment.medmix` and `jaxad.augment.patches`."""

import jax
import numpy as np

from jaxad.augment import medmix, patches
from tables.row import Row

RNG = np.random.default_rng(0)
IMAGES, BANK = RNG.uniform(0.1, 0.9, (8, 9, 8, 3)), RNG.uniform(0.1, 0.9, (5, 9, 8, 3))
KEYS, COUNTS, PLACES = np.arange(8), np.arange(8) % 3, np.arange(8) % 5
SIZES = np.stack([3 + np.arange(8) % 3, 2 + np.arange(8) % 3], 1)
OPTIONS = {"largest": 2, "extent": (0.3, 0.5)}
SHAPES = {"shape": (9, 8, 3), "bank_shape": (5, 9, 8)}
LESIONS = medmix.draw_lesions(jax.vmap(jax.random.key)(KEYS), COUNTS, **SHAPES, **OPTIONS)
LESIONS = jax.tree.map(np.asarray, LESIONS)
PATCHES = RNG.uniform(0.1, 0.9, LESIONS.noise.shape)
SHORT = ({"keys": KEYS[:4]}, ValueError, r"keys.*\(8,\).*\(4,\)|counts.*\(4,\).*\(8,\)")
FEW = ({"counts": COUNTS[:4]}, ValueError, r"counts.*\(8,\).*\(4,\)")
WAVE = {"amplitudes": RNG.random(8), "lengths": RNG.uniform(3, 6, 8), "phases": RNG.random(8)}


def row(function, given, *errors, shared=(), **options):
    rows = tuple(name for name in given if name not in shared)
    options = {"bfloat16": 8e-3, "float32": 4e-6, **options}
    return Row(function, given, rows=rows, errors=[*errors], **options)


def bend(function, **given):
    return row(
        function,
        {"patches": PATCHES[:, 0], "sizes": SIZES, **given},
        ({"sizes": SIZES[:2]}, ValueError, r"sizes.*\(8, 2\).*\(2, 2\)"),
        ({"patches": PATCHES}, ValueError, r"patches.*\[B, H, W, C\]"),
        differentiable=("patches",),
        bad=[{"sizes": np.zeros_like(SIZES)}, {name: np.zeros(8) + 1e-3 for name in given}],
    )


ROWS = [
    bend(patches.fisheye, strengths=RNG.uniform(0.2, 0.6, 8)),
    bend(patches.horizontal_wave, **WAVE),
    row(
        patches.take_patches,
        {"bank": BANK, "sources": PLACES, "corners": SIZES},
        ({"corners": SIZES[:2]}, ValueError, r"corners.*\(8, 2\).*\(2, 2\)"),
        shared=("bank",),
        options={"shape": (3, 4)},
        bfloat16=0.0,
    ),
    row(
        patches.paste_patches,
        {
            "images": IMAGES,
            "patches": PATCHES,
            "corners": LESIONS.corners,
            "sizes": LESIONS.sizes,
        },
        ({"patches": PATCHES[..., :2]}, ValueError, r"patches.*\(8, n, h, w, 3\)"),
        ({"patches": PATCHES.astype(int)}, TypeError, "patches.*float32.*int"),
        bfloat16=0.0,
    ),
    row(
        medmix.deform,
        {"patches": PATCHES, "lesions": LESIONS},
        ({"patches": PATCHES[:2]}, ValueError, r"lesions.noise.*\(2, 2, 4, 4, 3\)"),
    ),
    row(
        medmix.paste_lesions,
        {"images": IMAGES, "bank": BANK, "lesions": LESIONS},
        ({"images": IMAGES[:2]}, ValueError, r"lesions.sources.*\(2, 2\).*\(8, 2\)"),
        ({"bank": BANK[..., :1]}, ValueError, r"bank.*\(5, 9, 8, 3\).*\(5, 9, 8, 1\)"),
        ({"bank": BANK.astype(int)}, TypeError, "bank.*floating"),
        shared=("bank",),
    ),
    row(
        medmix.draw_lesions,
        {"keys": KEYS, "counts": COUNTS, "places": PLACES},
        SHORT,
        FEW,
        ({"extent": (0.5, 1.2)}, ValueError, r"extent.*\(11, 10\).*do not fit.*\(9, 8\)"),
        ({"places": PLACES[:4]}, ValueError, r"places.*\(8,\).*\(4,\)"),
        ({"places": PLACES / 2}, TypeError, "places.*integers.*float32"),
        ({"smallest": 0}, ValueError, "smallest.*at least 1.*0"),
        ({"strength": (0.2, 1.0)}, ValueError, r"strength.*less than 1.*\(0.2, 1.0\)"),
        ({"amplitude": (0.2, 0.1)}, ValueError, r"amplitude.*order.*\(0.2, 0.1\)"),
        ({"length": (0.0, 0.1)}, ValueError, r"length.*\(0.0, 0.1\)"),
        ({"sigma": (-0.1, 0.1)}, ValueError, r"sigma.*from 0.0 on.*\(-0.1, 0.1\)"),
        ({"jitter": (0.4, 0.4)}, ValueError, r"jitter.*4 strengths.*\(0.4, 0.4\)"),
        options={**SHAPES, **OPTIONS},
    ),
    row(
        medmix.random_medmix,
        {"keys": KEYS, "images": IMAGES, "counts": COUNTS, "bank": BANK, "places": PLACES},
        SHORT,
        FEW,
        ({"probability": 2.0}, ValueError, "probability.*2.0"),
        shared=("bank",),
        options=OPTIONS,
    ),
]
