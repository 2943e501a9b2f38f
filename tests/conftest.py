"""Eight virtual CPU devices and a persistent compilation cache for all tests."""

import os
import pathlib
import sys

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "training")]

import jax  # noqa: E402 - after its environment is set.
import pytest  # noqa: E402

jax.config.update("jax_compilation_cache_dir", str(ROOT / ".cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in its own.
def pytest_collection_modifyitems(items):
    """What shares compiled programs or fixtures stays together: the tests of a row, of a file."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(getattr(_row(item), "id", str(item.path))))


def pytest_runtest_teardown(item, nextitem):
    """Compiled programs are mapped into memory, of which Linux grants a process 65,530 pieces."""
    maps = pathlib.Path("/proc/self/maps")
    if nextitem and nextitem.path == item.path and not _last_of_a_row(item, nextitem):
        return
    if maps.exists() and maps.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()


def _last_of_a_row(item, nextitem):
    return _row(item) is not None and _row(item) is not _row(nextitem)


def _row(item):
    parameters = getattr(item, "callspec", None)
    return parameters.params.get("row") if parameters else None
