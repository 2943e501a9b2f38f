"""Heads on the output of an encoder: embeddings with class prototypes, and FCDD's one channel.

Source: document 000, section 3 (prototypes) and 2.2 (FCDD).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxad.models import layers

_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "identity": lambda x: x,
    "leaky_relu": layers.leaky_relu,
    "tanh": jnp.tanh,
}
ACTIVATIONS = tuple(_ACTIVATIONS)


class Embedded(NamedTuple):
    """What `PrototypeHead` returns.

    Attributes:
        features: Embeddings r of pixels, `[B, h, w, N]`, in the type of the computation.
        prototypes: mu, `[K, N]`, float32.
        log_variances: Logarithms of the diagonals of the covariances, `[K, N]`, float32.
    """

    features: jax.Array
    prototypes: jax.Array
    log_variances: jax.Array


class PrototypeHead(nn.Module):
    """A 1 x 1 convolution with an activation, and one prototype with diagonal covariance per class.

    Prototypes start from N(0, I) (section 4.1.2), variances from 1.

    Attributes:
        num_classes: K.
        features: N, 256 in the document.
        activation: One of `ACTIVATIONS`; the document says "an activation function".
        dtype: Of the convolution; parameters are float32.
    """

    num_classes: int
    features: int = 256
    activation: str = "relu"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, maps: jax.Array) -> Embedded:
        """Embeds the output of an encoder, `[B, h, w, c]`.

        Raises:
            ValueError: The activation is unknown.
        """
        if self.activation not in _ACTIVATIONS:
            raise ValueError(f"activation: expected one of {ACTIVATIONS}, got {self.activation!r}.")
        shape = (self.num_classes, self.features)
        prototypes = self.param("prototypes", nn.initializers.normal(1.0), shape)
        log_variances = self.param("log_variances", nn.initializers.zeros_init(), shape)
        project = nn.Conv(
            self.features, (1, 1), kernel_init=layers.he_normal, dtype=self.dtype, name="project"
        )
        return Embedded(_ACTIVATIONS[self.activation](project(maps)), prototypes, log_variances)


class OneChannel(nn.Module):
    """A linear 1 x 1 convolution to one channel: e(x) of FCDD (document 000, section 2.2).

    Attributes:
        dtype: Of the convolution; parameters are float32.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, maps: jax.Array) -> jax.Array:
        """Maps `[B, h, w, c]` to `[B, h, w]`, float32."""
        outputs = nn.Conv(1, (1, 1), dtype=self.dtype, name="project")(maps)
        return outputs[..., 0].astype(jnp.float32)
