"""Published RTFM checkpoints (github.com/tianyu0207/RTFM) as parameters of
`jaxad.models.rtfm.RTFM`."""

from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import jax.numpy as jnp
import numpy as np

from jaxad.convert import foreign

_MTN = "temporal_network"
_CONVOLUTIONS = {
    "Aggregate.conv_1.0": f"{_MTN}/pdc1",
    "Aggregate.conv_2.0": f"{_MTN}/pdc2",
    "Aggregate.conv_3.0": f"{_MTN}/pdc3",
    "Aggregate.conv_4.0": f"{_MTN}/tsa_input",
    "Aggregate.conv_5.0": f"{_MTN}/fuse",
}
_NORMS = {
    "Aggregate.conv_1.2": f"{_MTN}/pdc1_norm",
    "Aggregate.conv_2.2": f"{_MTN}/pdc2_norm",
    "Aggregate.conv_3.2": f"{_MTN}/pdc3_norm",
    "Aggregate.conv_5.2": f"{_MTN}/fuse_norm",
    "Aggregate.non_local.W.1": f"{_MTN}/tsa/output_norm",
}
# 1 x 1 convolutions `[out, in, 1]` there, dense layers `[in, out]` here.
_POINTWISE = {
    "Aggregate.non_local.theta": f"{_MTN}/tsa/query",
    "Aggregate.non_local.phi": f"{_MTN}/tsa/key",
    "Aggregate.non_local.g": f"{_MTN}/tsa/value",
    "Aggregate.non_local.W.0": f"{_MTN}/tsa/output",
}
_DENSE = {
    "fc1": "classifier/dense1",
    "fc2": "classifier/dense2",
    "fc3": "classifier/logit",
}


def convert(arrays: Mapping[str, np.ndarray], params: Any, batch_stats: Any) -> tuple[Any, Any]:
    """Maps a published state dict to the variables of an RTFM network in the released form.

    Args:
        arrays: The state dict: kernels `[out, in, K]` and `[out, in]`.
        params: Parameters of a network of the same sizes; only shapes and types are read.
        batch_stats: Its batch statistics, likewise.

    Returns:
        New `(params, batch_stats)`.

    Raises:
        InputError: Lists all names that are missing, unexpected or of another shape.
    """
    like = {"params": params, "batch_stats": batch_stats}
    like = flax.traverse_util.flatten_dict(like, sep="/")
    rows = [row for row in _rows() if row[1] in like]
    shapes = {name: _foreign_shape(like[path].shape, kind) for name, path, kind in rows}
    given = foreign.match(arrays, shapes, ignore=("num_batches_tracked",))
    new = {path: _transform(given[name], kind) for name, path, kind in rows}
    new = {path: jnp.asarray(new[path], leaf.dtype) for path, leaf in like.items()}
    new = flax.traverse_util.unflatten_dict(new, sep="/")
    return new["params"], new["batch_stats"]


def _rows():
    """(name there, path here, kind of array) for all arrays that a network may have."""
    for kind, layers in (
        ("convolution", _CONVOLUTIONS),
        ("pointwise", _POINTWISE),
        ("dense", _DENSE),
    ):
        for name, path in layers.items():
            yield f"{name}.weight", f"params/{path}/kernel", kind
            yield f"{name}.bias", f"params/{path}/bias", "vector"
    for name, path in _NORMS.items():
        yield f"{name}.weight", f"params/{path}/scale", "vector"
        yield f"{name}.bias", f"params/{path}/bias", "vector"
        yield f"{name}.running_mean", f"batch_stats/{path}/mean", "vector"
        yield f"{name}.running_var", f"batch_stats/{path}/var", "vector"


def _transform(array, kind):
    if kind == "pointwise":
        array = array[..., 0]
    return np.asarray(array).T  # [out, in, K] to [K, in, out]; vectors stay.


def _foreign_shape(shape, kind):
    shape = tuple(reversed(shape))
    return (*shape, 1) if kind == "pointwise" else shape
