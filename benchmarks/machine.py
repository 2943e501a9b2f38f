"""What this machine can do at best, measured: the denominators of the other benchmarks."""

import os
import platform
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp


def seconds(function: Callable, *arguments, repeats: int = 5) -> list[float]:
    """Wall times of `repeats` calls after one to warm up, each waited for."""
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - start)
    return times


def matmul_peak(dtype: str, sizes: tuple[int, ...] | None = None) -> float:
    """FLOP/s of the fastest square matrix product of the given sizes, on one device."""
    on_cpu = jax.devices()[0].platform == "cpu"
    sizes = sizes or ((1024, 2048, 4096) if on_cpu else (4096, 8192, 16384))
    # At JAX's default precision, like the programs measured against it: on many accelerators a
    # float32 product then has fewer bits than float32.
    product = jax.jit(jnp.matmul)
    best = 0.0
    for size in sizes:
        a = jnp.ones((size, size), dtype)
        best = max(best, 2.0 * size**3 / min(seconds(product, a, a)))
    return best


def memory_bandwidth(size: int = 2**26) -> float:
    """Bytes/s read and written by scaling a float32 array of `size` entries, on one device."""
    array = jnp.ones((size,), jnp.float32)
    return 2.0 * array.nbytes / min(seconds(jax.jit(lambda x: 1.5 * x), array))


def spread(times: list[float]) -> tuple[float, float, float]:
    """Median, minimum and maximum."""
    return statistics.median(times), min(times), max(times)


def host_peak_bytes() -> int:
    """Most memory that this process has held so far."""
    import resource

    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def device_peak_bytes() -> int | None:
    """Most memory held on the first device, where it counts that."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def description() -> dict[str, object]:
    """Device, versions and load: what a figure depends on."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "devices": jax.device_count(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "jax": jax.__version__,
        "python": platform.python_version(),
    }
