"""Scoring: time per batch, per snippet and per pixel, by lengths of videos or sizes of scenes.

    python -m benchmarks.score --config=configs/rtfm.py:ucf_crime --batch_sizes=1 --lengths=32,128
    python -m benchmarks.score --config=configs/closed_set.py --sizes=64x96,128x192
    python -m benchmarks.score --config=configs/closed_set.py:fishyscapes_static_wide
    --batch_sizes=1 --sizes=1024x2048 --repeats=0

Records and weights are random, but for systems that score with the networks of finished runs, which
must be there. FLOPs and bytes are XLA's own counts of the compiled program, in which the body of a
loop (strips of rows, windows, passes with dropout) counts once; `--repeats=0` compiles alone, for
its account of memory.
"""

from typing import Any

from absl import app, flags

from benchmarks import profile
from jaxad import command_line
from jaxad.errors import InputError

profile.define_flags(batch_sizes="1,8")
_LENGTHS = flags.DEFINE_list("lengths", [], "Snippets per video.")


def main(_) -> None:
    with command_line.failures("the benchmark"):
        profile.prepare()
        benchmark()


def benchmark() -> None:
    """Prints a row per length or size, and batch size."""
    import jax

    from benchmarks import machine, random_records
    from jaxad.training import planning, spmd

    config = flags.FLAGS.config
    base, classes = random_records.shapes(config), config.method.get("num_classes", 0)
    records = [random_records.with_length(base, length) for length in lengths()]
    records += [random_records.with_size(base, size) for size in profile.sizes()]
    mapper = spmd.Mapper(config.spmd)
    method = planning.build(config, dict.fromkeys(config.stages, 1000))
    sample = random_records.batch(base, 2, classes=classes)
    states = profile.first_states(method, sample, profile.starter(mapper))
    limits = profile.limits(config.dtype)
    rows = []
    for record in records or [base]:
        for size in profile.batch_sizes():
            mapper.check_batch("batch_sizes", size)
            batch = mapper.put(seen(random_records.batch(record, size, classes=classes)))
            score = mapper.score(method.score)
            row, compiled = profile.measure(
                lambda score=score, batch=batch: score.lower(states, batch).compile(),
                lambda compiled, batch=batch: jax.block_until_ready(compiled(states, batch)),
                rows=size,
                repeats=flags.FLAGS.repeats,
                devices=mapper.size,
                of=profile.work(record, size),
                **limits,
            )
            rows.append({**described(record), **row})
            if flags.FLAGS.hlo:
                name = f"{config.method.name}-score-{next(iter(described(record).values()))}-{size}"
                profile.write_hlo(compiled, flags.FLAGS.hlo, name)
    if flags.FLAGS.trace:
        with jax.profiler.trace(flags.FLAGS.trace):
            jax.block_until_ready(compiled(states, batch))
    about = {"benchmark": "score", "method": config.method.name, "dtype": config.dtype}
    profile.show(rows, {**about, **profile.rounded(limits), **machine.description()})


def lengths() -> list[int]:
    """Those asked for, the smallest first."""
    if not all(length.isdigit() and int(length) for length in _LENGTHS.value):
        raise InputError(f"--lengths={_LENGTHS.value}; expected whole numbers above 0.")
    return sorted(map(int, _LENGTHS.value))


def seen(batch: dict[str, Any]) -> dict[str, Any]:
    """What a method sees of a test batch: truth per pixel stays on the host."""
    from jaxad.evaluation import pixels

    return {name: array for name, array in batch.items() if name not in pixels.TRUTH}


def described(record: Any) -> dict[str, Any]:
    """What a row says of its records."""
    if "features" in record:
        return {"length": record["features"].shape[1]}
    return {"size": "x".join(map(str, record["image"].shape[:2]))}


if __name__ == "__main__":
    app.run(main, flags_parser=command_line.parse)
