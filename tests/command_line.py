"""Runs our command lines as a user would: another process, real files, real signals."""

import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]

# Most of the time of the tests goes into compiling programs that run for milliseconds. These two
# make it a third, and the programs hardly slower.
QUICK_TO_COMPILE = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"

# A run of seconds instead of minutes: the same code with smaller numbers.
TINY = (
    "--config.stages.train.steps=12",
    "--config.stages.train.batch_size=8",
    "--config.data.source.train_reels=6",
    "--config.data.source.validation_reels=4",
    "--config.data.source.test_reels=4",
    "--config.data.source.crops=2",
    "--config.log.every_steps=2",
    "--config.eval.every_steps=6",
    "--config.checkpoint.every_steps=4",
)


# The same of segmentation: narrow networks on a few small scenes.
TINY_SCENES = (
    "--config.data.source.size=(32,48)",
    "--config.data.source.digit_size=(16,20)",
    "--config.data.source.object_size=(8,12)",
    "--config.data.source.train_scenes=8",
    "--config.data.source.validation_scenes=4",
    "--config.data.source.test_scenes=6",
    "--config.data.source.outliers=4",
    "--config.log.every_steps=2",
    "--config.eval.batch_size=4",
)
TINY_NETWORK = (
    "--config.stages.train.steps=4",
    "--config.stages.train.batch_size=4",
    "--config.method.network.width=0.03125",
    "--config.method.augment.crop=(32,48)",
    "--config.eval.every_steps=2",
    "--config.checkpoint.every_steps=2",
)
TINY_FINETUNING = (
    "--config.stages.finetune.steps=4",
    "--config.stages.finetune.batch_size=4",
    "--config.method.finetune_augment.crop=(32,48)",
)


# And of the medical systems.
TINY_SCANS = (
    "--config.data.source.size=(32,48)",
    "--config.data.source.digit_size=(16,20)",
    "--config.data.source.train_scenes=8",
    "--config.data.source.validation_scenes=4",
    "--config.data.source.test_scenes=4",
    "--config.data.source.shifted_scenes=3",
    "--config.stages.train.steps=4",
    "--config.stages.train.batch_size=4",
    "--config.method.network.width=0.03125",
    "--config.log.every_steps=2",
    "--config.eval.batch_size=4",
    "--config.eval.every_steps=2",
    "--config.checkpoint.every_steps=2",
)


def environment(devices=1, cache=True):
    """One device by default, and the compilation cache of the tests."""
    own = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "PYTHONPATH")}
    if not cache:
        own["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    return {
        **own,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{QUICK_TO_COMPILE} --xla_force_host_platform_device_count={devices}",
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
        "PYTHONUNBUFFERED": "1",
    }


def start(*arguments, module="jaxad.main", devices=1, cache=True, session=False):
    """Starts a command in the repository's root; with `session`, as head of a process group."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env=environment(devices, cache),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=session,
    )


def run(*arguments, module="jaxad.main", devices=1, timeout=240):
    """Runs a command to its end; gives (status, standard output, standard error)."""
    process = start(*arguments, module=module, devices=devices)
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def wait_for(condition, process, timeout=120):
    """Polls until `condition()` is true or the process ended; gives whether it was."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        if condition():
            return True
        if process.poll() is not None:
            return condition()
        time.sleep(0.01)
    raise TimeoutError("The condition did not come true.")
