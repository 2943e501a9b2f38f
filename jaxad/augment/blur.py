"""Gaussian blur with one width per image."""

import dm_pix
import jax
import jax.numpy as jnp

from jaxad.augment import checks, draws, precision

__all__ = ["gaussian_blur", "random_blur"]

_NARROWEST = 1e-2  # Of a Gaussian in pixels: its other weights are then 0 in any type.


def gaussian_blur(images: jax.Array, sigma: jax.Array, *, kernel_size: int) -> jax.Array:
    """Convolves each image with a normalised Gaussian; the image is mirrored at its border.

    Args:
        images: Floats `[B, H, W, C]` of any range, else a `TypeError` or `ValueError`.
        sigma: Standard deviations in pixels `[B]`, else a `ValueError`; 0 changes nothing.
        kernel_size: Taps of the kernel, odd and at least 1, else a `ValueError`.

    Returns:
        `[B, H, W, C]` in the type of the images, each in the range of its image.
    """
    checks.images("images", images)
    checks.shape_equal("sigma", jnp.shape(sigma), images.shape[:1])
    checks.integer("kernel_size", kernel_size)
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size: expected an odd number, got {kernel_size}.")
    radius = kernel_size // 2
    wide = precision.widen(images)
    border = (radius, radius)
    padded = jnp.pad(wide, ((0, 0), border, border, (0, 0)), mode="reflect")
    # dm_pix would darken the border: its own padding is with zeros.
    blur = lambda x, s: dm_pix.gaussian_blur(x, s, kernel_size, padding="VALID")  # noqa: E731
    sigma = jnp.maximum(jnp.asarray(sigma), _NARROWEST).astype(wide.dtype)
    with jax.default_matmul_precision("highest"):  # Else accelerators round the image to 8 bits.
        blurred = jax.vmap(blur)(padded, sigma)
    low, high = (f(wide, axis=(1, 2, 3), keepdims=True) for f in (jnp.min, jnp.max))
    return precision.bounded(blurred, low, high).astype(images.dtype)


def random_blur(
    keys: jax.Array,
    images: jax.Array,
    *,
    kernel_size: int,
    sigma: tuple[float, float] = (0.1, 2.0),
    probability: float = 0.5,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Gaussian blur, its width uniform in a range, with the given probability.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        images: Floats `[B, H, W, C]` of any range, else a `TypeError` or `ValueError`.
        kernel_size: Taps of the kernel, odd and at least 1, else a `ValueError`.
        sigma: Smallest and largest standard deviation in pixels, in order, else a `ValueError`.
        probability: In [0, 1], else a `ValueError`.

    Returns:
        The images, and whether each was blurred `[B]` and its sigma float32 `[B]`.
    """
    checks.images("images", images)
    checks.keys("keys", keys, images.shape[0])
    low, high = checks.interval("sigma", sigma, minimum=0.0)
    for_chance, for_sigma = draws.split(keys, 2)
    applied = draws.happens(for_chance, probability)
    drawn = draws.uniform(for_sigma, low, high)
    blurred = gaussian_blur(images, drawn, kernel_size=kernel_size)
    return jnp.where(applied[:, None, None, None], blurred, images), (applied, drawn)
