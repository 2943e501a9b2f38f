"""Atrous spatial pyramid pooling: convolutions of several dilations beside the image's mean."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxad.models import layers
from jaxad.models.conv_norm import ConvNorm
from jaxad.models.layers import Mode

POOLINGS = ("first", "last")
_RATES = {8: (12, 24, 36), 16: (6, 12, 18), 32: (3, 6, 9)}


def aspp_rates(output_stride: int) -> tuple[int, ...]:
    """Dilations that see the same part of the image at every stride of the map: 6, 12, 18 at 16.

    Args:
        output_stride: Of the map to the image: 8, 16 or 32.

    Returns:
        Rates of the three 3 x 3 convolutions.

    Raises:
        ValueError: Another output stride.

    References:
        Chen et al., Rethinking Atrous Convolution, section 4: twice the rates at stride 8; ours:
        half of them at 32.
    """
    if output_stride not in _RATES:
        raise ValueError(f"output_stride: expected one of {tuple(_RATES)}, got {output_stride}.")
    return _RATES[output_stride]


class ASPP(nn.Module):
    """A 1 x 1 convolution, dilated 3 x 3 ones and the mean of the image, side by side.

    Each is followed by batch norm and ReLU. The mean stands at all places: enlarging a single value
    gives itself with both conventions of corners.

    Attributes:
        features: Channels of each branch.
        rates: Dilations of the 3 x 3 convolutions, see `aspp_rates`.
        pooling: Place of the image's mean: "first" of the concatenation (document 004, the code of
            its networks), or "last" (torchvision's DeepLabV3).
        projection: Channels of a 1 x 1 convolution, batch norm and ReLU behind the concatenation;
            None: there are none.
        kernel_init: Of the convolutions.
    """

    features: int = 256
    rates: tuple[int, ...] = (12, 24, 36)
    pooling: str = "last"
    projection: int | None = None
    kernel_init: Callable = layers.torch_uniform

    @nn.compact
    def __call__(self, inputs: jax.Array, mode: Mode) -> jax.Array:
        """Maps features of an image to features with context.

        Args:
            inputs: `[B, H, W, C]`.
            mode: How the network is applied; nothing here drops.

        Returns:
            `[B, H, W, projection]`, or `[B, H, W, (2 + rates) · features]` without projection, in
            `mode.dtype`.

        Raises:
            ValueError: `pooling` has another value.
        """
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling: expected one of {POOLINGS}, got {self.pooling!r}.")

        def branch(x, name, kernel=1, dilation=1, features=self.features):
            conv = ConvNorm(features, kernel, dilation, kernel_init=self.kernel_init, name=name)
            return conv(x, mode)

        maps = [branch(inputs, "pointwise")]
        for number, rate in enumerate(self.rates, start=1):
            maps.append(branch(inputs, f"dilated{number}", 3, rate))
        # Summed in float32: bfloat16 would lose what thousands of places add.
        mean = jnp.mean(inputs, axis=(1, 2), keepdims=True, dtype=jnp.float32)
        mean = branch(mean.astype(inputs.dtype), "pooled")
        pooled = [jnp.broadcast_to(mean, maps[0].shape)]
        maps = pooled + maps if self.pooling == "first" else maps + pooled
        joined = jnp.concatenate(maps, axis=-1)
        if self.projection is None:
            return joined
        return branch(joined, "projection", features=self.projection)
