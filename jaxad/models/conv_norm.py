"""Convolution, batch norm and activation in a row."""

from collections.abc import Callable

import flax.linen as nn
import jax

from jaxad.models import layers
from jaxad.models.layers import Mode


class ConvNorm(nn.Module):
    """A square convolution without bias, batch norm and an activation.

    Attributes:
        features: Channels of the output.
        kernel: Size of the convolution.
        dilation: Of the convolution.
        activation: Behind the norm.
        kernel_init: Of the convolution.
    """

    features: int
    kernel: int
    dilation: int = 1
    activation: Callable = nn.relu
    kernel_init: Callable = layers.torch_uniform

    @nn.compact
    def __call__(self, inputs: jax.Array, mode: Mode) -> jax.Array:
        """Maps `[B, H, W, C]` to `[B, H, W, features]` in `mode.dtype`."""
        conv = layers.conv(
            self.features,
            self.kernel,
            mode,
            dilation=self.dilation,
            init=self.kernel_init,
            name="conv",
        )
        return self.activation(layers.norm(conv(inputs), mode, name="norm"))
