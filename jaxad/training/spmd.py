"""One per-device function, mapped over all devices by `jit(shard_map)` or by `pmap`.

State and accumulators are replicated, batches and scores split along their first axis. The
functions are written with the axis name `base.AXIS`; a mesh of one device has it too.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxad.errors import InputError
from jaxad.methods.base import AXIS

KINDS = ("shard_map", "pmap")


class Mapper:
    """A mesh and the transformation that maps over it; holds no other state.

    Args:
        kind: "shard_map" or "pmap".
        devices: The devices of all processes by default.
    """

    def __init__(self, kind: str = "shard_map", devices: list[jax.Device] | None = None):
        if kind not in KINDS:
            raise InputError(f"config.spmd={kind!r}; expected one of {list(KINDS)}.")
        self.kind = kind
        devices = jax.devices() if devices is None else devices
        self.mesh = Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))
        self.replicated = NamedSharding(self.mesh, P())
        self.split = NamedSharding(self.mesh, P(AXIS))

    @property
    def size(self) -> int:
        """The number of devices over all processes."""
        return self.mesh.size

    def update(self, function: Callable) -> Callable:
        """`(state, batch, key) -> (state, metrics)`; the state is donated.

        The key of step n is `fold_in(key, state.step)`, taken on the device: a stage sends one key.
        """

        def step(state, batch, key):
            return function(state, batch, jax.random.fold_in(key, state.step))

        return self._map(step, (P(), P(AXIS), P()), (P(), P()), donate=(0,))

    def add(self, function: Callable) -> Callable:
        """`(accumulator, state, batch) -> accumulator`; the accumulator is donated."""
        return self._map(function, (P(), P(), P(AXIS)), P(), donate=(0,))

    def score(self, function: Callable) -> Callable:
        """`(states, batch) -> scores`, rows along the first axis."""
        return self._map(function, (P(), P(AXIS)), P(AXIS))

    def _map(self, function, in_specs, out_specs, donate=()):
        if self.kind == "shard_map":
            # Without replication tracking: a method may then use any collective, as under pmap;
            # that states stay equal on all devices is tested instead.
            mapped = jax.shard_map(
                function, mesh=self.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
            )
            shardings = jax.tree.map(
                lambda spec: NamedSharding(self.mesh, spec),
                out_specs,
                is_leaf=lambda spec: isinstance(spec, P),
            )
            return jax.jit(mapped, donate_argnums=donate, out_shardings=shardings)

        def axes(spec):
            return None if spec == P() else 0

        def checked(*arguments):
            # Jax 0.10.2 then leaves other arguments unsplit, and says nothing.
            for spec, argument in zip(in_specs, arguments, strict=True):
                if spec == P() and not jax.tree.leaves(argument):
                    raise ValueError("pmap cannot take a state or an accumulator without arrays.")
            return function(*arguments)

        return jax.pmap(
            checked,
            axis_name=AXIS,
            in_axes=tuple(axes(spec) for spec in in_specs),
            out_axes=jax.tree.map(axes, out_specs, is_leaf=lambda spec: isinstance(spec, P)),
            donate_argnums=donate,
            devices=list(self.mesh.devices.flat),
        )

    def put(self, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """Sends this process's rows to its devices as part of the global batch."""
        if self.kind == "pmap":
            local = self.size // jax.process_count()
            batch = {k: v.reshape(local, len(v) // local, *v.shape[1:]) for k, v in batch.items()}
        return {
            name: jax.make_array_from_process_local_data(self.split, array)
            for name, array in batch.items()
        }

    def replicate(self, tree: Any) -> Any:
        """The same values on every device of every process."""
        return jax.device_put(tree, self.replicated)

    def fetch(self, tree: Any) -> Any:
        """Rows of mapped scores as host arrays `[B, …]`, on all processes."""
        if jax.process_count() > 1:
            tree = multihost_utils.process_allgather(tree, tiled=True)
        else:
            tree = jax.device_get(tree)
        if self.kind == "pmap":
            tree = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)
        return tree

    def check_batch(self, field: str, batch_size: int, *, balanced: bool = False) -> None:
        """Raises an `InputError` unless devices divide the batch, into even shares if balanced."""
        unit = self.size * (2 if balanced else 1)
        if batch_size < unit or batch_size % unit:
            why = " (each device needs as many normal as anomalous records)" if balanced else ""
            raise InputError(
                f"config.{field}={batch_size} cannot be shared out among {self.size} devices; "
                f"expected a positive multiple of {unit}{why}, for example "
                f"{max(unit, round(batch_size / unit) * unit)}."
            )
