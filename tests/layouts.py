"""Maps a function of one device over several, in the three ways that a user can."""

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

AXIS = "data"
LAYOUTS = ("shard_map", "shard_map_unchecked", "pmap")


def mapped(layout: str, function, *, devices: int = 8):
    """`function(replicated, rows)` over `devices`, compiled.

    Args:
        layout: One of `LAYOUTS`; "shard_map" checks that outputs are the same on all devices, the
            others do not, and differ in how they differentiate collectives.
        function: Takes a pytree that all devices have and one of which each has its rows. Its
            outputs must not depend on the device; this is asserted where they are kept.
        devices: Number of devices.
    """
    if layout == "pmap":
        over = jax.pmap(
            function, axis_name=AXIS, in_axes=(None, 0), devices=jax.devices()[:devices]
        )

        def run(replicated, rows):
            rows = jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), rows)
            outputs = over(replicated, rows)
            for leaf in jax.tree.leaves(outputs):
                np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[0], leaf.shape))
            return jax.tree.map(lambda x: np.asarray(x[0]), outputs)

        return run
    return jax.jit(
        jax.shard_map(
            function,
            mesh=Mesh(np.array(jax.devices()[:devices]), (AXIS,)),
            in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
            out_specs=PartitionSpec(),
            check_vma=layout == "shard_map",
        )
    )


def spread(layout: str, function, rows, *, devices: int = 8):
    """Calls `function(rows of a device)` once, see `mapped`."""
    # Not an empty tree: with one in front, `jax.pmap` (0.10.2) forgets to split some of the rows.
    return mapped(layout, lambda _, rows: function(rows), devices=devices)(np.zeros(()), rows)
