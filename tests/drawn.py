"""Variables of networks drawn on the host: compiling an initialisation takes longer than a test."""

import jax
import jax.numpy as jnp
import numpy as np


def variables(network, *args, seed=0, **options):
    """Random variables of `network` as `init(key, *args, **options)` shapes them.

    None is a zero or a one of a fresh network, which would hide mistakes.
    """
    shapes = jax.eval_shape(lambda key: network.init(key, *args, **options), jax.random.key(0))
    return leaves(dict(shapes), seed=seed)


def leaves(shapes, *, seed=0):
    """Random values of any tree of variables; integers are zeros."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.zeros(leaf.shape, leaf.dtype)
        values = rng.normal(size=leaf.shape)
        match getattr(path[-1], "key", None):
            case "kernel":
                values /= np.sqrt(np.prod(leaf.shape[:-1]))
            case "scale" | "var":
                values = np.exp(0.2 * values)
            case "bias" | "mean":
                values *= 0.2
        return jnp.asarray(values, leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)
