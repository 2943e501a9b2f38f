"""Compile and step time of a training stage, its FLOP/s and share of the measured peak, its memory.

    python -m benchmarks.train_step --config=configs/rtfm.py:ucf_crime --batch_sizes=4,8
    python -m benchmarks.train_step --config=configs/pebal.py --stage=finetune --sizes=64x96,128x192
    python -m benchmarks.train_step --config=configs/pebal.py:fishyscapes_static_wide
    --stage=finetune --batch_sizes=1 --repeats=0

Records are random: no data set is needed. `--sizes` are those of the crops that a segmentation
system trains on, and the scenes that they are cut from grow with them. FLOPs and bytes are XLA's
own counts of the compiled program, in which the body of a loop counts once; `--repeats=0` compiles
alone, for its account of memory.
"""

from typing import Any

from absl import app, flags

from benchmarks import profile
from jaxad import command_line
from jaxad.errors import InputError

profile.define_flags(batch_sizes="4,8,16")
_STAGE = flags.DEFINE_string("stage", "train", "Which stage of the method.")


def main(_) -> None:
    with command_line.failures("the benchmark"):
        profile.prepare()
        benchmark()


def benchmark() -> None:
    """Prints a row per size of the crops and batch size."""
    from benchmarks import machine, random_records

    config, stage = flags.FLAGS.config, _STAGE.value
    if stage not in config.stages:
        raise InputError(f"--stage={stage!r}; expected one of {list(config.stages)}.")
    variants = [random_records.with_crop(config, stage, size) for size in profile.sizes()]
    variants = variants or [(config, random_records.shapes(config, stage))]
    limits = profile.limits(config.dtype)
    rows = []
    for place, (config, record) in enumerate(variants):
        for batch_size in profile.batch_sizes():
            last = place == len(variants) - 1 and batch_size == profile.batch_sizes()[-1]
            trace = flags.FLAGS.trace if last else None
            row = measured(config, record, batch_size, trace, **limits)
            rows.append({**described(config, record), **row})
    about = {"benchmark": "train_step", "method": config.method.name, "stage": stage}
    about |= {"dtype": config.dtype, **profile.rounded(limits), **machine.description()}
    profile.show(rows, about)


def measured(
    config: Any, record: Any, batch_size: int, trace: str | None, **limits: float
) -> dict[str, Any]:
    """One row of the table.

    Args:
        config: Of the run.
        record: Shapes and types of one record.
        batch_size: Over all devices.
        trace: Folder for a profiler trace of one more step.
        limits: See `profile.limits`.
    """
    import jax

    from benchmarks import random_records
    from jaxad.training import planning, spmd

    stage, classes = _STAGE.value, config.method.get("num_classes", 0)
    mapper = spmd.Mapper(config.spmd)
    mapper.check_batch("batch_sizes", batch_size)
    method = planning.build(config, dict.fromkeys(config.stages, 1000))
    if method.stages[stage].update is None:
        raise InputError(f"--stage={stage!r} of {config.method.name} has no steps: it only fits.")
    sample = random_records.batch(record, 2, classes=classes)
    start = profile.starter(mapper)
    state = profile.first_states(method, sample, start, stage)[stage]
    batch = mapper.put(random_records.batch(record, batch_size, classes=classes))
    update, key = mapper.update(method.stages[stage].update), mapper.replicate(jax.random.key(1))
    box = [state]  # Each step takes the state of the one before, which it overwrites.

    def call(compiled):
        box[0], metrics = compiled(box[0], batch, key)
        return jax.block_until_ready((box[0], metrics))

    row, compiled = profile.measure(
        lambda: update.lower(box[0], batch, key).compile(),
        call,
        rows=batch_size,
        repeats=flags.FLAGS.repeats,
        devices=mapper.size,
        of=work(config, record, batch_size),
        **limits,
    )
    if flags.FLAGS.hlo:
        what = [config.method.name, stage, described(config, record).get("size"), batch_size]
        name = "-".join(str(part) for part in what if part is not None)
        profile.write_hlo(compiled, flags.FLAGS.hlo, name)
    if trace:
        with jax.profiler.trace(trace):
            call(compiled)
    return row


def described(config: Any, record: Any) -> dict[str, Any]:
    """What a row says of its records."""
    from benchmarks import random_records

    if "image" not in record:
        return {name: list(shape.shape) for name, shape in record.items() if shape.shape}
    crop = random_records.crop_of(config, _STAGE.value)
    return {"size": "x".join(map(str, crop)), "image": list(record["image"].shape)}


def work(config: Any, record: Any, rows: int) -> dict[str, int]:
    """What a batch holds, by unit; of scenes the pixels of the crops."""
    from benchmarks import random_records

    if "image" in record:
        crop = random_records.crop_of(config, _STAGE.value)
        record = random_records.with_size(record, crop)
    return profile.work(record, rows)


if __name__ == "__main__":
    app.run(main, flags_parser=command_line.parse)
