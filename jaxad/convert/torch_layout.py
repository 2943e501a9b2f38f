"""State dicts of PyTorch's image networks as variables of ours: names, axes and shapes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.traverse_util
import jax.numpy as jnp
import numpy as np

from jaxad.convert import foreign

__all__ = ["SCALES", "fill"]

SCALES = ("plain", "in_place")
_LEAVES = {
    "kernel": "weight",
    "prototypes": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def fill(
    arrays: Mapping[str, np.ndarray],
    params: Any,
    batch_stats: Any,
    name_of: Callable[[str], str],
    *,
    scales: str = "plain",
    ignore: Sequence[str] = (),
) -> tuple[Any, Any]:
    """Variables of a network with the values of a state dict.

    Args:
        arrays: The state dict; kernels `[out, in, height, width]`.
        params: Parameters of a network of the same sizes; only shapes and types are read. Layers
            hold `kernel`, `bias`, `scale` or `prototypes`.
        batch_stats: Its batch statistics, `mean` and `var`, likewise.
        name_of: From the path of a layer, `backbone/stem_conv1` say, to its name in the state dict.
        scales: Of batch norms: "plain" takes weights as they are, "in_place" |weight| + 1e-5, which
            in-place activated batch norm multiplies with.
        ignore: Endings of further names that may be there and are dropped.

    Returns:
        New `(params, batch_stats)`.

    Raises:
        InputError: Lists all names that are missing, unexpected or of another shape.
        ValueError: `scales` has another value.
    """
    if scales not in SCALES:
        raise ValueError(f"scales: expected one of {SCALES}, got {scales!r}.")
    like = {"params": params, "batch_stats": batch_stats}
    like = flax.traverse_util.flatten_dict(like, sep="/")
    names = {path: _name(path, name_of) for path in like}
    shapes = {name: _foreign_shape(like[path].shape) for path, name in names.items()}
    given = foreign.match(arrays, shapes, ignore=("num_batches_tracked", *ignore))
    new = {}
    for path, leaf in like.items():
        array = _own_layout(np.asarray(given[names[path]]), leaf.ndim)
        if scales == "in_place" and path.endswith("/scale"):
            array = np.abs(array) + 1e-5
        new[path] = jnp.asarray(array, leaf.dtype)
    new = flax.traverse_util.unflatten_dict(new, sep="/")
    return new["params"], new["batch_stats"]


def _name(path, name_of):
    _, layer = path.split("/", 1)  # Without the collection in front.
    layer, leaf = layer.rsplit("/", 1)
    return f"{name_of(layer)}.{_LEAVES[leaf]}"


def _foreign_shape(shape):
    if len(shape) == 4:
        height, width, inputs, outputs = shape
        return (outputs, inputs, height, width)
    return (*shape, 1, 1) if len(shape) == 2 else shape  # Prototypes are 1 x 1 kernels there.


def _own_layout(array, rank):
    if rank == 4:
        return array.transpose(2, 3, 1, 0)
    return array[..., 0, 0] if rank == 2 else array
