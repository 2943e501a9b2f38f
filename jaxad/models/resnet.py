"""Dilated residual networks of bottlenecks (ResNet-50, ResNet-101), without their classifier.

The stride sits in the 3 x 3 convolution of a bottleneck. Sources: document 001, section 4 and its
code (github.com/DarioFontanel/PAnS); document 004, section 11.3 and the code of its ResNet-101
(github.com/shjung13/Standardized-max-logits); torchvision for DeepLabV3.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxad.models import layers
from jaxad.models.layers import Mode

DEPTHS_50 = (3, 4, 6, 3)
DEPTHS_101 = (3, 4, 23, 3)
STEMS = ("seven", "deep")
FIRST_DILATIONS = ("own", "previous")
OUTPUT_STRIDES = (8, 16, 32)

_CHANNELS = (256, 512, 1024, 2048)
_EXPANSION = 4


def scaled(channels: int, width: float) -> int:
    """The channels of a narrower or wider network: width · channels, rounded, at least one.

    Args:
        channels: Of the published network.
        width: Factor, above 0.

    Returns:
        The nearest integer (of two equally near ones the even).
    """
    return max(1, round(channels * width))


def stage_strides(output_stride: int) -> tuple[tuple[int, int], ...]:
    """Stride and dilation of the four stages behind the stem.

    Stages that would go beyond the output stride keep their size and widen the dilation instead.

    Args:
        output_stride: Of the last stage to the image: 8, 16 or 32.

    Returns:
        `(stride, dilation)` of each.

    Raises:
        ValueError: Another output stride.
    """
    if output_stride not in OUTPUT_STRIDES:
        raise ValueError(f"output_stride: expected one of {OUTPUT_STRIDES}, got {output_stride}.")
    places, reached, dilation = [(1, 1)], 4, 1  # The stem has stride 4, the first stage none.
    for _ in range(3):
        if reached < output_stride:
            stride, reached = 2, 2 * reached
        else:
            stride, dilation = 1, 2 * dilation
        places.append((stride, dilation))
    return tuple(places)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions, each normalised, beside a shortcut.

    Attributes:
        channels: Of the output.
        inner: Channels of the 3 x 3 convolution.
        mode: How it is applied, without `where`.
        stride: Of the 3 x 3 convolution and of the shortcut.
        dilation: Of the 3 x 3 convolution.
        activation: Behind the first two norms and behind the sum.
        kernel_init: Of the convolutions.
    """

    channels: int
    inner: int
    mode: Mode
    stride: int = 1
    dilation: int = 1
    activation: Callable = nn.relu
    kernel_init: Callable = layers.torch_uniform

    @nn.compact
    def __call__(self, inputs: jax.Array, where: jax.Array | None) -> jax.Array:
        """Maps `[B, H, W, C]` to `[B, H / stride, W / stride, channels]`; `where` are real rows."""
        mode = self.mode._replace(where=where)

        def conv_norm(x, place, features, kernel, **options):
            name = f"conv{place}"
            conv = layers.conv(features, kernel, mode, init=self.kernel_init, name=name, **options)
            return layers.norm(conv(x), mode, name=f"norm{place}")

        x = self.activation(conv_norm(inputs, 1, self.inner, 1))
        x = conv_norm(x, 2, self.inner, 3, stride=self.stride, dilation=self.dilation)
        x = conv_norm(self.activation(x), 3, self.channels, 1)
        shortcut = inputs
        if self.stride != 1 or inputs.shape[-1] != self.channels:
            shortcut = conv_norm(inputs, "_shortcut", self.channels, 1, stride=self.stride)
        return self.activation(x + shortcut)


