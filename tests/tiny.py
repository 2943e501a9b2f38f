"""The `digits` presets on fewer and smaller records with narrower networks: seconds on a CPU."""

import functools
import pathlib

import jax
import numpy as np

from jaxad import config as configs
from jaxad.data import sources
from jaxad.training import experiment
from jaxad.training import finished as finished_runs

ROOT = pathlib.Path(__file__).resolve().parents[1]
REELS = dict(train_reels=24, validation_reels=4, test_reels=8, crops=2)
SCENES = dict(
    size=(32, 48),
    train_scenes=24,
    validation_scenes=4,
    test_scenes=6,
    digits=(1, 1),
    unseen_digits=(1, 1),
    digit_size=(20, 22),
    shifted_scenes=4,
    outliers=12,
    object_size=(8, 16),
)
EMBEDDED_SCENES = ("digit_scenes", "digit_shifts")
STEPS = dict(deepmil=150, rtfm=150, aux_prototypes=200, fcdd=200)
_RUN = {}


def config(name, preset="digits", **fields):
    """A shrunken preset, locked.

    Args:
        name: Of the system.
        preset: Of its config file.
        fields: Changes, dots as `__`.
    """
    small = configs.load(f"{ROOT}/configs/{name}.py:{preset}")
    with small.unlocked():
        small.data.threads = 1
        source = small.data.source
        for key, value in (SCENES if source.name in EMBEDDED_SCENES else REELS).items():
            if key in source:
                source[key] = value
        for key in ("augment", "finetune_augment"):
            if "crop" in small.method.get(key, ()):
                small.method[key].crop = (32, 48)
        for key, value in dict(features=16, passes=2, members=2).items():
            if key in small.method and isinstance(small.method[key], int):
                small.method[key] = value
        if "dropout_rate" in small.method.get("network", ()) and "members" in small.method:
            small.method.network.dropout_rate = 0.1
        if "width" in small.method.get("network", ()):
            small.method.network.width = 1 / 32
        elif "width" in small.method:
            small.method.width = 1 / 8
        for key, section in small.stages.items():
            configs.override(small, {f"stages.{key}.steps": STEPS.get(name, 40)})
            section.outlier_share = 1.0 if section.outlier_share else 0.0
        if source.name == "digit_shifts":  # So few images and channels need larger steps.
            small.stages.train.optimizer.update(learning_rate=1e-2, cycles=1)
        if name == "feature_norm" or name == "posthoc":
            for section in small.stages.values():
                section.steps = 0
        small.eval.checkpoint = "last"
        small.eval.batch_size = 4
        configs.override(small, {"eval.every_steps": None, "checkpoint.every_steps": None})
        with_run(small)
        configs.override(small, {key.replace("__", "."): v for key, v in fields.items()})
    return small.lock()


def of_scenes(name):
    """Whether a system segments scenes."""
    return configs.load(f"{ROOT}/configs/{name}.py").data.source.name in EMBEDDED_SCENES


def with_run(small):
    """Lets a system that scores runs score the finished one."""
    if "runs" in small.method and _RUN:
        with small.unlocked():
            small.method.runs = (_RUN["folder"],) * len(small.method.runs)
            small.method.num_classes = 8


def finished(tmp_path_factory):
    """The workdir of a finished run, made once; of no steps, as compiling one takes longest."""
    if not _RUN:
        folder = tmp_path_factory.mktemp("closed_set") / "run"
        small = config("closed_set", stages__train__steps=0)
        experiment.run(small, folder, devices=jax.devices()[:1])
        _RUN["folder"] = str(folder)
    return _RUN["folder"]


def given(method, sample):
    """The states of the runs that a method scores."""
    return {name: finished_runs.states(run, sample) for name, run in method.runs.items()}


def splits(name):
    """The splits of a system's shrunken source, opened once."""
    options = dict(config(name).data.source.to_dict())
    return _opened(tuple(sorted(options.items())))


@functools.cache
def _opened(options):
    options = dict(options)
    return sources.open_splits(options.pop("name"), options)


def alone(record, rows=1):
    """A batch whose first row is a record; the others are padding."""
    batch = {
        key: np.zeros((rows, *np.shape(value)), np.asarray(value).dtype)
        for key, value in record.items()
    }
    for key, value in record.items():
        batch[key][0] = value
    batch["valid"] = np.arange(rows) == 0
    batch["index"] = np.zeros(rows, np.int32)
    if "features" in record:
        batch["length"] = np.full(rows, record["features"].shape[1], np.int32)
    return batch
