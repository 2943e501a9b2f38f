"""Changed intensities.

Source: "000" is the document on auxiliary prototypes, section 5; its random gamma is that of
TorchIO 1.2.1.
"""

import jax
import jax.numpy as jnp

from jaxad.augment import checks, draws, precision

__all__ = ["adjust_gamma", "random_gamma"]


def adjust_gamma(images: jax.Array, logs: jax.Array) -> jax.Array:
    """sign(x) |x|^gamma, gamma = exp(beta).

    Args:
        images: Floats `[B, H, W, C]` of any range, else a `TypeError` or `ValueError`; [0, 1] is
            mapped to itself.
        logs: beta, `[B]`, else a `ValueError`; 0 changes nothing.

    Returns:
        `[B, H, W, C]` in the type of the images; the gradient at 0 is 0 (000, section 5).
    """
    checks.images("images", images)
    checks.shape_equal("logs", jnp.shape(logs), images.shape[:1])
    wide = precision.widen(images)
    gamma = jnp.exp(jnp.asarray(logs).astype(wide.dtype))[:, None, None, None]
    # For gamma < 1 the slope at 0 is infinite: the power never sees a 0.
    size = jnp.where(wide == 0.0, 1.0, jnp.abs(wide))
    powers = jnp.where(wide == 0.0, 0.0, jnp.sign(wide) * size**gamma)
    return powers.astype(images.dtype)


def random_gamma(
    keys: jax.Array, images: jax.Array, *, logs: tuple[float, float] = (-0.3, 0.3)
) -> tuple[jax.Array, jax.Array]:
    """`adjust_gamma` with beta uniform in a range, one for each image.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        images: Floats `[B, H, W, C]` in [0, 1], else a `TypeError` or `ValueError`.
        logs: Smallest and largest beta, in order, else a `ValueError`.

    Returns:
        The images, and beta float32 `[B]`.
    """
    checks.images("images", images)
    checks.keys("keys", keys, images.shape[0])
    low, high = checks.interval("logs", logs)
    drawn = draws.uniform(keys, low, high)
    return adjust_gamma(images, drawn), drawn
