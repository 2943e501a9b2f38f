"""Compile and step time of a training stage, its FLOP/s and share of the measured peak, its memory.

    python -m benchmarks.train_step --config=configs/rtfm.py:ucf_crime --batch_sizes=4,8

Features are random: no data set is needed. FLOPs and bytes are XLA's own counts of the compiled
program.
"""

from absl import app, flags

from benchmarks import profile
from jaxad import command_line
from jaxad.errors import InputError

profile.define_flags(batch_sizes="4,8,16")
_STAGE = flags.DEFINE_string("stage", "train", "Which stage of the method.")


def main(_) -> None:
    with command_line.failures("the benchmark"):
        profile.virtual_devices()
        benchmark()


def benchmark() -> None:
    """Prints a row per batch size."""
    import jax

    from benchmarks import machine
    from jaxad.training import planning, spmd

    config, name = flags.FLAGS.config, _STAGE.value
    if name not in config.stages:
        raise InputError(f"--stage={name!r}; expected one of {list(config.stages)}.")
    mapper = spmd.Mapper(config.spmd)
    method = planning.build(config, dict.fromkeys(config.stages, 1000))
    stage, shapes = method.stages[name], profile.record_shapes(config)
    peak, bandwidth = machine.matmul_peak(config.dtype), machine.memory_bandwidth()
    rows = []
    for size in profile.batch_sizes():
        mapper.check_batch("batch_sizes", size)
        sample = profile.random_batch(shapes, 2)
        done: dict = {}
        for earlier in method.stages:  # Each sees those before it, down to the one measured.
            state = jax.jit(method.stages[earlier].init)(jax.random.key(0), sample, done)
            done[earlier] = state
            if earlier == name:
                break
        state = mapper.replicate(state)
        batch = mapper.put(profile.random_batch(shapes, size))
        update, key = mapper.update(stage.update), mapper.replicate(jax.random.key(1))
        box = [state]

        def call(compiled, box=box, batch=batch, key=key):
            box[0], metrics = compiled(box[0], batch, key)
            jax.block_until_ready((box[0], metrics))

        row, compiled = profile.measure(
            lambda update=update, box=box, batch=batch, key=key: update.lower(
                box[0], batch, key
            ).compile(),
            call,
            rows=size,
            repeats=flags.FLAGS.repeats,
            peak=peak,
            bandwidth=bandwidth,
            devices=mapper.size,
        )
        rows.append(row)
        if flags.FLAGS.hlo:
            profile.write_hlo(compiled, flags.FLAGS.hlo, f"{config.method.name}-{name}-{size}")
    if flags.FLAGS.trace:
        with jax.profiler.trace(flags.FLAGS.trace):
            call(compiled)
    about = {"benchmark": "train_step", "method": config.method.name, "dtype": config.dtype}
    features = {k: list(v.shape) for k, v in shapes.items() if v.shape}
    peaks = {"matmul_peak_gflops": round(peak / 1e9, 1), "bandwidth_gbs": round(bandwidth / 1e9, 1)}
    profile.show(rows, {**about, **features, **peaks, **machine.description()})


if __name__ == "__main__":
    app.run(main, flags_parser=command_line.parse)
