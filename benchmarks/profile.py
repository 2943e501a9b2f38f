"""Times one compiled program and prints it as a row: the common part of the benchmarks."""

import functools
import json
import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
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
    flags.DEFINE_list("sizes", [], "Of scenes: height x width, such as 64x96,128x192.")
    flags.DEFINE_integer(
        "repeats",
        5,
        "Timed calls per row, after one to warm up; 0: compile only, in little memory.",
    )
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


def sizes() -> list[tuple[int, int]]:
    """Heights and widths asked for, the smallest scenes first."""
    found = [tuple(size.split("x")) for size in flags.FLAGS.sizes]
    if not all(len(size) == 2 and all(n.isdigit() and int(n) for n in size) for size in found):
        raise InputError(f"--sizes={flags.FLAGS.sizes}; expected such as 64x96,128x192.")
    return sorted(((int(h), int(w)) for h, w in found), key=lambda size: size[0] * size[1])


def prepare() -> None:
    """Checks flags, and applies --devices; before JAX is used for the first time."""
    if flags.FLAGS.repeats < 0 or (flags.FLAGS.trace and not flags.FLAGS.repeats):
        least = 1 if flags.FLAGS.trace else 0
        raise InputError(f"--repeats={flags.FLAGS.repeats}; expected {least} or more.")
    if flags.FLAGS.devices:
        option = f"--xla_force_host_platform_device_count={flags.FLAGS.devices}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {option}"
        os.environ["JAX_PLATFORMS"] = "cpu"


def limits(dtype: str) -> dict[str, float]:
    """`peak` and `bandwidth` of this machine for `measure`; without repeats nothing needs them."""
    from benchmarks import machine

    if not flags.FLAGS.repeats:
        return {"peak": float("inf"), "bandwidth": float("inf")}
    return {"peak": machine.matmul_peak(dtype), "bandwidth": machine.memory_bandwidth()}


def rounded(limits: Mapping[str, float]) -> dict[str, float]:
    """The same for a table, as far as they were measured."""
    titles = {"peak": "matmul_peak_gflops", "bandwidth": "bandwidth_gbs"}
    measured = {name: value for name, value in limits.items() if value < float("inf")}
    return {titles[name]: round(value / 1e9, 1) for name, value in measured.items()}


def starter(mapper: Any) -> Callable[..., Any]:
    """`(init, *arguments) -> state` for `first_states`, as --repeats asks for.

    On the devices of the mapper; without repeats only shapes and types.
    """
    import jax

    if not flags.FLAGS.repeats:
        return jax.eval_shape
    return lambda init, *arguments: mapper.replicate(jax.jit(init)(*arguments))


def first_states(
    method: Any, sample: Mapping[str, Any], start: Callable[..., Any], last: str | None = None
) -> dict[str, Any]:
    """The states of the stages before their first step, by name.

    Args:
        method: A system; finished runs that it needs are read.
        sample: Two records.
        start: `(init, *arguments) -> state`.
        last: Stage to end with; None: that of the method.
    """
    import jax

    from jaxad.training import finished

    done = {name: finished.states(run, sample) for name, run in method.runs.items()}
    found: dict[str, Any] = {}
    for name, stage in method.stages.items():
        found[name] = start(stage.init, jax.random.key(0), sample, {**done, **found})
        if name == last:
            break
    return found


def work(record: Mapping[str, Any], rows: int) -> dict[str, int]:
    """What a batch of random records holds, by unit."""
    if "features" in record:
        return {"videos": rows, "snippets": rows * record["features"].shape[1]}
    if "image" in record:
        height, width, _ = record["image"].shape
        return {"images": rows, "pixels": rows * height * width}
    return {"examples": rows}


