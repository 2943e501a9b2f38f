"""DeepLabV3 on a dilated ResNet-50 or ResNet-101.

Source: Chen et al., Rethinking Atrous Convolution for Semantic Image Segmentation; layers, order
and parameter counts as in torchvision's `deeplabv3_resnet50` and `deeplabv3_resnet101`.
"""

from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxad.models.aspp import ASPP, aspp_rates
from jaxad.models.conv_norm import ConvNorm
from jaxad.models.example_dropout import ExampleDropout
from jaxad.models.layers import Mode
from jaxad.models.resnet import DEPTHS_50, ResNet, scaled
from jaxad.models.scene_classifier import Classifier
from jaxad.models.scene_maps import SceneMaps

_CHANNELS = 256
_he_normal_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class DeepLabV3Trunk(NamedTuple):
    """What the last block of a DeepLabV3 reads.

    Attributes:
        context: Output of the spatial pyramid, `[B, h, w, 256]` at full width.
        auxiliary: Logits of deep supervision, `[B, h, w, C]` float32; None outside training.
        encoder: Output of the backbone, `[B, h, w, 2048]` at full width.
    """

    context: jax.Array
    auxiliary: jax.Array | None
    encoder: jax.Array


class DeepLabV3(nn.Module):
    """Segmentation by atrous spatial pyramid pooling.

    `head` is the last block alone: a 3 x 3 convolution and the classifier. While training, the
    stage before the last is classified too, behind a 3 x 3 convolution and dropout. `encoder` of
    the maps is the output of the backbone.

    Attributes:
        num_classes: C.
        width: Factor of all channel counts, see `resnet.scaled`.
        depths: Bottlenecks of each stage, `resnet.DEPTHS_101` say.
        output_stride: Of the maps: 8, 16 or 32; the rates of the pyramid follow from it.
        classifier: "linear" or "cosine", see `Classifier`.
        tau: Scale of the cosines.
        first_dilation: Of the first bottleneck of a dilated stage, see `ResNet`; published weights
            were trained with "previous".
        context_dropout: Rate behind the spatial pyramid, of single entries.
        auxiliary_dropout: Rate in front of the second classifier, of single entries.
        input_channels: Of the first convolution. Grey images are repeated to as many: 3 lets
            published kernels stay as they are. With 1 nothing is repeated; the conversion of
            published weights then sums those kernels over their inputs, which gives the same
            outputs (specification of document 000, section 1).
        remat: Whether bottlenecks are computed again for the gradient, see `ResNet`.
        axis_name: Named axis of devices over which the batch is sharded.
        dtype: Of the computation; parameters, statistics and logits are float32.
    """

    num_classes: int = 19
    width: float = 1.0
    depths: tuple[int, ...] = DEPTHS_50
    output_stride: int = 8
    classifier: str = "linear"
    tau: float = 10.0
    first_dilation: str = "previous"
    context_dropout: float = 0.5
    auxiliary_dropout: float = 0.1
    input_channels: int = 3
    remat: bool = False
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    align_corners: ClassVar[bool] = False
    head_modules: ClassVar[tuple[str, ...]] = ("last", "classify")

    def setup(self):
        features = scaled(_CHANNELS, self.width)
        self.backbone = ResNet(
            self.depths,
            width=self.width,
            output_stride=self.output_stride,
            first_dilation=self.first_dilation,
            kernel_init=_he_normal_out,
            input_channels=self.input_channels,
            remat=self.remat,
        )
        self.aspp = ASPP(features, aspp_rates(self.output_stride), projection=features)
        self.aspp_drop = ExampleDropout(self.context_dropout, self.axis_name)
        self.auxiliary = ConvNorm(features, 3)
        self.auxiliary_drop = ExampleDropout(self.auxiliary_dropout, self.axis_name)
        self.auxiliary_classify = Classifier(self.num_classes, self.classifier, self.tau)
        self.last = ConvNorm(features, 3)
        self.classify = Classifier(self.num_classes, self.classifier, self.tau)

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
            images: Normalised floats `[B, H, W, input_channels]` of any size, or grey ones
                `[B, H, W, 1]`.
            where: Real rows `[B]`; None: all. The others enter no statistic.
            train: Whether batch norm uses, and keeps, the statistics of this batch, and deep
                supervision is computed.
            dropout: Whether dropout drops, with a key from the stream `dropout`.

        Returns:
            Maps at the output stride; each side is the image's divided by it, rounded up.

        Raises:
            ValueError: The images have other axes, or an attribute an unknown value.
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
    ) -> DeepLabV3Trunk:
        """All but the last block; arguments as of `__call__`."""
        mode = Mode(train, dropout, where, self.axis_name, self.dtype)
        if images.ndim == 4 and images.shape[-1] == 1:
            images = jnp.repeat(images, self.input_channels, axis=-1)
        *_, before, last = self.backbone(images, mode)
        auxiliary = None
        if train or self.is_initializing():
            auxiliary = self.auxiliary_drop(self.auxiliary(before, mode), train=dropout)
            auxiliary = self.auxiliary_classify(auxiliary)
        context = self.aspp_drop(self.aspp(last, mode), train=dropout)
        return DeepLabV3Trunk(context, auxiliary if train else None, last)

    def head(
        self,
        trunk: DeepLabV3Trunk,
        where: jax.Array | None = None,
        *,
        train: bool = False,
        dropout: bool = False,
    ) -> SceneMaps:
        """The last block; arguments as of `__call__`."""
        mode = Mode(train, dropout, where, self.axis_name, self.dtype)
        features = self.last(trunk.context, mode)
        return SceneMaps(self.classify(features), features, trunk.auxiliary, trunk.encoder)
