"""The libraries of the `medical` extra, imported when a file of theirs is met."""

import importlib
import types

from jaxad.errors import InputError


def require(name: str, path: str) -> types.ModuleType:
    """Imports a library that reads a medical format.

    Args:
        name: "nibabel", "SimpleITK" or "pydicom".
        path: The file that needs it, for the message.

    Returns:
        The module.

    Raises:
        InputError: If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f'Reading {path} needs {name}, which is not installed: pip install "jaxad[medical]".'
        ) from error
