"""Rows of `jaxad.losses.relations`."""

import numpy as np

from jaxad.losses import relations
from tables.row import Row

IDS = {  # Two images under two strong augmentations in two views.
    "image_id": np.repeat([7, 3], 4),
    "strong_id": np.tile([0, 0, 1, 1], 2),
    "view_id": np.tile([0, 1], 4),
    "valid": np.array([1, 1, 1, 1, 1, 1, 1, 0], bool),
}
ERRORS = [
    ({"image_id": np.zeros((4, 2), int)}, ValueError, r"image_id.*\[R\].*\(4, 2\)"),
    ({"strong_id": np.zeros(4, int)}, ValueError, r"strong_id.*\(8,\).*\(4,\)"),
    ({"view_id": np.zeros(4, int)}, ValueError, r"view_id.*\(8,\).*\(4,\)"),
    ({"valid": np.ones(4, bool)}, ValueError, r"valid.*\(8,\).*\(4,\)"),
]
RELATION = relations.Relation(
    np.random.default_rng(0).random((8, 8)) < 0.2,
    np.random.default_rng(1).random((8, 8)) < 0.6,
    np.arange(8) % 3 > 0,
)

ROWS = [
    *(
        Row(function, IDS, rows=tuple(IDS), coupled=True, errors=ERRORS)
        for function in (
            relations.all_other_rows,
            relations.same_strong_other_view,
            relations.same_strong_both_views,
            relations.other_images,
        )
    ),
    Row(
        relations.same_label_rows,
        {"labels": np.array([0, 1, 2, 0, 1, 0, 0, 0]), "valid": IDS["valid"]},
        rows=("labels", "valid"),
        coupled=True,
        errors=[
            ({"labels": np.zeros((4, 2), int)}, ValueError, r"labels.*\[R\].*\(4, 2\)"),
            ERRORS[-1],
        ],
    ),
    Row(
        relations.first_view_anchors,
        {"relation": RELATION, "view_id": IDS["view_id"]},
        rows=("relation", "view_id"),
        errors=[ERRORS[2]],
    ),
]