class ResNet(nn.Module):
    """Stem and four stages of bottlenecks.

    Attributes:
        depths: Bottlenecks of each stage: `DEPTHS_50`, `DEPTHS_101` or other ones.
        width: Factor of all channel counts, see `scaled`.
        output_stride: Of the last stage: 8 and 16 dilate the last two stages or the last one, 32
            dilates none.
        stem: "seven": one 7 x 7 convolution to 64 channels. "deep": three 3 x 3 ones to 64, 64 and
            128. Both have stride 2 and end with a max-pool of stride 2.
        first_dilation: Of the first bottleneck of a dilated stage: "own" is that of its stage,
            "previous" that of the stage before (torchvision).
        activation: Behind norms.
        kernel_init: Of the convolutions.
        remat: Whether bottlenecks are computed again for the gradient: only their outputs are kept
            for it (PSPNet, two crops of 450 x 450 in float32: 1.1 GiB instead of 4.8 GiB). XLA on
            CPU merges both computations again: there is no gain.
        input_channels: Of the images.
    """

    depths: tuple[int, ...] = DEPTHS_50
    width: float = 1.0
    output_stride: int = 8
    stem: str = "seven"
    first_dilation: str = "own"
    activation: Callable = nn.relu
    kernel_init: Callable = layers.torch_uniform
    remat: bool = False
    input_channels: int = 3

    @nn.compact
    def __call__(self, images: jax.Array, mode: Mode) -> tuple[jax.Array, ...]:
        """Maps images to the outputs of stem and stages.

        Args:
            images: Normalised floats `[B, H, W, input_channels]` of any size.
            mode: How the network is applied; nothing here drops.

        Returns:
            Five maps `[B, h, w, c]` in `mode.dtype`, each side divided by its stride, rounded up:
            4, 4, 8, then 8, 16 or 32.

        Raises:
            ValueError: The images have other axes, or an attribute another value.
        """
        self._check(images)
        if mode.where is not None:  # Else what is not finite there would reach the gradients.
            images = jnp.where(mode.where[:, None, None, None], images, 0.0)
        stages = [self._stem(images.astype(mode.dtype), mode)]
        block = nn.remat(Bottleneck) if self.remat else Bottleneck
        before = 1
        places = stage_strides(self.output_stride)
        for stage, (depth, channels, (stride, dilation)) in enumerate(
            zip(self.depths, _CHANNELS, places, strict=True), start=1
        ):
            x = stages[-1]
            first = before if self.first_dilation == "previous" else dilation
            for index in range(depth):
                x = block(
                    channels=scaled(channels, self.width),
                    inner=scaled(channels // _EXPANSION, self.width),
                    mode=mode._replace(where=None),
                    stride=stride if index == 0 else 1,
                    dilation=first if index == 0 else dilation,
                    activation=self.activation,
                    kernel_init=self.kernel_init,
                    name=f"layer{stage}_{index}",
                )(x, mode.where)
            stages.append(x)
            before = dilation
        return tuple(stages)

    def _stem(self, x, mode):
        plans: dict[str, tuple[tuple[int, int, int], ...]] = {
            "seven": ((64, 7, 2),),
            "deep": ((64, 3, 2), (64, 3, 1), (128, 3, 1)),
        }
        for number, (channels, kernel, stride) in enumerate(plans[self.stem], start=1):
            x = layers.conv(
                scaled(channels, self.width),
                kernel,
                mode,
                stride=stride,
                init=self.kernel_init,
                name=f"stem_conv{number}",
            )(x)
            x = self.activation(layers.norm(x, mode, name=f"stem_norm{number}"))
        return layers.max_pool(x)

    def _check(self, images):
        if self.input_channels < 1:
            raise ValueError(f"input_channels: expected at least 1, got {self.input_channels}.")
        if images.ndim != 4 or images.shape[-1] != self.input_channels:
            raise ValueError(
                f"images: expected [B, H, W, {self.input_channels}], got {images.shape}."
            )
        for name, known in (("stem", STEMS), ("first_dilation", FIRST_DILATIONS)):
            value: Any = getattr(self, name)
            if value not in known:
                raise ValueError(f"{name}: expected one of {known}, got {value!r}.")
        if len(self.depths) != 4 or min(self.depths) < 1:
            raise ValueError(f"depths: expected four numbers of at least 1, got {self.depths}.")
