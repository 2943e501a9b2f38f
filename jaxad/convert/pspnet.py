"""Published PAnS checkpoints (github.com/DarioFontanel/PAnS), and the ImageNet backbone they start
from, as variables of `jaxad.models.pspnet.PSPNet`."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxad.convert import torch_layout

__all__ = ["convert", "convert_backbone"]

_LAYERS = {
    "last/conv": "head.conv_last.0",
    "last/norm": "head.conv_last.1",
    "auxiliary/conv": "head.cbr_deepsup.0",
    "auxiliary/norm": "head.cbr_deepsup.1",
    "classify": "cls.cls",  # Prototypes.
    "classify/conv": "cls.cls",
    "auxiliary_classify": "cls.cls_deepsup",
    "auxiliary_classify/conv": "cls.cls_deepsup",
}
_BACKBONE = "backbone"


def convert(
    arrays: Mapping[str, np.ndarray], params: Any, batch_stats: Any, *, scales: str = "in_place"
) -> tuple[Any, Any]:
    """Maps a published state dict to the variables of a PSPNet.

    Args:
        arrays: The state dict, without `module.` in front of its names.
        params: Parameters of a network of the same sizes and with the same kind of classifier; only
            shapes and types are read.
        batch_stats: Its batch statistics, likewise.
        scales: Of batch norms. "in_place": the checkpoint was trained with in-place activated batch
            norm, as the published ones are, and its scales are |weight| + 1e-5. "plain": they are
            the weights.

    Returns:
        New `(params, batch_stats)`.

    Raises:
        InputError: Lists all names that are missing, unexpected or of another shape.
        ValueError: `scales` has another value.
    """
    bins = sorted(int(name.removeprefix("bins")) for name in params["pyramid"])

    def name_of(layer):
        first, _, rest = layer.partition("/")
        if first == _BACKBONE:
            return f"body.{_backbone_name(rest)}"
        if first == "pyramid":
            number, kind = rest.removeprefix("bins").split("/")
            return f"head.ppm.{bins.index(int(number))}.{1 if kind == 'conv' else 2}"
        return _LAYERS[layer]

    return torch_layout.fill(arrays, params, batch_stats, name_of, scales=scales)


def convert_backbone(
    arrays: Mapping[str, np.ndarray], params: Any, batch_stats: Any, *, scales: str = "in_place"
) -> tuple[Any, Any]:
    """Maps a ResNet trained on ImageNet to the backbone of a PSPNet; the rest stays as it is.

    Args:
        arrays: The state dict, without `module.` in front of its names; its classifier
            (`classifier.fc`) is left out.
        params: Parameters of a PSPNet of the same sizes.
        batch_stats: Its batch statistics.
        scales: Of batch norms, as for `convert`; `resnet50_iabn_sync` is "in_place".

    Returns:
        `(params, batch_stats)` with a new backbone.

    Raises:
        InputError: Lists all names that are missing, unexpected or of another shape.
        ValueError: `scales` has another value.
    """
    new_params, new_stats = torch_layout.fill(
        arrays,
        params[_BACKBONE],
        batch_stats[_BACKBONE],
        _backbone_name,
        scales=scales,
        ignore=("classifier.fc.weight", "classifier.fc.bias"),
    )
    return {**params, _BACKBONE: new_params}, {**batch_stats, _BACKBONE: new_stats}


def _backbone_name(layer):
    if layer.startswith("stem_"):
        return "mod1." + {"stem_conv1": "conv1", "stem_norm1": "bn1"}[layer]
    stage, index, part = re.fullmatch(r"layer(\d)_(\d+)/(\w+)", layer).groups()
    parts = {"conv_shortcut": "proj_conv", "norm_shortcut": "proj_bn"}
    part = parts.get(part, f"convs.{part.replace('norm', 'bn')}")
    return f"mod{int(stage) + 1}.block{int(index) + 1}.{part}"
