"""Rows of `jaxad.losses.reweighting`."""

import jax.numpy as jnp
import numpy as np

from jaxad.losses import focal, reweighting
from tables.row import Row

RNG = np.random.default_rng(0)


def logistic(params, rows):
    logits = jnp.sum(rows["x"].astype(params["w"].dtype) * params["w"], axis=-1) + params["b"]
    return focal.weighted_cross_entropy(logits, rows["y"])


ROWS = [
    Row(
        reweighting.gradient_alignment,
        {
            "params": {"w": RNG.normal(size=3), "b": np.array(0.5)},
            "rows": {"x": RNG.normal(size=(8, 3)), "y": np.arange(8) % 3 // 2},
            "direction": {"w": RNG.normal(size=3), "b": np.array(-0.25)},
        },
        rows=("rows",),
        options={"losses": logistic},
        errors=[
            ({"direction": {"w": np.ones(3)}}, ValueError, "direction: expected the tree"),
            (
                {"direction": {"w": np.ones(4), "b": np.array(1.0)}},
                ValueError,
                r"direction: .*\(3,\).*\(4,\)",
            ),
        ],
        bfloat16=2e-6,
        float32=2e-6,
    ),
    Row(
        reweighting.weights_from_alignment,
        {
            "alignment": np.where(np.arange(8) == 2, np.nan, RNG.normal(size=8)),
            "valid": np.arange(8) % 4 != 2,
        },
        rows=("alignment", "valid"),
        coupled=True,
        errors=[
            ({"valid": np.ones(7, bool)}, ValueError, r"valid.*\(8,\).*\(7,\)"),
            ({"alignment": np.ones(8, int)}, TypeError, "alignment: expected a floating-point"),
        ],
        bfloat16=1e-6,
        float32=1e-6,
    ),
]
