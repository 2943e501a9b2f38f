"""Checkpoints of one stage: written by orbax in the background, verified leaf by leaf when read.

Orbax restores flipped bits, other dtypes and other shapes of meaning without a word. A checkpoint
here therefore carries, beside the arrays, a JSON `meta` with shape, dtype and CRC-32 of each leaf,
the position in the stage, the fingerprint of the data, the config and the versions.
`restore_newest` takes the newest checkpoint that passes, and moves newer ones that do not to
`set_aside/`.
"""

import dataclasses
import json
import logging
import math
import os
import pathlib
import shutil
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jaxad.errors import CheckpointError, InputError

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Restored:
    """A verified checkpoint: host arrays in the structure asked for, and what was written beside
    them.
    """

    number: int
    tree: Any
    meta: Mapping[str, Any]


class Checkpoints:
    """The checkpoints of one stage in `folder`; numbers count the batches that the stage has
    processed.

    Args:
        folder: `<workdir>/checkpoints/<stage>`.
        set_aside: Where checkpoints go that cannot be trusted.
        keep: The newest this many are kept.
        best: Gives the number of one more to keep, or None; asked whenever one is written.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        set_aside: pathlib.Path,
        *,
        keep: int,
        best: Callable[[], int | None] = lambda: None,
    ):
        self.folder, self._set_aside, self._keep, self._best = folder, set_aside, keep, best
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self, cleanup_tmp_directories=True, enable_async_checkpointing=True
        )
        self._manager = ocp.CheckpointManager(
            folder, options=options, item_names=("leaves", "meta")
        )

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        """Orbax's preservation policy: the newest `keep`, and the best."""
        del context
        best = self._best()
        newest = {c.step for c in checkpoints[-self._keep :]}
        return [c.step in newest or c.step == best for c in checkpoints]

    def numbers(self) -> list[int]:
        """Checkpoints on disk, oldest first, whether or not they can be trusted."""
        return sorted(int(p.name) for p in self.folder.glob("*") if p.name.isdigit())

    def save(self, number: int, tree: Any, meta: Mapping[str, Any]) -> None:
        """Starts writing in the background; a number that is on disk already is left as it is.

        Raises:
            CheckpointError: If this or an earlier save failed, for example on a full disk.
        """
        if number in self._manager.all_steps():
            return
        # A copy of our own: the next step donates these buffers while the background thread reads.
        leaves = {name: _copy(leaf) for name, leaf in named_leaves(tree).items()}
        meta = {**meta, "leaves": {name: _describe(leaf) for name, leaf in leaves.items()}}
        meta["crc32"] = _checksum(meta)
        filled = {name: leaf for name, leaf in leaves.items() if leaf.size}  # Orbax takes no other.
        args = ocp.args.Composite(
            leaves=ocp.args.StandardSave(filled), meta=ocp.args.JsonSave(dict(meta))
        )
        with self._failures(f"writing checkpoint {number}"):
            if not self._manager.save(number, args=args, force=True):
                raise CheckpointError(
                    f"Orbax declined to write checkpoint {number} in {self.folder}."
                )

    def check(self) -> None:
        """Raises the error of a background save that has failed since the last call."""
        with self._failures("writing a checkpoint in the background"):
            self._manager.check_for_errors()

    def wait(self) -> None:
        """Waits until the last save is on disk; raises its error."""
        with self._failures("finishing the last checkpoint"):
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

    def close(self) -> None:
        """Waits, then ends orbax's threads."""
        with self._failures("finishing the last checkpoint"):
            self._manager.close()

    def meta(self, number: int) -> Mapping[str, Any]:
        """What was written beside the arrays."""
        args = ocp.args.Composite(meta=ocp.args.JsonRestore())
        return self._manager.restore(number, args=args)["meta"]

    def restore(self, number: int, template: Callable[[Mapping[str, Any]], Any]) -> Restored:
        """Reads and verifies one checkpoint.

        Args:
            number: Which.
            template: From its `meta` to the tree of shapes and dtypes that it must hold.

        Raises:
            CheckpointError: If it is damaged.
            InputError: If it is sound but of another model: names the leaves that differ.
        """
        try:
            meta = dict(self.meta(number))
            written = meta.pop("crc32")
            if _checksum(meta) != written:
                raise ValueError("it fails its checksum")
            recorded = meta["leaves"]
        except Exception as error:  # Orbax and TensorStore raise many types for a damaged file.
            raise CheckpointError(f"its meta cannot be read ({_first_line(error)})") from error
        wanted_tree = template(meta)
        wanted = named_leaves(wanted_tree)
        _check_same_model(recorded, wanted, self.folder / str(number))
        try:
            args = ocp.args.Composite(
                leaves=ocp.args.StandardRestore(
                    {
                        name: jax.ShapeDtypeStruct(
                            leaf.shape,
                            leaf.dtype,
                            sharding=jax.sharding.SingleDeviceSharding(jax.local_devices()[0]),
                        )
                        for name, leaf in wanted.items()
                        if math.prod(leaf.shape)
                    }
                )
            )
            leaves = dict(self._manager.restore(number, args=args)["leaves"])
        except Exception as error:
            raise CheckpointError(f"its arrays cannot be read ({_first_line(error)})") from error
        for name, leaf in leaves.items():
            if (found := _describe(leaf)) != recorded[name]:
                raise CheckpointError(
                    f"{name} fails its checksum: {recorded[name]} written, {found} read"
                )
        empty = {name: leaf for name, leaf in wanted.items() if not math.prod(leaf.shape)}
        leaves |= {name: jnp.zeros(leaf.shape, leaf.dtype) for name, leaf in empty.items()}
        flat = [leaves[name] for name in wanted]
        return Restored(number, jax.tree.unflatten(jax.tree.structure(wanted_tree), flat), meta)

    def restore_newest(self, template: Callable[[Mapping[str, Any]], Any]) -> Restored | None:
        """The newest checkpoint that can be trusted; None if there is none at all.

        Newer ones that cannot are moved to `set_aside`, and the log names both.

        Raises:
            CheckpointError: If there are checkpoints and none can be trusted: nothing is moved
                then, and the run does not start again from scratch behind the user's back.
        """
        damaged: dict[int, str] = {}
        for number in reversed(self.numbers()):
            try:
                restored = self.restore(number, template)
            except CheckpointError as error:
                damaged[number] = str(error)
                continue
            for bad, reason in damaged.items():
                place = self._move_aside(bad)
                log.warning(
                    "Checkpoint %s is damaged: %s. It is now %s; continuing from checkpoint %d.",
                    self.folder / str(bad),
                    reason,
                    place,
                    number,
                )
            return restored
        if damaged:
            reasons = "; ".join(f"{number}: {reason}" for number, reason in damaged.items())
            raise CheckpointError(
                f"None of the {len(damaged)} checkpoints in {self.folder} can be trusted "
                f"({reasons}). "
                "Restore one from a backup, or start over with --fresh, which moves this aside."
            )
        return None

    def _move_aside(self, number: int) -> pathlib.Path:
        self._set_aside.mkdir(parents=True, exist_ok=True)
        stem = f"{self.folder.name}-{number}"
        taken = sum(1 for p in self._set_aside.glob(f"{stem}*"))
        place = self._set_aside / (f"{stem}-{taken}" if taken else stem)
        if jax.process_index() == 0:
            shutil.move(self.folder / str(number), place)
        self._manager.reload()
        return place

    def _failures(self, doing: str):
        return _Failures(doing, self.folder)


