"""Golden vectors: inputs and outputs of published implementations, by system and name."""

import pathlib

import numpy as np
import pytest

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_FOLDERS = (_ROOT.parent / "shared" / "golden", _ROOT / "tests" / "golden")


def load(system: str, name: str) -> dict[str, np.ndarray]:
    """Arrays of `<system>/<name>.npz`; skips the test where no copy is at hand.

    The full set lies beside the repository, a compact part of it in `tests/golden`.
    """
    for folder in _FOLDERS:
        path = folder / system / f"{name}.npz"
        if path.is_file():
            with np.load(path, allow_pickle=False) as file:
                return {key: file[key] for key in file.files}
    looked = ", ".join(str(folder) for folder in _FOLDERS)
    pytest.skip(f"no golden vectors {system}/{name}.npz in {looked}")


def part(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names start with `prefix`, named without it."""
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def assert_close(actual, expected, *, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """Same shape, and equal up to `rtol` and to `atol` times the largest entry."""
    expected = np.asarray(expected)
    assert np.shape(actual) == expected.shape
    largest = np.max(np.abs(expected), initial=0.0)
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol * largest)
