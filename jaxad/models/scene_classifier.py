"""The last layer of segmentation networks: one logit per class and pixel."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxad import cosine
from jaxad.models import layers
from jaxad.models.layers import Mode

CLASSIFIERS = ("cosine", "linear", "linear_without_bias")
# U(-1 / sqrt(D), 1 / sqrt(D)) for prototypes [C, D].
_of_rows = nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform", in_axis=1, out_axis=0)


class Classifier(nn.Module):
    """Logits in float32, whatever the features are computed in.

    Attributes:
        num_classes: C.
        kind: "cosine": tau times the cosines between the features and one prototype per class, in
            [-tau, tau]; a zero feature gives zero logits and no gradient. "linear": a 1 x 1
            convolution with bias, which starts at zero, or "linear_without_bias".
        tau: Scale of the cosines.
        kernel_init: Of the convolution; prototypes are uniform in +-1 / sqrt(D).

    References:
        Document 001, eqs. 2 and 3; tau = 10 from its released code.
    """

    num_classes: int
    kind: str = "linear"
    tau: float = 10.0
    kernel_init: Callable = layers.torch_uniform

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Maps `[B, h, w, D]` to logits `[B, h, w, C]`; another `kind` is a `ValueError`."""
        if self.kind not in CLASSIFIERS:
            raise ValueError(f"classifier: expected one of {CLASSIFIERS}, got {self.kind!r}.")
        features = features.astype(jnp.float32)
        if self.kind == "cosine":
            shape = (self.num_classes, features.shape[-1])
            prototypes = self.param("prototypes", _of_rows, shape)
            return self.tau * cosine.similarities(features, prototypes)
        bias = self.kind == "linear"
        init = self.kernel_init
        return layers.conv(self.num_classes, 1, Mode(), bias=bias, init=init, name="conv")(features)
