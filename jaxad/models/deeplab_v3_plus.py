"""DeepLabV3+ on WideResNet-38 and on a ResNet: networks of PEBAL and of standardised max logits.

The decoder reads an early map of the backbone beside the enlarged output of the ASPP. Its last
block, `head`, is what PEBAL fine-tunes; `trunk` is the rest. All enlarging aligns corners. Modules
of the decoder are named as in the released code.

Sources: document 004, chapter 11, and its code (github.com/tianyu0207/PEBAL) for `Wide`;
github.com/shjung13/Standardized-max-logits for `ResNet`; Chen et al., Encoder-Decoder with Atrous
Separable Convolution, https://arxiv.org/abs/1802.02611.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp

from jaxad import resampling
from jaxad.models import layers
from jaxad.models.aspp import ASPP, aspp_rates
from jaxad.models.conv_norm import ConvNorm
from jaxad.models.layers import Mode
from jaxad.models.resnet import DEPTHS_101, ResNet, scaled
from jaxad.models.scene_classifier import Classifier
from jaxad.models.scene_maps import SceneMaps
from jaxad.models.wide_resnet import WRN38, WideResNet

_DECODER = 256  # Channels of each ASPP branch, of the enlarged map and of the decoder.
_SKIP = 48
_AUXILIARY = 512
_LAST = (("final", "classify", "conv"), ("final2", "conv"), ("dsn", "classify", "conv"))


class DecoderInput(NamedTuple):
    """What the last block reads.

    Attributes:
        maps: Early map beside the enlarged deep one, `[B, h, w, 304]` at full width.
        auxiliary: Logits of deep supervision, `[B, h', w', C]` float32; None outside training.
    """

    maps: jax.Array
    auxiliary: jax.Array | None = None


class Refinement(nn.Module):
    """Two 3 x 3 convolutions, each with batch norm and ReLU.

    Attributes:
        features: Channels of both.
    """

    features: int

    @nn.compact
    def __call__(self, inputs: jax.Array, mode: Mode) -> jax.Array:
        """Maps `[B, h, w, C]` to `[B, h, w, features]`."""
        x = inputs
        for i in (1, 2):
            x = _conv_norm(self.features, 3, name=f"conv_norm{i}")(x, mode)
        return x


class FinalBlock(nn.Module):
    """`Refinement` and the classifier as one module.

    Attributes:
        features: Channels of the refined map.
        num_classes: C.
        classifier: Kind of the classifier, see `Classifier`.
        tau: Scale of cosines.
    """

    features: int
    num_classes: int
    classifier: str
    tau: float

    @nn.compact
    def __call__(self, inputs: jax.Array, mode: Mode) -> tuple[jax.Array, jax.Array]:
        """Maps `[B, h, w, D]` to logits `[B, h, w, C]` and the `features` they are made from."""
        features = Refinement(self.features, name="refine")(inputs, mode)
        return _classifier(self, name="classify")(features), features


class DeepSupervision(nn.Module):
    """Classifies an inner map: convolution with bias, batch norm, ReLU, channel dropout 0.1.

    Attributes:
        features: Channels of the convolution.
        num_classes: C.
        classifier: Kind of the classifier, see `Classifier`.
        tau: Scale of cosines.
    """

    features: int
    num_classes: int
    classifier: str
    tau: float

    @nn.compact
    def __call__(self, inputs: jax.Array, mode: Mode) -> jax.Array:
        """Maps `[B, h, w, D]` to logits `[B, h, w, C]`."""
        conv = layers.conv(self.features, 3, mode, bias=True, init=layers.he_normal, name="conv")
        x = nn.relu(layers.norm(conv(inputs), mode, name="norm"))
        x = layers.drop_channels(x, 0.1, mode, name="dropout")
        return _classifier(self, name="classify")(x)


class DeepLabV3PlusWide(nn.Module):
    """DeepLabV3+ on WideResNet-38; 137,103,936 parameters with 19 classes.

    The skip connection starts at `mod2`, of stride 2; both parts of the decoder's input are bare
    convolutions.

    Attributes:
        num_classes: C; 19 in Cityscapes, 20 with PEBAL's abstention channel.
        width: Factor of all channel counts, see `resnet.scaled`.
        structure: Blocks of the backbone's modules.
        output_stride: Of the backbone: 8, 16 or 32; the rates of the pyramid follow from it.
        classifier: Last layer. "linear" and "linear_without_bias": 1 x 1 convolution. "cosine": see
            `Classifier`.
        tau: Scale of the cosines.
        remat: Whether blocks of the backbone are computed again for the gradient.
        axis_name: Named axis of devices over which the batch is sharded.
        dtype: Of the computation; parameters, statistics and logits are float32.
    """

    num_classes: int = 19
    width: float = 1.0
    structure: tuple[int, ...] = WRN38
    output_stride: int = 8
    classifier: str = "linear_without_bias"
    tau: float = 10.0
    remat: bool = False
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    align_corners: ClassVar[bool] = True
    head_modules: ClassVar[tuple[str, ...]] = ("final",)

    def setup(self):
        if self.num_classes < 1:
            raise ValueError(f"num_classes: expected at least 1, got {self.num_classes}.")
        features, bare = scaled(_DECODER, self.width), Mode(dtype=self.dtype)
        self.backbone = WideResNet(self.width, self.structure, self.output_stride, self.remat)
        self.aspp = ASPP(features, aspp_rates(self.output_stride), pooling="first")
        self.bot_aspp = layers.conv(features, 1, bare)
        self.bot_fine = layers.conv(scaled(_SKIP, self.width), 1, bare)
        self.final = FinalBlock(features, self.num_classes, self.classifier, self.tau)

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
            images: Normalised floats `[B, H, W, 3]`, of any size.
            where: Real rows `[B]`; None: all. The others enter no statistic.
            train: Whether batch norm uses, and keeps, the statistics of this batch.
            dropout: Whether channels are dropped, with a key from the stream `dropout`.

        Returns:
            Maps of stride 2: each side is half the image's, rounded up.

        Raises:
            ValueError: The images or `where` have other axes, or an attribute an unknown value.
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
    ) -> DecoderInput:
        """All but the last block; arguments as of `__call__`."""
        mode = _mode(self, images, where, train, dropout)
        maps = self.backbone(images, mode)
        deep = self.bot_aspp(self.aspp(maps["mod7"], mode))
        return DecoderInput(_joined(self.bot_fine(maps["mod2"]), deep))

    def head(
        self,
        trunk: DecoderInput,
        where: jax.Array | None = None,
        *,
        train: bool = False,
        dropout: bool = False,
    ) -> SceneMaps:
        """The last block; arguments as of `__call__`."""
        logits, features = self.final(trunk.maps, _mode(self, trunk.maps, where, train, dropout))
        return SceneMaps(logits, features, trunk.auxiliary)


class DeepLabV3PlusResNet(nn.Module):
    """DeepLabV3+ on a ResNet with the deep stem; 64,197,446 parameters with 19 classes.

    The skip connection starts at the first stage, of stride 4; both parts of the decoder's input
    are normalised.

    Attributes:
        num_classes: C; 19 in Cityscapes, 20 with PEBAL's abstention channel.
        width: Factor of all channel counts, see `resnet.scaled`.
        depths: Bottlenecks of each stage: `resnet.DEPTHS_101`, `resnet.DEPTHS_50` or other ones.
        output_stride: Of the backbone: 8, 16 or 32; the rates of the pyramid follow from it.
        classifier: Last layer of both outputs. "linear" and "linear_without_bias", which PEBAL
            makes of it: 1 x 1 convolution. "cosine": see `Classifier`.
        tau: Scale of the cosines.
        deep_supervision: Whether there is the auxiliary classifier on the third stage; without it
            59,467,571 parameters.
        remat: Whether bottlenecks are computed again for the gradient, see `ResNet`.
        axis_name: Named axis of devices over which the batch is sharded.
        dtype: Of the computation; parameters, statistics and logits are float32.
    """

    num_classes: int = 19
    width: float = 1.0
    depths: tuple[int, ...] = DEPTHS_101
    output_stride: int = 8
    classifier: str = "linear"
    tau: float = 10.0
    deep_supervision: bool = True
    remat: bool = False
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    align_corners: ClassVar[bool] = True
    head_modules: ClassVar[tuple[str, ...]] = ("final1", "final2")

    def setup(self):
        if self.num_classes < 1:
            raise ValueError(f"num_classes: expected at least 1, got {self.num_classes}.")
        features, he_normal = scaled(_DECODER, self.width), layers.he_normal
        self.backbone = ResNet(
            self.depths,
            width=self.width,
            output_stride=self.output_stride,
            stem="deep",
            remat=self.remat,
        )
        rates = aspp_rates(self.output_stride)
        self.aspp = ASPP(features, rates, pooling="first", kernel_init=he_normal)
        self.bot_aspp = _conv_norm(features, 1)
        self.bot_fine = _conv_norm(scaled(_SKIP, self.width), 1)
        self.final1 = Refinement(features)
        self.final2 = _classifier(self)
        auxiliary = scaled(_AUXILIARY, self.width)
        self.dsn = DeepSupervision(auxiliary, self.num_classes, self.classifier, self.tau)

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
            images: Normalised floats `[B, H, W, 3]`, of any size.
            where: Real rows `[B]`; None: all. The others enter no statistic.
            train: Whether batch norm uses, and keeps, the statistics of this batch, and the
                auxiliary classifier is applied.
            dropout: Whether channels are dropped, with a key from the stream `dropout`.

        Returns:
            Maps of stride 4, each side a quarter of the image's, rounded up; the auxiliary logits
            have the output stride.

        Raises:
            ValueError: The images or `where` have other axes, or an attribute an unknown value.
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
    ) -> DecoderInput:
        """All but the last block; arguments as of `__call__`."""
        mode = _mode(self, images, where, train, dropout)
        _, early, _, before, last = self.backbone(images, mode)
        auxiliary = None
        if self.deep_supervision and (train or self.is_initializing()):
            auxiliary = self.dsn(before, mode)
        deep = self.bot_aspp(self.aspp(last, mode), mode)
        return DecoderInput(_joined(self.bot_fine(early, mode), deep), auxiliary if train else None)

    def head(
        self,
        trunk: DecoderInput,
        where: jax.Array | None = None,
        *,
        train: bool = False,
        dropout: bool = False,
    ) -> SceneMaps:
        """The last block; arguments as of `__call__`."""
        features = self.final1(trunk.maps, _mode(self, trunk.maps, where, train, dropout))
        return SceneMaps(self.final2(features), features, trunk.auxiliary)


def with_abstention(params: Mapping[str, Any], rng: jax.Array) -> dict[str, Any]:
    """Appends one output channel to the last convolution of each classifier.

    The channels of the classes keep their values; the new one is drawn from He's normal
    distribution. Biases of these layers are dropped, as in PEBAL's import: the parameters are then
    those of a network with one class more and `classifier="linear_without_bias"`.

    Args:
        params: Parameters of `DeepLabV3PlusWide` or `DeepLabV3PlusResNet` with a linear classifier,
            kernels `[1, 1, D, C]`.
        rng: A key.

    Returns:
        New parameters, kernels `[1, 1, D, C + 1]`.

    Raises:
        ValueError: There is no such kernel in the parameters.

    References:
        Document 004, chapter 11; the released code for the start values.
    """
    flat = flax.traverse_util.flatten_dict(params)
    found = [path for path in _LAST if (*path, "kernel") in flat]
    if not found:
        names = ", ".join("/".join((*path, "kernel")) for path in _LAST)
        raise ValueError(f"params: expected a linear classifier, one of {names}, got none.")
    for path, key in zip(found, jax.random.split(rng, len(found)), strict=True):
        kernel = flat[*path, "kernel"]
        new = layers.he_normal(key, (*kernel.shape[:-1], 1), kernel.dtype)
        flat[*path, "kernel"] = jnp.concatenate([kernel, new], axis=-1)
        flat.pop((*path, "bias"), None)
    return flax.traverse_util.unflatten_dict(flat)


def _conv_norm(features, kernel, name=None):
    return ConvNorm(features, kernel, kernel_init=layers.he_normal, name=name)


def _classifier(owner, name=None):
    kind, init = owner.classifier, layers.he_normal
    return Classifier(owner.num_classes, kind, owner.tau, kernel_init=init, name=name)


def _joined(fine, deep):
    deep = resampling.bilinear(deep, fine.shape[1:3], align_corners=True)
    return jnp.concatenate([fine, deep], axis=-1)


def _mode(network, inputs, where, train, dropout):
    if where is not None and where.shape != inputs.shape[:1]:
        raise ValueError(f"where: expected shape {inputs.shape[:1]}, got {where.shape}.")
    return Mode(train, dropout, where, network.axis_name, network.dtype)
