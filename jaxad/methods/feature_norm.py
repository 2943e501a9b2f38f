"""The untrained control of RTFM: how anomalous a snippet is by the norm of its raw features alone.

RTFM learns features whose norm tells anomalous snippets (document 004, section 8.3.1); this method
shows how much of that the extracted features have already. A batch is that of `rtfm`.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import optax

from jaxad import fields
from jaxad.losses import masked, mil
from jaxad.methods import base
from jaxad.methods.rtfm import real_snippets


def build(
    optimizers: Mapping[str, optax.GradientTransformation], *, dtype: Any = "float32", k: int = 3
) -> base.Method:
    """Builds the control: nothing is learnt, the only stage has neither steps nor fits.

    Args:
        optimizers: Unused.
        dtype: Unused, norms are float32.
        k: A video's score is the mean of its k largest norms.

    Raises:
        InputError: `k` is no integer of at least 1.
    """
    del optimizers, dtype
    fields.positive_integer("method.k", k)

    def init(_rng, _batch, _done):
        return base.new_state({})

    def score(_states, batch):
        where = real_snippets(batch)
        features = jnp.where(where[:, None, :, None], batch["features"], 0.0)
        norms = masked.mean(mil.feature_magnitude(features), True, axis=1)  # [B, T]
        return base.Scores(image=mil.top_k_mean(norms, k, where), snippet=norms)

    return base.Method({"train": base.Stage(init, None)}, score)
