"""Time, FLOP/s, bytes/s and memory of losses and scores at the papers' sizes, and how they grow.

    python -m benchmarks.losses --only=pebal,ms_ssim

Each case runs at a quarter, a half and the whole of its size; losses with their gradient. "growth"
is the exponent b of cost ~ size^b from one row to the next: 1 where the mathematics are linear in
the size, 2 where every row meets every other. FLOPs and bytes are XLA's counts of the compiled
program, in which a loop's body counts once: cases that loop give the FLOPs of their equation.
"""

import math
from typing import Any

import jax
from absl import app, flags

from benchmarks import machine, profile
from benchmarks.loss_cases import CASES, Case
from jaxad import command_line
from jaxad.errors import InputError

_ONLY = flags.DEFINE_list("only", [], "Names of cases; all by default.")
_REPEATS = flags.DEFINE_integer("repeats", 3, "Timed calls per row, after one to warm up.")
_SCALE = flags.DEFINE_float("scale", 1.0, "Share of each case's size, for a quick look.")


def main(_) -> None:
    with command_line.failures("the benchmark"):
        benchmark()


def benchmark() -> None:
    """Prints a table of rows, then a JSON line for each."""
    unCASES = sorted(set(_ONLY.value) - CASES.keys())
    if unCASES:
        raise InputError(f"--only={','.join(unCASES)}; expected some of {', '.join(CASES)}.")
    if not _SCALE.value > 0.0:
        raise InputError(f"--scale={_SCALE.value}; expected a number above 0.")
    peak, bandwidth = machine.matmul_peak("float32"), machine.memory_bandwidth()
    rows = []
    for name in _ONLY.value or CASES:
        before: dict[str, Any] = {}
        for share in (0.25, 0.5, 1.0):
            case = CASES[name]
            size = max(round(share * _SCALE.value * case.size), 1)
            if before.get("batch_size") == size:
                continue
            row = {"case": name, "unit": case.unit, **measured(case, size, peak, bandwidth)}
            rows.append({**row, **growth(before, row)})
            before = row
    peaks = {"matmul_peak_gflops": round(peak / 1e9, 1), "bandwidth_gbs": round(bandwidth / 1e9, 1)}
    profile.show(rows, {"benchmark": "losses", **peaks, **machine.description()}, COLUMNS)


def measured(case: Case, size: int, peak: float, bandwidth: float) -> dict[str, Any]:
    """One row of the table."""
    if case.on_host:
        return measured_on_host(case, size, bandwidth)
    function, arguments = case.build(size)
    if case.gradient:
        function = jax.value_and_grad(function)
    compiled_box = jax.jit(function)
    row, _ = profile.measure(
        lambda: compiled_box.lower(*arguments).compile(),
        lambda compiled: jax.block_until_ready(compiled(*arguments)),
        rows=size,
        repeats=_REPEATS.value,
        peak=peak,
        bandwidth=bandwidth,
        devices=1,
    )
    if case.flops is not None:
        row["flops"] = case.flops(size)
        row["flops_per_s"] = row["flops"] / row["step_s"]
        row["share_of_matmul_peak"] = row["flops_per_s"] / peak
    return row


def measured_on_host(case: Case, size: int, bandwidth: float) -> dict[str, Any]:
    """One row of a NumPy function: XLA counts nothing, bytes are those of the arguments."""
    function, arguments = case.build(size)
    times = machine.seconds(lambda: function(*arguments), repeats=_REPEATS.value)
    median, low, high = machine.spread(times)
    touched = sum(array.nbytes for array in arguments)
    return {
        "batch_size": size,
        "compile_s": 0.0,
        "step_s": median,
        "step_s_min": low,
        "step_s_max": high,
        "flops": None,
        "flops_per_s": None,
        "share_of_matmul_peak": None,
        "bytes_accessed": touched,
        "share_of_bandwidth": touched / median / bandwidth,
        "program_bytes": None,
        "host_peak_bytes_so_far": machine.host_peak_bytes(),
    }


def growth(before: dict[str, Any], row: dict[str, Any]) -> dict[str, float | None]:
    """Exponents of time and of the memory that the program needs, against the row before."""
    if not before:
        return {"time_growth": None, "memory_growth": None}
    step = math.log(row["batch_size"] / before["batch_size"])
    return {
        f"{name}_growth": row[key] and math.log(row[key] / before[key]) / step
        for name, key in (("time", "step_s"), ("memory", "program_bytes"))
    }


COLUMNS = (
    ("case", "case", "{}"),
    ("size", "batch_size", "{:d}"),
    ("of", "unit", "{}"),
    ("compile s", "compile_s", "{:.1f}"),
    ("s", "step_s", "{:.4f}"),
    ("GFLOP", "flops", 1e9),
    ("GFLOP/s", "flops_per_s", 1e9),
    ("of peak", "share_of_matmul_peak", "{:.0%}"),
    ("GB", "bytes_accessed", 1e9),
    ("of bandwidth", "share_of_bandwidth", "{:.0%}"),
    ("device MiB", "program_bytes", 2**20),
    ("host MiB", "host_peak_bytes_so_far", 2**20),
    ("time growth", "time_growth", "{:.2f}"),
    ("memory growth", "memory_growth", "{:.2f}"),
)

if __name__ == "__main__":
    app.run(main, flags_parser=command_line.parse)
