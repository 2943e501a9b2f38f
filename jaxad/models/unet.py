"""U-Net with zero padding, so that maps keep the size of the image.

Source: Ronneberger et al., U-Net: Convolutional Networks for Biomedical Image Segmentation; choices
where that leaves them open: specification of document 000 (auxiliary prototypes), section 1.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxad.models import layers
from jaxad.models.example_dropout import ExampleDropout
from jaxad.models.layers import Mode
from jaxad.models.resnet import scaled
from jaxad.models.scene_classifier import Classifier
from jaxad.models.scene_maps import SceneMaps

NORMS = ("none", "batch", "group")

_CHANNELS = 64  # Of the first level; each level below has twice as many.

# Kernels of convolutions and of transposed ones. Each output of the latter reads a single tap of
# each channel and no ReLU follows: fan-in C and gain 1 keep the scale. PyTorch counts 4 F instead.
_INITIALISATIONS: dict[str, tuple[Callable, Callable]] = {
    "he_normal": (
        layers.he_normal,
        nn.initializers.variance_scaling(1.0, "fan_in", "normal", batch_axis=(0, 1)),
    ),
    "torch_uniform": (
        layers.torch_uniform,
        nn.initializers.variance_scaling(1.0 / 3.0, "fan_out", "uniform"),
    ),
}
INITIALISATIONS = tuple(_INITIALISATIONS)


def transposed_convolution(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    """The transpose of a 2 x 2 convolution of stride 2: `out[2 i + p] = in[i] k[p]` on each side.

    No two inputs meet in an output, so that this is one matrix product whose outputs are laid side
    by side (sub-pixel form); a convolution of inputs spread out with zeros multiplies four times as
    often.

    Args:
        inputs: `[B, H, W, C]`.
        kernel: `[2, 2, C, F]`.

    Returns:
        `[B, 2 H, 2 W, F]`.
    """
    batch, height, width, _ = inputs.shape
    outputs = jnp.einsum("bhwc,pqcf->bhpwqf", inputs, kernel)
    return outputs.reshape(batch, 2 * height, 2 * width, kernel.shape[-1])


def max_pool(inputs: jax.Array) -> jax.Array:
    """The largest of 2 x 2 at stride 2, `[B, H, W, C]` to `[B, H / 2, W / 2, C]`; even sides only.

    Of equal ones the first is chosen; a NaN stays. Written as choices between halves: XLA's pooling
    scatters its gradient (8 x 112 x 112 x 64 on 2 CPU cores: 170 ms, against 60 ms).
    """
    batch, height, width, channels = inputs.shape
    x = inputs.reshape(batch, height // 2, 2, width // 2, 2, channels)
    x = _larger(x[:, :, 0], x[:, :, 1])
    return _larger(x[:, :, :, 0], x[:, :, :, 1])


def _larger(first, second):
    # Not `jnp.maximum`: its gradient asks which of both *equals* the result. Where XLA computes
    # them anew, fused and so rounded otherwise, neither does, and the gradient is lost: half of it
    # was, behind batch norm on CPU. Of a condition and its negation one holds, however rounded.
    return jnp.where((first >= second) | jnp.isnan(first), first, second)


class TransposedConvolution(nn.Module):
    """`transposed_convolution` with a kernel and a bias to learn.

    Attributes:
        features: Channels of the output.
        kernel_init: Of the kernel.
        dtype: Of the computation; parameters are float32.
    """

    features: int
    kernel_init: Callable
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps `[B, H, W, C]` to `[B, 2 H, 2 W, features]`."""
        shape = (2, 2, inputs.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        outputs = transposed_convolution(inputs.astype(self.dtype), kernel.astype(self.dtype))
        return outputs + bias.astype(self.dtype)


class DoubleConvolution(nn.Module):
    """Two 3 x 3 convolutions, each normalised and rectified.

    Attributes:
        features: Channels of both.
        norm: One of `NORMS`; only without a norm do convolutions have a bias.
        groups: Of group norm.
        kernel_init: Of the convolutions.
    """

    features: int
    norm: str
    groups: int
    kernel_init: Callable

    @nn.compact
    def __call__(self, inputs: jax.Array, where: jax.Array | None, mode: Mode) -> jax.Array:
        """Maps `[B, H, W, C]` to `[B, H, W, features]`.

        Args:
            inputs: Of any type.
            where: Real rows `[B]`; None: all.
            mode: How it is applied, without `where`: static where blocks are computed again.

        Returns:
            In `mode.dtype`.
        """
        x, mode = inputs, mode._replace(where=where)
        for i in (1, 2):
            bias = self.norm == "none"
            conv = layers.conv(
                self.features, 3, mode, bias=bias, init=self.kernel_init, name=f"conv{i}"
            )
            x = nn.relu(self._normalised(conv(x), mode, f"norm{i}"))
        return x

    def _normalised(self, x, mode, name):
        if self.norm == "batch":
            return layers.norm(x, mode, name=name)
        if self.norm == "group":  # Variances from differences keep their digits at a large mean.
            return nn.GroupNorm(
                self.groups, epsilon=1e-5, use_fast_variance=False, dtype=mode.dtype, name=name
            )(x)
        return x


class UpwardBlock(nn.Module):
    """Doubles the sides of a map, joins the encoder's map of that size, and convolves twice.

    Attributes:
        features: Channels of the output.
        norm: As for `DoubleConvolution`.
        groups: Of group norm.
        kernel_init: Of the convolutions.
        up_init: Of the transposed convolution.
    """

    features: int
    norm: str
    groups: int
    kernel_init: Callable
    up_init: Callable

    @nn.compact
    def __call__(
        self, deep: jax.Array, skip: jax.Array, where: jax.Array | None, mode: Mode
    ) -> jax.Array:
        """Maps `[B, h, w, C]` and `[B, 2 h, 2 w, D]` to `[B, 2 h, 2 w, features]`.

        Args:
            deep: Output of the level below.
            skip: The encoder's map, first among the joined channels.
            where: Real rows `[B]`; None: all.
            mode: As for `DoubleConvolution`.

        Returns:
            In `mode.dtype`.
        """
        up = TransposedConvolution(self.features, self.up_init, mode.dtype, name="up")(deep)
        joined = jnp.concatenate([skip, up], axis=-1)
        convolutions = DoubleConvolution(
            self.features, self.norm, self.groups, self.kernel_init, name="convs"
        )
        return convolutions(joined, where, mode)


class UNetTrunk(NamedTuple):
    """What the last block of a U-Net reads.

    Attributes:
        deep: Output of the decoder's last level but one, or of the encoder, `[B, H/2, W/2, 2 D]`.
        skip: Output of the encoder's first level, `[B, H, W, D]`.
        encoder: Output of the encoder.
        auxiliary: None: there is no deep supervision.
    """

    deep: jax.Array
    skip: jax.Array
    encoder: jax.Array
    auxiliary: jax.Array | None = None


class UNet(nn.Module):
    """Segmentation by an encoder, a decoder and a skip connection on each level.

    At full width, with 1 input channel and 4 classes, it has 31,030,788 parameters without a norm
    and 31,036,676 with one. `encoder` of its maps is what the bottleneck gives: 1024 channels at
    stride 16.

    Attributes:
        num_classes: C.
        width: Factor of the channels 64, 128, 256, 512 and 1024, see `resnet.scaled`.
        levels: How often the encoder halves the sides; 4 as published. The channels double as
            often.
        norm: "batch", "group" or "none". The original has none; deep networks of this kind are
            commonly trained with one.
        groups: Of group norm, a divisor of all channel counts. No group may be a single value: it
            is normalised to 0.
        initialisation: Of convolutions. "he_normal", as published: normal of variance 2 / fan-in.
            "torch_uniform": PyTorch's default, behind which each ReLU leaves a sixth of the power:
            without a norm the bottleneck's output is of size 1e-4.
        classifier: Last layer, see `Classifier`.
        tau: Scale of the cosines of the classifier "cosine".
        dropout_rate: Of single entries, behind the two deepest levels of the encoder (skip
            connection and `encoder` included) and behind the deepest of the decoder; 0.5 for
            Monte Carlo dropout (specification, section 6).
        remat: Whether blocks are computed again for the gradient: only their inputs are kept.
        axis_name: Named axis of devices over which the batch is sharded.
        dtype: Of the computation; parameters, statistics and logits are float32.
    """

    num_classes: int = 4
    width: float = 1.0
    levels: int = 4
    norm: str = "batch"
    groups: int = 32
    initialisation: str = "he_normal"
    classifier: str = "linear"
    tau: float = 10.0
    dropout_rate: float = 0.0
    remat: bool = False
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    align_corners: ClassVar[bool] = False  # Logits have the size of the image.
    head_modules: ClassVar[tuple[str, ...]] = ("decode_0", "classify")

    def setup(self):
        self._check()
        channels = self._channels()
        init, up_init = _INITIALISATIONS[self.initialisation]
        down, up = DoubleConvolution, UpwardBlock
        if self.remat:  # Their last argument is the mode.
            down, up = nn.remat(down, static_argnums=(3,)), nn.remat(up, static_argnums=(4,))
        of = {"norm": self.norm, "groups": self.groups, "kernel_init": init}
        self.encode = [down(c, **of) for c in channels]
        self.decode = [up(c, up_init=up_init, **of) for c in channels[:-1]]
        self.classify = Classifier(self.num_classes, self.classifier, self.tau)
        self.drop_skip = ExampleDropout(self.dropout_rate, self.axis_name)
        self.drop_encoder = ExampleDropout(self.dropout_rate, self.axis_name)
        self.drop_decoder = ExampleDropout(self.dropout_rate, self.axis_name)

    def __call__(
        self,
        images: jax.Array,
        where: jax.Array | None = None,
        *,
        train: bool = False,
        dropout: bool = False,
    ) -> SceneMaps:
        """Segments images.

        Args:
            images: Floats `[B, H, W, channels]`; H and W are multiples of `2 ** levels`.
            where: Real rows `[B]`; None: all. The others enter no statistic.
            train: Whether batch norm uses, and keeps, the statistics of this batch.
            dropout: Whether dropout drops, with a key from the stream `dropout`.

        Returns:
            Maps of the images' size, `encoder` of that size divided by `2 ** levels`.

        Raises:
            ValueError: The images have other axes or sides, or an attribute an unknown value.
        """
        trunk = self.trunk(images, where, train=train, dropout=dropout)
        return self.head(trunk, where, train=train, dropout=dropout)

    def trunk(
        self,
        images: jax.Array,
        where: jax.Array | None = None,
        *,
        train: bool = False,
        dropout: bool = False,
    ) -> UNetTrunk:
        """All but the last block; arguments as of `__call__`."""
        self._check_images(images)
        mode = self._mode(train, dropout)
        if where is not None:  # Else what is not finite there would reach the gradients.
            images = jnp.where(where[:, None, None, None], images, 0.0)
        x, outputs = images.astype(self.dtype), []
        for level, block in enumerate(self.encode):
            x = block(max_pool(x) if level else x, where, mode)
            if level == self.levels - 1:
                x = self.drop_skip(x, train=dropout)
            outputs.append(x)
        *skips, encoder = outputs
        x = encoder = self.drop_encoder(encoder, train=dropout)
        for level in range(self.levels - 1, 0, -1):
            x = self._decoded(level, x, skips[level], where, mode)
        return UNetTrunk(x, skips[0], encoder)

    def head(
        self,
        trunk: UNetTrunk,
        where: jax.Array | None = None,
        *,
        train: bool = False,
        dropout: bool = False,
    ) -> SceneMaps:
        """The last level of the decoder and the classifier; arguments as of `__call__`."""
        mode = self._mode(train, dropout)
        features = self._decoded(0, trunk.deep, trunk.skip, where, mode)
        return SceneMaps(self.classify(features), features, trunk.auxiliary, trunk.encoder)

    def _decoded(self, level, deep, skip, where, mode):
        x = self.decode[level](deep, skip, where, mode)
        if level == self.levels - 1:
            x = self.drop_decoder(x, train=mode.dropout)
        return x

    def _mode(self, train, dropout):
        return Mode(train, dropout, axis_name=self.axis_name, dtype=self.dtype)

    def _channels(self):
        return [scaled(_CHANNELS * 2**level, self.width) for level in range(self.levels + 1)]

    def _check(self):
        for name, known in (("norm", NORMS), ("initialisation", INITIALISATIONS)):
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f"{name}: expected one of {known}, got {value!r}.")
        if self.levels < 1:
            raise ValueError(f"levels: expected at least 1, got {self.levels}.")
        if not 0.0 <= self.dropout_rate < 1.0:
            raise ValueError(f"dropout_rate: expected [0, 1), got {self.dropout_rate}.")
        channels = self._channels()
        if self.norm == "group" and (self.groups < 1 or any(c % self.groups for c in channels)):
            raise ValueError(
                f"groups: expected a divisor of all channel counts {channels}, got {self.groups}."
            )

    def _check_images(self, images):
        if images.ndim != 4:
            raise ValueError(f"images: expected [B, H, W, channels], got {images.shape}.")
        multiple, (height, width) = 2**self.levels, images.shape[1:3]
        if height % multiple or width % multiple or 0 in (height, width):
            raise ValueError(
                f"images: expected sides that are multiples of {multiple} (2 ** levels, levels = "
                f"{self.levels}), got {height} x {width}."
            )
