"""Convolutional auto-encoder of images: a baseline of anomaly segmentation without classes.

Loss: `losses.reconstruction.squared_error_mean` of normalised images; score of a pixel:
`losses.reconstruction.squared_error_map` times the number of channels, Σ_c (x - x̂)². Document 001,
table 1 ("AE") fixes neither layers nor widths.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxad.models import layers
from jaxad.models.layers import Mode
from jaxad.models.resnet import scaled

_CHANNELS = (32, 64, 128, 256)


def transposed_convolution(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    """The transpose of a 3 x 3 convolution of stride 2 that pads images of even sides by one.

    out[2 i] = in[i] k[1] and out[2 i + 1] = in[i] k[2] + in[i + 1] k[0] along each side, with zeros
    beyond the last input; PyTorch's `output_padding` is 1. All four outputs of an input come from
    one 2 x 2 convolution (sub-pixel form), where a convolution of inputs spread out with zeros
    would multiply more than twice as often.

    Args:
        inputs: `[B, H, W, C]`.
        kernel: `[3, 3, C, F]`.

    Returns:
        `[B, 2 H, 2 W, F]`.
    """
    features = kernel.shape[-1]
    # Taps [input i or i + 1, output 2 i or 2 i + 1] of one side: k[1], k[2]; none, k[0].
    taps = jnp.array([[[0, 1, 0], [0, 0, 1]], [[0, 0, 0], [1, 0, 0]]], kernel.dtype)
    wide = jnp.einsum("ypk,xql,klcf->yxcpqf", taps, taps, kernel, precision="highest")
    outputs = jax.lax.conv_general_dilated(
        inputs,
        wide.reshape(2, 2, -1, 4 * features),
        window_strides=(1, 1),
        padding=((0, 1), (0, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    batch, height, width, _ = outputs.shape
    outputs = outputs.reshape(batch, height, width, 2, 2, features)
    outputs = jnp.moveaxis(outputs, 3, 2)  # [B, H, 2, W, 2, F]
    return outputs.reshape(batch, 2 * height, 2 * width, features)


class TransposedConvolution(nn.Module):
    """`transposed_convolution` with a kernel to learn.

    Attributes:
        features: Channels of the output.
        use_bias: Whether a bias is added.
        dtype: Of the computation; parameters are float32.
    """

    features: int
    use_bias: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps `[B, H, W, C]` to `[B, 2 H, 2 W, features]`."""
        shape = (3, 3, inputs.shape[-1], self.features)
        kernel = self.param("kernel", layers.torch_uniform, shape)
        outputs = transposed_convolution(inputs.astype(self.dtype), kernel.astype(self.dtype))
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
            outputs = outputs + bias.astype(self.dtype)
        return outputs


class SceneAutoencoder(nn.Module):
    """Four 3 x 3 convolutions of stride 2 and their mirror image.

    Batch norm and leaky ReLU 0.01 stand behind every layer but the last, which has a bias instead.
    A convolution maps a side of n to ceil(n / 2); its mirror doubles that and drops the last row or
    column where n is odd, so that images of any size come back at their size.

    Attributes:
        width: Factor of the channels 32, 64, 128 and 256, see `resnet.scaled`.
        axis_name: Named axis of devices over which the batch is sharded.
        dtype: Of the computation; parameters, statistics and reconstructions are float32.
    """

    width: float = 1.0
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, images: jax.Array, where: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """Reconstructs images.

        Args:
            images: Normalised floats `[B, H, W, C]` of any size, else a `ValueError`.
            where: Real rows `[B]`; None: all. The others enter no statistic.
            train: Whether batch norm uses, and keeps, the statistics of this batch.

        Returns:
            Reconstructions `[B, H, W, C]`, at least float32.
        """
        if images.ndim != 4 or 0 in images.shape[1:]:
            raise ValueError(f"images: expected [B, H, W, C], got {images.shape}.")
        mode = Mode(train=train, where=where, axis_name=self.axis_name, dtype=self.dtype)
        channels = [scaled(c, self.width) for c in _CHANNELS]
        x, sizes = images.astype(self.dtype), []
        for i, features in enumerate(channels):
            sizes.append(x.shape[1:3])
            x = layers.conv(features, 3, mode, stride=2, name=f"encode{i}")(x)
            x = layers.leaky_relu(layers.norm(x, mode, name=f"encode{i}_norm"))
        for i in (3, 2, 1, 0):
            features = channels[i - 1] if i else images.shape[-1]
            decode = TransposedConvolution(features, not i, self.dtype, name=f"decode{i}")
            x = decode(x)[:, : sizes[i][0], : sizes[i][1]]
            if i:
                x = layers.leaky_relu(layers.norm(x, mode, name=f"decode{i}_norm"))
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))
