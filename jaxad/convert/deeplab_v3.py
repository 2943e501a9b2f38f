"""Torchvision's DeepLabV3 and ResNet checkpoints as variables of
`jaxad.models.deeplab_v3.DeepLabV3`."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxad.convert import torch_layout

__all__ = ["convert", "convert_backbone", "resnet_name"]

_LAYERS = {
    "aspp/pointwise/conv": "classifier.0.convs.0.0",
    "aspp/pointwise/norm": "classifier.0.convs.0.1",
    "aspp/pooled/conv": "classifier.0.convs.4.1",
    "aspp/pooled/norm": "classifier.0.convs.4.2",
    "aspp/projection/conv": "classifier.0.project.0",
    "aspp/projection/norm": "classifier.0.project.1",
    "last/conv": "classifier.1",
    "last/norm": "classifier.2",
    "classify/conv": "classifier.4",
    "auxiliary/conv": "aux_classifier.0",
    "auxiliary/norm": "aux_classifier.1",
    "auxiliary_classify/conv": "aux_classifier.4",
    **{
        f"aspp/dilated{i}/{kind}": f"classifier.0.convs.{i}.{j}"
        for i in (1, 2, 3)
        for j, kind in enumerate(("conv", "norm"))
    },
}
_BACKBONE = "backbone"
_FIRST = "conv1.weight"  # Of the backbone.


def convert(arrays: Mapping[str, np.ndarray], params: Any, batch_stats: Any) -> tuple[Any, Any]:
    """Maps the state dict of `deeplabv3_resnet50` or `deeplabv3_resnet101`, with auxiliary head.

    Where the network has one input channel, the first kernels are summed over their three.

    Args:
        arrays: The state dict.
        params: Parameters of a linear network of the same sizes; only shapes and types are read.
        batch_stats: Its batch statistics, likewise.

    Returns:
        New `(params, batch_stats)`.

    Raises:
        InputError: Lists all names that are missing, unexpected or of another shape.
    """

    def name_of(layer):
        first, _, rest = layer.partition("/")
        return f"backbone.{resnet_name(rest)}" if first == _BACKBONE else _LAYERS[layer]

    arrays = _summed(arrays, f"backbone.{_FIRST}", params)
    return torch_layout.fill(arrays, params, batch_stats, name_of)


def convert_backbone(
    arrays: Mapping[str, np.ndarray], params: Any, batch_stats: Any
) -> tuple[Any, Any]:
    """Maps a `resnet50` or `resnet101` trained on ImageNet to the backbone alone.

    Where the network has one input channel, the first kernels are summed over their three.

    Args:
        arrays: The state dict; its classifier (`fc`) is left out.
        params: Parameters of a network of the same sizes.
        batch_stats: Its batch statistics.

    Returns:
        `(params, batch_stats)` with a new backbone.

    Raises:
        InputError: Lists all names that are missing, unexpected or of another shape.
    """
    new_params, new_stats = torch_layout.fill(
        _summed(arrays, _FIRST, params),
        params[_BACKBONE],
        batch_stats[_BACKBONE],
        resnet_name,
        ignore=("fc.weight", "fc.bias"),
    )
    return {**params, _BACKBONE: new_params}, {**batch_stats, _BACKBONE: new_stats}


def resnet_name(layer: str) -> str:
    """The name in torchvision of a layer of `models.resnet.ResNet` with the stem "seven".

    Args:
        layer: Its path below the backbone: `layer1_0/conv_shortcut` say.

    Returns:
        `layer1.0.downsample.0` say.
    """
    if layer.startswith("stem_"):
        return {"stem_conv1": "conv1", "stem_norm1": "bn1"}[layer]
    stage, index, part = re.fullmatch(r"layer(\d)_(\d+)/(\w+)", layer).groups()
    parts = {"conv_shortcut": "downsample.0", "norm_shortcut": "downsample.1"}
    return f"layer{stage}.{index}.{parts.get(part, part.replace('norm', 'bn'))}"


def _summed(arrays, name, params):
    """The state dict for a network of grey images: repeated three times they gave these sums."""
    channels = params[_BACKBONE]["stem_conv1"]["kernel"].shape[2]
    kernels = arrays.get(name)
    if channels != 1 or np.ndim(kernels) != 4:
        return arrays
    return {**arrays, name: np.sum(np.asarray(kernels), axis=1, keepdims=True)}