def measure(
    compile_it: Callable[[], Any],
    call: Callable[[Any], Any],
    *,
    rows: int,
    repeats: int,
    peak: float,
    bandwidth: float,
    devices: int,
    of: Mapping[str, int] | None = None,
) -> tuple[dict[str, Any], Any]:
    """Compiles, warms up, times.

    Args:
        compile_it: Gives the compiled program.
        call: Runs it once and waits.
        rows: Examples per call.
        repeats: Timed calls; 0: it is not run, and what needs the time is None.
        peak: FLOP/s of one device at best.
        bandwidth: Bytes/s of one device at best.
        devices: How many it runs on; virtual ones share the peak of the machine.
        of: What a call works through, by unit.
    """
    import jax

    from benchmarks import machine

    start = time.perf_counter()
    compiled = compile_it()
    compile_seconds = time.perf_counter() - start
    times = machine.seconds(lambda: call(compiled), repeats=repeats) if repeats else []
    median, low, high = machine.spread(times) if times else (None, None, None)
    cost, memory = compiled.cost_analysis() or {}, compiled.memory_analysis()
    flops, touched = cost.get("flops", 0.0) * devices, cost.get("bytes accessed", 0.0) * devices
    machines = 1 if jax.devices()[0].platform == "cpu" else devices
    per_second = functools.partial(_rate, seconds=median)
    row = {
        "batch_size": rows,
        "compile_s": compile_seconds,
        "step_s": median,
        "step_s_min": low,
        "step_s_max": high,
        **{f"{unit}_per_s": per_second(count) for unit, count in (of or {}).items()},
        "flops": flops,
        "flops_per_s": per_second(flops),
        "share_of_matmul_peak": per_second(flops / (peak * machines)),
        "bytes_accessed": touched,
        "share_of_bandwidth": per_second(touched / (bandwidth * machines)),
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


def _rate(amount: float, seconds: float | None) -> float | None:
    return None if seconds is None else amount / seconds


COLUMNS = (
    ("size", "size", "{}"),
    ("snippets", "length", "{:d}"),
    ("batch", "batch_size", "{:d}"),
    ("compile s", "compile_s", "{:.1f}"),
    ("step s", "step_s", "{:.4f}"),
    ("min", "step_s_min", "{:.4f}"),
    ("max", "step_s_max", "{:.4f}"),
    ("examples/s", "examples_per_s", "{:.4g}"),
    ("videos/s", "videos_per_s", "{:.4g}"),
    ("snippets/s", "snippets_per_s", "{:.4g}"),
    ("images/s", "images_per_s", "{:.4g}"),
    ("Mpixel/s", "pixels_per_s", 1e6),
    ("GFLOP", "flops", 1e9),
    ("GFLOP/s", "flops_per_s", 1e9),
    ("of peak", "share_of_matmul_peak", "{:.0%}"),
    ("GB", "bytes_accessed", 1e9),
    ("of bandwidth", "share_of_bandwidth", "{:.0%}"),
    ("device MiB", "program_bytes", 2**20),
    ("of that temp", "temp_bytes", 2**20),
    ("host MiB", "host_peak_bytes_so_far", 2**20),
)


def show(
    rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any], columns: Sequence[tuple] = COLUMNS
) -> None:
    """A table, then one JSON line per row.

    Args:
        rows: What was measured, the same in each.
        about: What holds for all rows.
        columns: Title, key, and a format or a divisor; keys that rows lack are left out.
    """
    columns = [column for column in columns if column[1] in rows[0]]
    cells = [[title for title, _, _ in columns]]
    cells += [[_cell(row[key], form) for _, key, form in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    print(" ".join(f"{key}={value}" for key, value in about.items()))
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    for row in rows:
        print(json.dumps({**about, **row}))


def _cell(value: Any, form: str | float) -> str:
    if value is None:
        return "-"
    return form.format(value) if isinstance(form, str) else f"{value / form:.1f}"


def write_hlo(compiled: Any, folder: str, name: str) -> None:
    """The optimised HLO as text."""
    path = pathlib.Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    (path / f"{name}.txt").write_text(compiled.as_text())
