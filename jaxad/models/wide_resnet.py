"""WideResNet-38 (A2): a dilated trunk of pre-activation blocks.

Source: Wu et al., Wider or Deeper, https://arxiv.org/abs/1611.10080, model A2, as the code released
with PEBAL has it (github.com/tianyu0207/PEBAL, `code/model/wider_resnet.py`).
"""

from collections.abc import Sequence

import flax.linen as nn
import jax

from jaxad.models.layers import Mode, conv, drop_channels, max_pool, norm
from jaxad.models.resnet import scaled

WRN38 = (3, 3, 6, 3, 1, 1)
OUTPUT_STRIDES = (8, 16, 32)
_MODULES = ("mod2", "mod3", "mod4", "mod5", "mod6", "mod7")
_STEM = 64
_CHANNELS = {
    "mod2": (128, 128),
    "mod3": (256, 256),
    "mod4": (512, 512),
    "mod5": (512, 1024),
    "mod6": (512, 1024, 2048),
    "mod7": (1024, 2048, 4096),
}
_POOLED = ("mod2", "mod3")  # These halve their input before the first block,
_STRIDED = ("mod4", "mod5", "mod6")  # these in it, up to the output stride.
_DROPOUT = {"mod6": 0.3, "mod7": 0.5}


class PreActivationBlock(nn.Module):
    """norm, ReLU, then convolutions beside a shortcut; nothing behind their sum.

    Attributes:
        channels: Of two convolutions 3 x 3, or of a bottleneck 1 x 1, 3 x 3, 1 x 1.
        mode: How it is applied, without `where`.
        stride: Of the first convolution.
        dilation: Of the convolutions 3 x 3.
        dropout: Share of the channels in front of a bottleneck's last convolution that are dropped.
            The released code, whose order this is, drops behind the norm, so that statistics are
            those of all channels.
    """

    channels: Sequence[int]
    mode: Mode
    stride: int = 1
    dilation: int = 1
    dropout: float = 0.0

    @nn.compact
    def __call__(self, inputs: jax.Array, where: jax.Array | None) -> jax.Array:
        """Maps `[B, H, W, C]` to `[B, H / stride, W / stride, channels[-1]]`."""
        mode = self.mode._replace(where=where)
        kernels = (3, 3) if len(self.channels) == 2 else (1, 3, 1)
        active = nn.relu(norm(inputs, mode, name="norm1"))
        shortcut = inputs
        if self.stride != 1 or inputs.shape[-1] != self.channels[-1]:
            project = conv(self.channels[-1], 1, mode, stride=self.stride, name="projection")
            shortcut = project(active)
        outputs = active
        for i, (features, kernel) in enumerate(zip(self.channels, kernels, strict=True)):
            if i > 0:
                outputs = nn.relu(norm(outputs, mode, name=f"norm{i + 1}"))
            if i == 2 and self.dropout > 0.0:
                outputs = drop_channels(outputs, self.dropout, mode, name="dropout")
            outputs = conv(
                features,
                kernel,
                mode,
                stride=self.stride if i == 0 else 1,
                dilation=self.dilation if kernel > 1 else 1,
                name=f"conv{i + 1}",
            )(outputs)
        return outputs + shortcut


class WideResNet(nn.Module):
    """A convolution and six modules of pre-activation blocks.

    Where a module would pass the output stride, it keeps the size of its input, and it and those
    behind it are dilated instead. Initialised as PyTorch initialises convolutions.

    Attributes:
        width: Factor of every number of channels.
        structure: Blocks of `mod2` to `mod7`.
        output_stride: One of `OUTPUT_STRIDES`; published trunks of segmentation have 8.
        remat: Whether a block is computed again for its gradient instead of being kept.
    """

    width: float = 1.0
    structure: Sequence[int] = WRN38
    output_stride: int = 8
    remat: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, mode: Mode) -> dict[str, jax.Array]:
        """Maps images to the outputs of the modules.

        Args:
            images: Normalised floats `[B, H, W, 3]` of any size.
            mode: How the network is applied.

        Returns:
            Maps `[B, h, w, c]` by the names `mod2` to `mod7`, each side divided by the stride and
            rounded up: 2, 4, 8, then at most `output_stride`.

        Raises:
            ValueError: The images have other axes, or an attribute another value.
        """
        self._check(images)
        make = nn.remat(PreActivationBlock) if self.remat else PreActivationBlock
        maps = {}
        x = conv(scaled(_STEM, self.width), 3, mode, name="mod1")(images)
        stride, dilation = 1, 1
        for name, blocks in zip(_MODULES, self.structure, strict=True):
            first = 1
            if name in _POOLED:
                x, stride = max_pool(x), 2 * stride
            elif name in _STRIDED and stride < self.output_stride:
                first, stride = 2, 2 * stride
            elif name in _STRIDED:
                dilation *= 2
            for i in range(blocks):
                block = make(
                    tuple(scaled(c, self.width) for c in _CHANNELS[name]),
                    mode._replace(where=None),
                    stride=first if i == 0 else 1,
                    dilation=dilation,
                    dropout=_DROPOUT.get(name, 0.0),
                    name=f"{name}_block{i + 1}",
                )
                x = block(x, mode.where)
            maps[name] = x
        return maps

    def _check(self, images):
        if images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"images: expected [B, H, W, 3], got {images.shape}.")
        if len(self.structure) != len(_MODULES) or min(self.structure) < 1:
            raise ValueError(
                f"structure: expected {len(_MODULES)} numbers of blocks, each at least 1, got "
                f"{tuple(self.structure)}."
            )
        if self.output_stride not in OUTPUT_STRIDES:
            raise ValueError(
                f"output_stride: expected one of {OUTPUT_STRIDES}, got {self.output_stride}."
            )
        if not self.width > 0.0:
            raise ValueError(f"width: expected a number above 0, got {self.width}.")
