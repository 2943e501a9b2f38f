"""Noise on images: Gaussian, and the four noise classes of CCD.

Source: "004" is the thesis whose chapters 4 and 5 describe CCD and MedMix, with the code released
for the former (github.com/tianyu0207/CCD).
"""

import math

import jax
import jax.numpy as jnp

from jaxad.augment import checks, draws, precision

__all__ = ["add_noise", "corrupt", "random_corruption", "random_noise"]


def add_noise(images: jax.Array, noise: jax.Array) -> jax.Array:
    """clip(x + n, 0, 1).

    Args:
        images: Floats `[B, H, W, C]` in [0, 1], else a `TypeError` or `ValueError`.
        noise: Floats of the shape of the images, else a `ValueError`.

    Returns:
        `[B, H, W, C]` in [0, 1], in the type of the images.
    """
    checks.images("images", images)
    checks.shape_equal("noise", jnp.shape(noise), jnp.shape(images))
    wide = precision.widen(images) + noise
    return jnp.clip(wide, 0.0, 1.0).astype(images.dtype)


def random_noise(
    keys: jax.Array,
    images: jax.Array,
    *,
    sigma: tuple[float, float] = (0.0, 0.1),
    probability: float = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """Adds Gaussian noise, its standard deviation uniform in a range, with a given probability.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        images: Floats `[B, H, W, C]` in [0, 1], else a `TypeError` or `ValueError`.
        sigma: Smallest and largest standard deviation, in order, else a `ValueError`.
        probability: In [0, 1], else a `ValueError`.

    Returns:
        The images, and the standard deviations float32 `[B]`, 0 where no noise was added and the
        image is exactly as it was (004, section 5.3.2).
    """
    checks.images("images", images)
    checks.keys("keys", keys, images.shape[0])
    low, high = checks.interval("sigma", sigma, minimum=0.0)
    for_sigma, for_noise, for_chance = draws.split(keys, 3)
    applied = draws.happens(for_chance, probability)
    drawn = jnp.where(applied, draws.uniform(for_sigma, low, high), 0.0)
    noise = draws.normal(for_noise, shape=images.shape[1:]) * drawn[:, None, None, None]
    return jnp.where(applied[:, None, None, None], add_noise(images, noise), images), drawn


def corrupt(
    images: jax.Array,
    classes: jax.Array,
    normals: jax.Array,
    uniforms: jax.Array,
    *,
    variance: float = 0.05,
    amount: float = 0.05,
) -> jax.Array:
    """Strong augmentation k: 0 nothing, 1 Gaussian x + n, 2 speckle x + x n, 3 salt and pepper.

    For k > 0 each image is first stretched to [0, 1] by its extremes, and the result is clipped to
    [0, 1] and stays stretched, as released. An image of one value is not stretched.

    Args:
        images: Floats `[B, H, W, C]` of any range, else a `TypeError` or `ValueError`; the result
            is in [0, 1] for k > 0.
        classes: Integers k in 0..3, `[B]`, else a `ValueError`.
        normals: Standard normal numbers of the shape of the images, else a `ValueError`.
        uniforms: Numbers uniform in [0, 1), of that shape, else a `ValueError`: below amount / 2
            an entry becomes 0, from there to `amount` it becomes 1.
        variance: Variance of n, at least 0, else a `ValueError`.
        amount: Share of entries that salt and pepper replace, in [0, 1], else a `ValueError`.

    Returns:
        `[B, H, W, C]` in the type of the images (004, section 4; released code).
    """
    checks.images("images", images)
    shape = jnp.shape(images)
    checks.shape_equal("classes", jnp.shape(classes), shape[:1])
    checks.shape_equal("normals", jnp.shape(normals), shape)
    checks.shape_equal("uniforms", jnp.shape(uniforms), shape)
    checks.probability("amount", amount)
    if variance < 0.0:
        raise ValueError(f"variance: expected at least 0, got {variance}.")
    wide, normals, uniforms = map(precision.widen, (images, normals, uniforms))
    lowest = jnp.min(wide, axis=(1, 2, 3), keepdims=True)
    span = jnp.max(wide, axis=(1, 2, 3), keepdims=True) - lowest
    flat = span == 0.0
    stretched = jnp.where(flat, wide, (wide - lowest) / jnp.where(flat, 1.0, span))
    noise = math.sqrt(variance) * normals
    replaced = jnp.where(uniforms < amount, (uniforms >= amount / 2).astype(wide.dtype), stretched)
    chosen = jnp.asarray(classes)[:, None, None, None]
    noisy = jnp.select(
        [chosen == 1, chosen == 2], [stretched + noise, stretched * (1.0 + noise)], replaced
    )
    return jnp.where(chosen == 0, images, jnp.clip(noisy, 0.0, 1.0).astype(images.dtype))


def random_corruption(
    keys: jax.Array,
    images: jax.Array,
    classes: jax.Array,
    *,
    variance: float = 0.05,
    amount: float = 0.05,
) -> jax.Array:
    """Strong augmentation k of `corrupt` with noise drawn for each image.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        images: Floats `[B, H, W, C]` of any range, else a `TypeError` or `ValueError`.
        classes: Integers k in 0..3, `[B]`, else a `ValueError`.
        variance: Variance of Gaussian noise and speckle, at least 0, else a `ValueError`.
        amount: Share of entries that salt and pepper replace, in [0, 1], else a `ValueError`.

    Returns:
        `[B, H, W, C]` in the type of the images.
    """
    checks.images("images", images)
    checks.keys("keys", keys, images.shape[0])
    for_normals, for_uniforms = draws.split(keys, 2)
    normals = draws.normal(for_normals, shape=images.shape[1:])
    uniforms = draws.uniform(for_uniforms, 0.0, 1.0, shape=images.shape[1:])
    return corrupt(images, classes, normals, uniforms, variance=variance, amount=amount)
