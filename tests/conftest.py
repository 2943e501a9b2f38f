"""Eight virtual CPU devices and a persistent compilation cache for all tests."""

import os
import pathlib

import command_line

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        command_line.QUICK_TO_COMPILE,
    ]
)
ROOT = pathlib.Path(__file__).resolve().parents[1]

import jax  # noqa: E402 - after its environment is set.
import pytest  # noqa: E402

jax.config.update("jax_compilation_cache_dir", str(ROOT / ".cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in its own.
def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))


def pytest_runtest_teardown(item, nextitem):
    """Compiled programs are mapped into memory, of which Linux grants a process 65,530 pieces."""
    maps = pathlib.Path("/proc/self/maps")
    if nextitem and _group(nextitem) == _group(item):
        return
    if maps.exists() and maps.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()


def _group(item):
    """What shares compiled programs or fixtures: rows of functions of a module, tests of a file."""
    parameters = getattr(item, "callspec", None)
    function = getattr(parameters.params.get("row"), "function", None) if parameters else None
    return function.__module__ if function else str(item.path)
