"""How fast grain delivers batches, by number of readers, and how long a training step waits for
them.

    python -m benchmarks.input_pipeline --config=configs/rtfm.py
    python -m benchmarks.input_pipeline --config=configs/rtfm.py:ucf_crime --videos=40
    --batch_size=8
    python -m benchmarks.input_pipeline --config=configs/closed_set.py --batch_size=8

`--videos` writes that many random videos in the published layout to a temporary folder and reads
those, so that presets of data sets that are not here can be measured; half of them are anomalous.
`waiting_share` is the part of a step by which reading makes it longer than the same step on one
batch that is there.
"""

import itertools
import json
import pathlib
import tempfile
import time

from absl import app, flags
from ml_collections import config_flags

from benchmarks import profile
from jaxad import command_line
from jaxad.errors import InputError

config_flags.DEFINE_config_file("config", None, "Config file, and preset after a colon.")
flags.mark_flag_as_required("config")
_THREADS = flags.DEFINE_list("threads", ["1", "2", "4"], "Reader threads, one row each.")
_WORKERS = flags.DEFINE_list("workers", ["1"], "Reader processes, one row each.")
_BATCHES = flags.DEFINE_integer("batches", 20, "Batches per row, after two to warm up.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 0, "0: that of the config.")
_STEPS = flags.DEFINE_integer("steps", 8, "Training steps to measure waiting in; 0 leaves it out.")
_VIDEOS = flags.DEFINE_integer("videos", 0, "Random videos to write and read; 0 reads the source.")
_STAGE = flags.DEFINE_string("stage", "train", "Whose batches are read.")
_SNIPPETS = flags.DEFINE_integer("snippets", 240, "Snippets of each of them on average.")


def main(_) -> None:
    config = flags.FLAGS.config
    with command_line.failures("the benchmark"), tempfile.TemporaryDirectory() as folder:
        if _VIDEOS.value:
            write_videos(config, pathlib.Path(folder))
        measure(config)


def write_videos(config, folder: pathlib.Path) -> None:
    """Random features in the layout "per_video", lists, and labels by line number."""
    import numpy as np

    from jaxad.data import sources

    options = dict(config.data.source.to_dict())
    record = sources.record_shapes(options.pop("name"), options)
    if "features" not in record:
        raise InputError(
            f"--videos={_VIDEOS.value} writes features; expected 0 for {list(record)}."
        )
    shape = record["features"].shape
    rng = np.random.default_rng(0)
    for part, count in (("train", _VIDEOS.value), ("test", 2)):
        names = [f"{part}{i}_i3d.npy" for i in range(count)]
        for name in names:
            length = int(rng.integers(_SNIPPETS.value // 2, _SNIPPETS.value * 3 // 2))
            array = rng.random((length, shape[0], shape[2]), np.float32)
            np.save(folder / name, array)
        (folder / f"{part}.list").write_text("\n".join(names) + "\n")
    with config.unlocked():
        config.data.source = dict(
            name="snippet_features",
            root=str(folder),
            train_list=str(folder / "train.list"),
            test_list=str(folder / "test.list"),
            label_rule="first_n",
            train_anomalous=_VIDEOS.value // 2,
            test_anomalous=1,
            validation_fraction=0.0,
            segments=shape[1],
        )


def measure(config) -> None:
    """Prints one row per number of readers."""
    from jaxad.data import pipeline, segment_places, sources
    from jaxad.training import planning, spmd

    if _STAGE.value not in config.stages:
        raise InputError(f"--stage={_STAGE.value!r}; expected one of {list(config.stages)}.")
    options = dict(config.data.source.to_dict())
    start = time.perf_counter()
    splits = sources.open_splits(options.pop("name"), options)
    print(f"index of {len(splits['train'])} records read in {time.perf_counter() - start:.2f} s")
    section = config.stages[_STAGE.value]
    size = _BATCH_SIZE.value or section.batch_size
    order = pipeline.Order(
        size,
        sampler=section.sampler,
        outlier_share=section.outlier_share,
        class_uniform_share=section.class_uniform_share,
    )
    training = pipeline.Training(
        splits["train"],
        splits["outliers"] if order.outlier_share else None,
        segment_places.by_class(splits["train"]) if order.class_uniform_share else (),
    )
    mapper = spmd.Mapper(config.spmd)
    step = None
    if _STEPS.value:
        method = planning.build(config, dict.fromkeys(config.stages, 1000))
        step, state = first_step(method, mapper, pipeline.example(splits["train"]))
    rows = [("threads", int(n)) for n in _THREADS.value]
    rows += [("workers", int(n)) for n in _WORKERS.value]
    for kind, count in rows:
        reading = pipeline.Reading(
            threads=count if kind == "threads" else 1,
            workers=count if kind == "workers" else 0,
            prefetch=max(count, config.data.prefetch),
        )
        batches = pipeline.training_batches(training, order, reading=reading)
        first = next(batches)
        for _ in range(reading.prefetch + count):  # What was read ahead before the clock starts.
            next(batches)
        start = time.perf_counter()
        for _ in range(_BATCHES.value):
            next(batches)
        seconds = (time.perf_counter() - start) / _BATCHES.value
        row = {
            "benchmark": "input_pipeline",
            kind: count,
            "batch_size": size,
            "batch_mib": round(sum(a.nbytes for a in first.values()) / 2**20, 1),
            "batch_s": round(seconds, 5),
            "examples_per_s": round(size / seconds, 1),
        }
        if step is not None:
            steps = max(_STEPS.value, 4 * reading.prefetch)
            state, alone = timed_steps(mapper, *step, state, itertools.repeat(first), steps)
            for _ in range(reading.prefetch + count):  # Read ahead during the steps before.
                next(batches)
            state, fed = timed_steps(mapper, *step, state, batches, steps)
            share = max(1.0 - alone / fed, 0.0)
            row |= {
                "step_alone_s": round(alone, 5),
                "step_fed_s": round(fed, 5),
                "waiting_share": round(share, 4),
            }
        print(json.dumps(row))


def first_step(method, mapper, sample):
    """The update of the stage with its key, and the stage's first state."""
    import jax

    if method.stages[_STAGE.value].update is None:
        raise InputError(f"--stage={_STAGE.value!r} has no steps; expected --steps=0 beside it.")

    def start(init, *arguments):
        return mapper.replicate(jax.jit(init)(*arguments))

    state = profile.first_states(method, sample, start, _STAGE.value)[_STAGE.value]
    update = mapper.update(method.stages[_STAGE.value].update)
    return (update, mapper.replicate(jax.random.key(1))), state


def timed_steps(mapper, update, key, state, batches, steps):
    """State and mean seconds per step, in the order of the training loop.

    The mean, as readers that are too slow show in a stall now and then, which a median would hide.
    """
    import jax

    batch = mapper.put(next(batches))
    state, metrics = update(state, batch, key)
    jax.block_until_ready(metrics)
    start = time.perf_counter()
    for _ in range(steps):
        state, metrics = update(state, batch, key)
        batch = mapper.put(next(batches))
        jax.block_until_ready(metrics)
    return state, (time.perf_counter() - start) / steps


if __name__ == "__main__":
    app.run(main, flags_parser=command_line.parse)