class _Failures:
    """Turns what orbax raises while writing into a `CheckpointError` with path and free space."""

    def __init__(self, doing: str, folder: pathlib.Path):
        self._doing, self._folder = doing, folder

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is None or not isinstance(error, Exception) or isinstance(error, CheckpointError):
            return False
        try:
            free = f"{shutil.disk_usage(self._folder).free:,} bytes free there"
        except OSError:
            free = "the folder cannot be read"
        raise CheckpointError(
            f"Failed {self._doing} in {self._folder} ({_first_line(error)}; {free}). "
            "Earlier checkpoints are as they were: make room, then run the same command again."
        ) from error


def named_leaves(tree: Any) -> dict[str, Any]:
    """Leaves by path, `state.params.…`, in the order of `jax.tree.leaves`."""
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    named = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in paths}
    if len(named) != len(paths):
        raise ValueError("Two leaves of the state have the same path.")
    return named


def _checksum(meta: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(meta, sort_keys=True).encode())


def _copy(leaf: Any) -> jax.Array:
    return jnp.array(leaf, copy=True)


def _describe(leaf: jax.Array) -> dict[str, Any]:
    array = np.asarray(leaf.addressable_data(0), order="C")
    return {
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "crc32": zlib.crc32(array.reshape(-1).view(np.uint8)),
    }


def _check_same_model(
    recorded: Mapping[str, Any], wanted: Mapping[str, Any], path: os.PathLike
) -> None:
    """Compares names, shapes and dtypes: orbax would cast another dtype silently."""
    lines = [f"{name}: not in the checkpoint" for name in wanted if name not in recorded]
    lines += [f"{name}: not in this model" for name in recorded if name not in wanted]
    for name in wanted:
        if name in recorded:
            found = (tuple(recorded[name]["shape"]), recorded[name]["dtype"])
            expected = (tuple(wanted[name].shape), str(wanted[name].dtype))
            if found != expected:
                lines.append(f"{name}: expected {expected}, found {found}")
    if lines:
        more = f" (and {len(lines) - 10} more)" if len(lines) > 10 else ""
        raise InputError(
            f"Checkpoint {path} is of another model; see config.method and config.stages: "
            + "; ".join(lines[:10])
            + more
        )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300] if lines else ''}"
