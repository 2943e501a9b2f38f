"""Scoring: time per batch and per snippet, for a list of video lengths.

python -m benchmarks.score --config=configs/rtfm.py:ucf_crime --batch_sizes=1 --lengths=32,128,512
"""

from absl import app, flags

from benchmarks import profile
from jaxad import command_line

profile.define_flags(batch_sizes="1,8")
_LENGTHS = flags.DEFINE_list("lengths", ["32", "128"], "Snippets per video.")


def main(_) -> None:
    with command_line.failures("the benchmark"):
        profile.virtual_devices()
        benchmark()


def benchmark() -> None:
    """Prints a row per batch size."""
    import jax

    from benchmarks import machine
    from jaxad.training import planning, spmd

    config = flags.FLAGS.config
    mapper = spmd.Mapper(config.spmd)
    method = planning.build(config, dict.fromkeys(config.stages, 1000))
    shapes = profile.record_shapes(config)
    peak, bandwidth = machine.matmul_peak(config.dtype), machine.memory_bandwidth()
    states: dict = {}
    for name, stage in method.stages.items():
        sample = profile.random_batch(shapes, 2)
        states[name] = mapper.replicate(jax.jit(stage.init)(jax.random.key(0), sample, states))
    rows = []
    for length in map(int, _LENGTHS.value):
        for size in profile.batch_sizes():
            mapper.check_batch("batch_sizes", size)
            batch = mapper.put(profile.random_batch(shapes, size, length))
            score = mapper.score(method.score)
            row, compiled = profile.measure(
                lambda score=score, batch=batch: score.lower(states, batch).compile(),
                lambda compiled, batch=batch: jax.block_until_ready(compiled(states, batch)),
                rows=size,
                repeats=flags.FLAGS.repeats,
                peak=peak,
                bandwidth=bandwidth,
                devices=mapper.size,
            )
            rows.append({"length": length, **row, "snippets_per_s": size * length / row["step_s"]})
            if flags.FLAGS.hlo:
                name = f"{config.method.name}-score-{length}-{size}"
                profile.write_hlo(compiled, flags.FLAGS.hlo, name)
    if flags.FLAGS.trace:
        with jax.profiler.trace(flags.FLAGS.trace):
            jax.block_until_ready(compiled(states, batch))
    about = {"benchmark": "score", "method": config.method.name, "dtype": config.dtype}
    peaks = {"matmul_peak_gflops": round(peak / 1e9, 1), "bandwidth_gbs": round(bandwidth / 1e9, 1)}
    profile.show(rows, {**about, **peaks, **machine.description()})


if __name__ == "__main__":
    app.run(main, flags_parser=command_line.parse)
