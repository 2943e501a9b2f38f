"""The workdir of a run: whose it is, of which config, and whether it is finished."""

import contextlib
import json
import logging
import pathlib
import shutil
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import ml_collections

from jaxad import config as configs
from jaxad.data.split import Split
from jaxad.errors import InputError
from jaxad.files import write_atomically
from jaxad.training import lock, logs

log = logging.getLogger(__name__)

# Fields that change how a run goes about its work, not what comes out. The data may have moved:
# what they hold is compared with the fingerprint in each checkpoint.
_HARMLESS = {
    "checkpoint.keep",
    "data.max_skips",
    "data.prefetch",
    "data.source.root",
    "data.threads",
    "data.workers",
    "eval.checkpoint",
    "eval.save_maps",
}


def check(workdir: pathlib.Path, config: ml_collections.ConfigDict, *, mode: str) -> None:
    """Refuses a workdir in which a run with another config has begun.

    Raises:
        InputError: Names the fields that differ; or, with `mode` "eval", says that nothing is
            trained.
    """
    path = workdir / "config.json"
    begun = _begun(workdir)
    if mode == "eval" and not (begun and path.exists()):
        raise InputError(f"--mode=eval needs a trained run, and there is none in {workdir}.")
    if not begun or not path.exists():
        return
    theirs = _read(path, "a config")
    lines = {
        name: line
        for line in configs.difference(theirs, _json(config))
        if (name := line.partition(":")[0]) not in _HARMLESS
    }
    if lines:
        raise InputError(
            f"{workdir} belongs to a run with another config: {'; '.join(lines.values())}. Use "
            "another --workdir, or --fresh to start over (the old one is moved aside)."
        )


def result(workdir: pathlib.Path, which: str) -> dict[str, Any] | None:
    """The test row of a finished run, or None: its report is written last."""
    if not (workdir / "report" / "index.html").exists():
        return None
    rows = [row for row in logs.read_rows(workdir / "metrics.jsonl") if row["split"] == "test"]
    return rows[-1] if rows and rows[-1]["checkpoint"] == which else None


def subjects(splits: Mapping[str, Split]) -> dict[str, list[str]]:
    """The in-distribution subjects of each split that knows them, in its order, each once."""
    return {
        name: list(
            dict.fromkeys(
                str(subject)
                for subject, label in zip(split.subjects, split.labels, strict=True)
                if label == 0
            )
        )
        for name, split in splits.items()
        if split.subjects is not None
    }


def check_subjects(workdir: pathlib.Path, splits: Mapping[str, Split]) -> None:
    """Refuses to go on with other subjects than a run began with.

    Those of the test split may change, as no training depends on them.

    Raises:
        InputError: Names the split and a subject that is new or gone.
    """
    path = workdir / "splits.json"
    if not path.exists() or not _begun(workdir):
        return
    theirs, ours = _read(path, "subjects by split"), subjects(splits)
    for name in ("train", "validation"):
        then, now = theirs.get(name, []), ours.get(name, [])
        differing = sorted(set(then) ^ set(now))
        if differing:
            kind = "is gone" if differing[0] in then else "is new"
            raise InputError(
                f"The subjects of the {name} split are not those of {path}, with which the run in "
                f"{workdir} began: {differing[0]} {kind} ({len(differing)} differ). Put the data "
                "back, or use another --workdir, or --fresh to start over."
            )


@contextlib.contextmanager
def owned(
    workdir: pathlib.Path,
    config: ml_collections.ConfigDict,
    splits: Mapping[str, Split],
    *,
    mode: str,
    fresh: bool,
) -> Iterator[logs.History]:
    """A workdir that is ours and of this config, with its history.

    It then holds `config.json`, and `splits.json` where splits know their subjects: `{split:
    [subject, ...]}`, so that it is on record who was trained on.

    Raises:
        InputError: If it cannot be written, is another run's, of another config, or of other
            subjects.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        probe = workdir / f".probe-{jax.process_index()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise InputError(f"Workdir {workdir} cannot be written: {error.strerror}.") from error
    first = jax.process_index() == 0
    with lock.owned(workdir) if first else contextlib.nullcontext():
        if fresh and first:
            _move_aside(workdir)
        check(workdir, config, mode=mode)  # Again: another run may have begun in the meantime.
        check_subjects(workdir, splits)
        if first:
            content = json.dumps(_json(config), indent=1).encode()
            write_atomically(workdir / "config.json", content)
            if known := subjects(splits):
                write_atomically(workdir / "splits.json", json.dumps(known, indent=1).encode())
        yield logs.History(workdir / "metrics.jsonl", write=first)


def _begun(workdir: pathlib.Path) -> bool:
    rows = logs.read_rows(workdir / "metrics.jsonl")
    return any((workdir / "checkpoints").glob("*/*")) or bool(rows)


def _read(path: pathlib.Path, expected: str) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}); expected {expected}.") from error


def _json(config: ml_collections.ConfigDict) -> dict[str, Any]:
    return json.loads(json.dumps(config.to_dict()))


def _move_aside(workdir: pathlib.Path) -> None:
    """Moves what is in a workdir (but its lock) into a sibling folder named after the time."""
    content = [path for path in workdir.iterdir() if path.name != "lock"]
    if not content:
        return
    aside = workdir.with_name(f"{workdir.name}.{time.strftime('%Y%m%d-%H%M%S')}")
    while aside.exists():
        aside = aside.with_name(aside.name + "+")
    aside.mkdir()
    for path in content:
        shutil.move(path, aside / path.name)
    log.info("The former content of %s is now in %s.", workdir, aside)
