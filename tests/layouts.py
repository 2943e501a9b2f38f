"""Runs a function of one device on eight, the three ways that a user can."""

import jax
import numpy as np
from jax.sharding import PartitionSpec

AXIS = "data"
LAYOUTS = ("shard_map", "shard_map_unchecked", "pmap")


def spread(layout: str, function, sharded, *, devices: int = 8):
    """Calls `function` on each device's rows of the pytree `sharded`.

    Args:
        layout: One of `LAYOUTS`; "shard_map" checks that outputs are the same on all devices, the
            others do not, and differ in how they differentiate collectives.
        function: Its outputs must not depend on the device; this is asserted where they are kept.
        sharded: Arrays whose first axis is split.
        devices: Number of devices.
    """
    if layout == "pmap":
        rows = jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), sharded)
        outputs = jax.pmap(function, axis_name=AXIS)(rows)
        for leaf in jax.tree.leaves(outputs):
            np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[0], leaf.shape))
        return jax.tree.map(lambda x: x[0], outputs)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), (AXIS,))
    mapped = jax.shard_map(
        function,
        mesh=mesh,
        in_specs=PartitionSpec(AXIS),
        out_specs=PartitionSpec(),
        check_vma=layout == "shard_map",
    )
    return jax.jit(mapped)(sharded)
