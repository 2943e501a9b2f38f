"""How fast grain delivers batches, by number of readers, and how long a training step waits for
them.

    python -m benchmarks.input_pipeline --config=configs/rtfm.py
    python -m benchmarks.input_pipeline --config=configs/rtfm.py:ucf_crime --videos=40
    --batch_size=8

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

from jaxad import command_line

config_flags.DEFINE_config_file("config", None, "Config file, and preset after a colon.")
flags.mark_flag_as_required("config")
_THREADS = flags.DEFINE_list("threads", ["1", "2", "4"], "Reader threads, one row each.")
_WORKERS = flags.DEFINE_list("workers", ["1"], "Reader processes, one row each.")
_BATCHES = flags.DEFINE_integer("batches", 20, "Batches per row, after two to warm up.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 0, "0: that of the config.")
_STEPS = flags.DEFINE_integer("steps", 8, "Training steps to measure waiting in; 0 leaves it out.")
_VIDEOS = flags.DEFINE_integer("videos", 0, "Random videos to write and read; 0 reads the source.")
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
    shape = sources.record_shapes(options.pop("name"), options)["features"].shape
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
    import jax

    from jaxad.data import pipeline, sources
    from jaxad.training import planning, spmd

    options = dict(config.data.source.to_dict())
    start = time.perf_counter()
    train = sources.open_splits(options.pop("name"), options)["train"]
    print(f"index of {len(train)} records read in {time.perf_counter() - start:.2f} s")
    name = next(iter(config.stages))
    size, sampler = _BATCH_SIZE.value or config.stages[name].batch_size, config.stages[name].sampler
    mapper = spmd.Mapper(config.spmd)
    step = None
    if _STEPS.value:
        method = planning.build(config, dict.fromkeys(config.stages, 1000))
        stage, sample = method.stages[name], pipeline.example(train)
        state = mapper.replicate(jax.jit(stage.init)(jax.random.key(0), sample, {}))
        update, key = mapper.update(stage.update), mapper.replicate(jax.random.key(1))
        step = (update, key)
    rows = [("threads", int(n)) for n in _THREADS.value]
    rows += [("workers", int(n)) for n in _WORKERS.value]
    for kind, count in rows:
        reading = pipeline.Reading(
            threads=count if kind == "threads" else 1,
            workers=count if kind == "workers" else 0,
            prefetch=max(count, config.data.prefetch),
        )
        batches = pipeline.training_batches(
            pipeline.Training(train), pipeline.Order(size, 0, sampler), reading=reading
        )
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
