"""Times one compiled program and prints it as a row: the common part of the benchmarks."""

import json
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

from absl import flags

from jaxad.errors import InputError

CONFIG_HELP = "Config file, and preset after a colon."


def define_flags(batch_sizes: str) -> None:
    """Flags that `train_step` and `score` share."""
    from ml_collections import config_flags

    config_flags.DEFINE_config_file("config", None, CONFIG_HELP)
    flags.mark_flag_as_required("config")
    flags.DEFINE_list("batch_sizes", batch_sizes.split(","), "Global batch sizes, one row each.")
    flags.DEFINE_integer("repeats", 5, "Timed calls per row, after one to warm up.")
    flags.DEFINE_integer("devices", 0, "Virtual CPU devices; 0: those that are there.")
    flags.DEFINE_string("trace", None, "Folder for a profiler trace of the last row.")
    flags.DEFINE_string("hlo", None, "Folder for the optimised HLO of each row.")


def batch_sizes() -> list[int]:
    """Those asked for, the smallest first: peaks of memory are of the process so far."""
    if not all(size.isdigit() and int(size) for size in flags.FLAGS.batch_sizes):
        raise InputError(
            f"--batch_sizes={flags.FLAGS.batch_sizes}; expected whole numbers above 0."
        )
    return sorted(int(size) for size in flags.FLAGS.batch_sizes)


def virtual_devices() -> None:
    """Applies --devices; before JAX is used for the first time."""
    if flags.FLAGS.devices:
        option = f"--xla_force_host_platform_device_count={flags.FLAGS.devices}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {option}"
        os.environ["JAX_PLATFORMS"] = "cpu"


def record_shapes(config) -> dict[str, Any]:
    """Shapes and types of one training record, without its files where the source can tell."""
    from jaxad.data import sources

    options = dict(config.data.source.to_dict())
    return sources.record_shapes(options.pop("name"), options)


def random_batch(shapes: dict[str, Any], rows: int, length: int | None = None) -> dict[str, Any]:
    """A batch of `rows` records of these shapes, as the pipeline makes them, of random features.

    Args:
        shapes: `jax.ShapeDtypeStruct`-like by name, of one record.
        rows: Half of them anomalous.
        length: Snippets, if not those of a training record.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    batch: dict[str, Any] = {}
    for name, shape in shapes.items():
        size = list(shape.shape)
        if name == "features" and length is not None:
            size[1] = length
        if np.issubdtype(shape.dtype, np.floating):
            batch[name] = rng.random((rows, *size), np.float32).astype(shape.dtype)
        else:
            batch[name] = np.zeros((rows, *size), shape.dtype)
    batch["label"] = (np.arange(rows) % 2 == 0).astype(np.int32)
    batch["valid"] = np.ones(rows, bool)
    batch["index"] = np.arange(rows, dtype=np.int32)
    if "features" in batch:
        batch["length"] = np.full(rows, batch["features"].shape[2], np.int32)
    return batch


def measure(
    compile_it: Callable[[], Any],
    call: Callable[[Any], Any],
    *,
    rows: int,
    repeats: int,
    peak: float,
    bandwidth: float,
    devices: int,
) -> tuple[dict[str, Any], Any]:
    """Compiles, warms up, times.

    Args:
        compile_it: Gives the compiled program.
        call: Runs it once and waits.
        rows: Examples per call.
        repeats: Timed calls.
        peak: FLOP/s of one device at best.
        bandwidth: Bytes/s of one device at best.
        devices: How many it runs on; virtual ones share the peak of the machine.
    """
    import jax

    from benchmarks import machine

    start = time.perf_counter()
    compiled = compile_it()
    compile_seconds = time.perf_counter() - start
    call(compiled)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call(compiled)
        times.append(time.perf_counter() - start)
    median, low, high = machine.spread(times)
    cost, memory = compiled.cost_analysis() or {}, compiled.memory_analysis()
    flops, touched = cost.get("flops", 0.0) * devices, cost.get("bytes accessed", 0.0) * devices
    machines = 1 if jax.devices()[0].platform == "cpu" else devices
    row = {
        "batch_size": rows,
        "compile_s": compile_seconds,
        "step_s": median,
        "step_s_min": low,
        "step_s_max": high,
        "examples_per_s": rows / median,
        "flops": flops,
        "flops_per_s": flops / median,
        "share_of_matmul_peak": flops / median / (peak * machines),
        "bytes_accessed": touched,
        "share_of_bandwidth": touched / median / (bandwidth * machines),
        # What the program needs at once: XLA's own account, per device.
        "program_bytes": memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes,
        "temp_bytes": memory.temp_size_in_bytes,
        # Of the process so far: rows are in order of size.
        "device_peak_bytes_so_far": machine.device_peak_bytes(),
        "host_peak_bytes_so_far": machine.host_peak_bytes(),
    }
    return row, compiled


COLUMNS = (
    ("batch", "batch_size", "{:d}"),
    ("compile s", "compile_s", "{:.1f}"),
    ("step s", "step_s", "{:.4f}"),
    ("min", "step_s_min", "{:.4f}"),
    ("max", "step_s_max", "{:.4f}"),
    ("examples/s", "examples_per_s", "{:.4g}"),
    ("GFLOP", "flops", 1e9),
    ("GFLOP/s", "flops_per_s", 1e9),
    ("of peak", "share_of_matmul_peak", "{:.0%}"),
    ("GB", "bytes_accessed", 1e9),
    ("of bandwidth", "share_of_bandwidth", "{:.0%}"),
    ("device MiB", "program_bytes", 2**20),
    ("host MiB", "host_peak_bytes_so_far", 2**20),
)


def show(rows: list[dict[str, Any]], about: dict[str, Any], columns=COLUMNS) -> None:
    """A table, then one JSON line per row.

    Args:
        rows: What was measured.
        about: What holds for all rows.
        columns: Title, key, and a format or a divisor.
    """
    cells = [[title for title, _, _ in columns]]
    for row in rows:
        cells.append(
            [
                "-"
                if row[key] is None
                else form.format(row[key])
                if isinstance(form, str)
                else f"{row[key] / form:.1f}"
                for _, key, form in columns
            ]
        )
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    print(" ".join(f"{key}={value}" for key, value in about.items()))
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    for row in rows:
        print(json.dumps({**about, **row}))


def write_hlo(compiled: Any, folder: str, name: str) -> None:
    """The optimised HLO as text."""
    path = pathlib.Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    (path / f"{name}.txt").write_text(compiled.as_text())
