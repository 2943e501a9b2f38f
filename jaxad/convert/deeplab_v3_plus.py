"""Published DeepLabV3+ checkpoints as variables of the networks in `models.deeplab_v3_plus`.

Their names are those of three releases: github.com/NVIDIA/semantic-segmentation (`sdcnet` branch)
and github.com/tianyu0207/PEBAL for WideResNet-38, and
github.com/shjung13/Standardized-max-logits for ResNet.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxad.convert import torch_layout

__all__ = ["convert"]

_PREFIXES = ("module.", "branch1.")  # Of data parallelism, of PEBAL; off in this order.
_IGNORED = ("criterion.nll_loss.weight", "criterion_aux.nll_loss.weight")
_ASPP = (
    (r"aspp/pooled/conv", r"aspp.img_conv.0"),
    (r"aspp/pooled/norm", r"aspp.img_conv.1"),
    (r"aspp/pointwise/conv", r"aspp.features.0.0"),
    (r"aspp/pointwise/norm", r"aspp.features.0.1"),
    (r"aspp/dilated(\d)/conv", r"aspp.features.\1.0"),
    (r"aspp/dilated(\d)/norm", r"aspp.features.\1.1"),
)
# A norm is the first of a pair with its ReLU.
_WIDE = (
    *_ASPP,
    (r"backbone/mod1", r"mod1.conv1"),
    (r"backbone/(mod\d)_block(\d)/norm1", r"\1.block\2.bn1.0"),
    (r"backbone/(mod\d)_block(\d)/norm(\d)", r"\1.block\2.convs.bn\3.0"),
    (r"backbone/(mod\d)_block(\d)/conv(\d)", r"\1.block\2.convs.conv\3"),
    (r"backbone/(mod\d)_block(\d)/projection", r"\1.block\2.proj_conv"),
    (r"(bot_aspp|bot_fine)", r"\1"),
    (r"final/refine/conv_norm1/conv", r"final.0"),
    (r"final/refine/conv_norm1/norm", r"final.1"),
    (r"final/refine/conv_norm2/conv", r"final.3"),
    (r"final/refine/conv_norm2/norm", r"final.4"),
    (r"final/classify/conv", r"final.6"),
)
_RESNET = (
    *_ASPP,
    (r"backbone/stem_conv1", r"layer0.0"),
    (r"backbone/stem_norm1", r"layer0.1"),
    (r"backbone/stem_conv2", r"layer0.3"),
    (r"backbone/stem_norm2", r"layer0.4"),
    (r"backbone/stem_conv3", r"layer0.6"),
    (r"backbone/stem_norm3", r"layer0.7"),
    (r"backbone/(layer\d)_(\d+)/conv(\d)", r"\1.\2.conv\3"),
    (r"backbone/(layer\d)_(\d+)/norm(\d)", r"\1.\2.bn\3"),
    (r"backbone/(layer\d)_(\d+)/conv_shortcut", r"\1.\2.downsample.0"),
    (r"backbone/(layer\d)_(\d+)/norm_shortcut", r"\1.\2.downsample.1"),
    (r"(bot_aspp|bot_fine)/conv", r"\1.0"),
    (r"(bot_aspp|bot_fine)/norm", r"\1.1"),
    (r"final1/conv_norm1/conv", r"final1.0"),
    (r"final1/conv_norm1/norm", r"final1.1"),
    (r"final1/conv_norm2/conv", r"final1.3"),
    (r"final1/conv_norm2/norm", r"final1.4"),
    (r"final2/conv", r"final2.0"),
    (r"dsn/conv", r"dsn.0"),
    (r"dsn/norm", r"dsn.1"),
    (r"dsn/classify/conv", r"dsn.4"),
)


def convert(arrays: Mapping[str, np.ndarray], params: Any, batch_stats: Any) -> tuple[Any, Any]:
    """Maps a published state dict to the variables of a DeepLabV3+.

    Args:
        arrays: The state dict, kernels `[out, in, height, width]`; `module.` and `branch1.` may
            stand in front of all names, and weights of training losses among them.
        params: Parameters of a `DeepLabV3PlusWide` or `DeepLabV3PlusResNet` of the same sizes, with
            a linear classifier with or without bias as in the checkpoint; only shapes and types are
            read.
        batch_stats: Its batch statistics, likewise.

    Returns:
        New `(params, batch_stats)`.

    Raises:
        InputError: Lists all names that are missing, unexpected or of another shape.
        ValueError: These are not the parameters of such a network.
    """
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in arrays):
            arrays = {name.removeprefix(prefix): array for name, array in arrays.items()}
    rules = _RESNET if "final2" in params else _WIDE

    def name_of(layer):
        for pattern, name in rules:
            if found := re.fullmatch(pattern, layer):
                return found.expand(name)
        raise ValueError(f"params: no DeepLabV3+ with a linear classifier has a layer {layer!r}.")

    return torch_layout.fill(arrays, params, batch_stats, name_of, ignore=_IGNORED)
