"""Reads checkpoint files of other frameworks as plain arrays by name."""

import pathlib
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np

from jaxad.errors import InputError

_TORCH = (".pth", ".pt", ".pkl", ".pth.tar")
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model")
_LISTED = 20


def read(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Reads all arrays of a checkpoint file.

    No code in the file is run. What wraps a state dict (a dict with the key `state_dict`,
    `model_state_dict`, `model_state` or `model`; a `module.` in front of every name, as PyTorch's
    data parallelism leaves it) is taken off, and what is no array is left out. bfloat16 becomes
    float32.

    Args:
        path: A file `.npz`, `.safetensors` (extra `safetensors`), or `.pth`, `.pth.tar`, `.pt`,
            `.pkl` written by PyTorch (extra `torch`).

    Returns:
        Arrays by name.

    Raises:
        InputError: The file is missing, damaged, of another kind or without arrays, or the extra
            that reads it is not installed.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"{path}: expected a checkpoint file, found none.")
    readers = {".npz": _read_npz, ".safetensors": _read_safetensors}
    readers |= dict.fromkeys(_TORCH, _read_torch)
    ending = next((end for end in readers if path.name.lower().endswith(end)), None)
    if ending is None:
        raise InputError(f"{path}: expected a file {', '.join(readers)}, found {path.suffix!r}.")
    arrays = readers[ending](path)
    if not arrays:
        raise InputError(f"{path}: expected named arrays, found none.")
    if all(name.startswith("module.") for name in arrays):
        arrays = {name.removeprefix("module."): array for name, array in arrays.items()}
    return arrays


def match(
    arrays: Mapping[str, np.ndarray],
    shapes: Mapping[str, Sequence[int]],
    *,
    ignore: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """Checks that a checkpoint holds exactly the arrays a network has.

    Args:
        arrays: By name, as `read` gives them.
        shapes: Expected shape by name.
        ignore: Endings of names that may be there and are dropped.

    Returns:
        The expected arrays.

    Raises:
        InputError: Lists all missing, unexpected and mis-shaped names at once.
    """
    given = {name: a for name, a in arrays.items() if not name.endswith(tuple(ignore))}
    wrong = [
        f"{name} (expected {tuple(shapes[name])}, found {np.shape(given[name])})"
        for name in shapes
        if name in given and np.shape(given[name]) != tuple(shapes[name])
    ]
    problems = {
        "missing": [name for name in shapes if name not in given],
        "unexpected": [name for name in given if name not in shapes],
        "of another shape": wrong,
    }
    found = [f"{len(names)} {kind}: {_list(names)}" for kind, names in problems.items() if names]
    if found:
        raise InputError(f"The checkpoint does not fit this network. {'; '.join(found)}.")
    return {name: given[name] for name in shapes}


def _list(names):
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _read_npz(path):
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise InputError(
            f"{path}: expected an .npz file of plain arrays, found: {error}"
        ) from error


def _read_safetensors(path):
    try:
        import safetensors
        import safetensors.numpy
    except ImportError as error:
        raise _missing(path, "safetensors") from error
    try:
        return safetensors.numpy.load_file(path)
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: expected a .safetensors file, found: {error}") from error


def _read_torch(path):
    try:
        import torch
    except ImportError as error:
        raise _missing(path, "torch") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load has no error type of its own.
        raise InputError(
            f"{path}: expected tensors saved by PyTorch and nothing that runs code, found: {error}"
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: expected a state dict, found a {type(content).__name__}.")
    return {str(k): _array(v) for k, v in content.items() if isinstance(v, torch.Tensor)}


def _array(tensor):
    import torch

    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _missing(path, extra):
    return InputError(
        f"{path}: expected the package {extra} to read it, found none; install it with "
        f"`pip install 'jaxad[{extra}]'`, or save the arrays as .npz where it is installed."
    )
