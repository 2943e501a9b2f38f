"""PSPNet on a ResNet of bottlenecks with leaky ReLU, and its linear and cosine classifiers.

Source: document 001, sections 3 and 4, and its code (github.com/DarioFontanel/PAnS), with the
in-place norm of that code as an ordinary batch norm in front of leaky ReLU 0.01.
"""

from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxad import resampling
from jaxad.models import layers
from jaxad.models.conv_norm import ConvNorm
from jaxad.models.example_dropout import ChannelDropout
from jaxad.models.layers import Mode
from jaxad.models.resnet import DEPTHS_50, ResNet, scaled
from jaxad.models.scene_classifier import Classifier
from jaxad.models.scene_maps import SceneMaps

_CHANNELS = 512  # Of each branch of the pyramid, and of both maps that are classified.


class PSPTrunk(NamedTuple):
    """What the last block of a PSPNet reads.

    Attributes:
        pyramid: Output of the backbone beside its pooled maps, `[B, h, w, 4096]` at full width.
        auxiliary: Logits of deep supervision, `[B, h, w, C]` float32; None outside training.
    """

    pyramid: jax.Array
    auxiliary: jax.Array | None


class Pyramid(nn.Module):
    """A map beside its means over coarse grids (pyramid pooling).

    Attributes:
        features: Channels of each pooled map.
        bins: Rows and columns of the grids.
    """

    features: int
    bins: tuple[int, ...] = (1, 2, 3, 6)

    @nn.compact
    def __call__(self, inputs: jax.Array, mode: Mode) -> jax.Array:
        """Maps `[B, h, w, C]` to `[B, h, w, C + bins · features]`."""
        maps = [inputs]
        for number in self.bins:
            pooled = resampling.adaptive_average_pool(inputs, (number, number))
            conv = ConvNorm(self.features, 1, activation=layers.leaky_relu, name=f"bins{number}")
            size = inputs.shape[1:3]
            maps.append(resampling.bilinear(conv(pooled, mode), size, align_corners=False))
        return jnp.concatenate(maps, axis=-1)


class PSPNet(nn.Module):
    """Segmentation network of document 001.

    Pyramid pooling behind the backbone, one 3 x 3 convolution, channel dropout and the classifier;
    while training, a second convolution and classifier on the stage before the last (deep
    supervision). `head` is the last block alone: convolution, dropout and classifier.

    Attributes:
        num_classes: C; 13 in StreetHazards.
        width: Factor of all channel counts, see `resnet.scaled`.
        depths: Bottlenecks of each stage.
        output_stride: Of the maps: 8, 16 or 32.
        classifier: "cosine" or "linear", see `Classifier`.
        tau: Scale of the cosines.
        dropout_rate: Of channels in front of both classifiers.
        bins: Grids of the pyramid.
        remat: Whether bottlenecks are computed again for the gradient, see `ResNet`.
        axis_name: Named axis of devices over which the batch is sharded.
        dtype: Of the computation; parameters, statistics and logits are float32.
    """

    num_classes: int = 13
    width: float = 1.0
    depths: tuple[int, ...] = DEPTHS_50
    output_stride: int = 8
    classifier: str = "cosine"
    tau: float = 10.0
    dropout_rate: float = 0.1
    bins: tuple[int, ...] = (1, 2, 3, 6)
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
            activation=layers.leaky_relu,
            remat=self.remat,
        )
        self.pyramid = Pyramid(features, self.bins)
        self.auxiliary = ConvNorm(features, 3, activation=layers.leaky_relu)
        self.auxiliary_drop = ChannelDropout(self.dropout_rate, self.axis_name)
        self.auxiliary_classify = Classifier(self.num_classes, self.classifier, self.tau)
        self.last = ConvNorm(features, 3, activation=layers.leaky_relu)
        self.last_drop = ChannelDropout(self.dropout_rate, self.axis_name)
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
            images: Normalised floats `[B, H, W, 3]`, of any size.
            where: Real rows `[B]`; None: all. The others enter no statistic.
            train: Whether batch norm uses, and keeps, the statistics of this batch, and deep
                supervision is computed.
            dropout: Whether channels are dropped, with a key from the stream `dropout`.

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
    ) -> PSPTrunk:
        """All but the last block; arguments as of `__call__`."""
        mode = Mode(train, dropout, where, self.axis_name, self.dtype)
        *_, before, last = self.backbone(images, mode)
        auxiliary = None
        if train or self.is_initializing():
            auxiliary = self.auxiliary_drop(self.auxiliary(before, mode), train=dropout)
            auxiliary = self.auxiliary_classify(auxiliary)
        return PSPTrunk(self.pyramid(last, mode), auxiliary if train else None)

    def head(
        self,
        trunk: PSPTrunk,
        where: jax.Array | None = None,
        *,
        train: bool = False,
        dropout: bool = False,
    ) -> SceneMaps:
        """The last block; arguments as of `__call__`."""
        mode = Mode(train, dropout, where, self.axis_name, self.dtype)
        features = self.last_drop(self.last(trunk.pyramid, mode), train=dropout)
        return SceneMaps(self.classify(features), features, trunk.auxiliary)
