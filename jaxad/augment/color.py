"""Colour operations with one strength per image. Images are floats in [0, 1] and stay there.

Brightness multiplies, contrast and saturation blend with the mean of the grey image and the grey
image itself, the hue turns: the definitions of torchvision, which the published pipelines use.
Those of `dm_pix` for the first three differ (an offset, a mean per channel, the saturation of HSV);
its hue, grey and solarisation are used. Images with one channel have no saturation and no hue.
"""

import dm_pix
import jax
import jax.numpy as jnp

from jaxad.augment import checks, draws, precision

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "draw_jitter",
    "jitter",
    "normalize",
    "random_jitter",
    "solarize",
    "to_grey",
]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def to_grey(images: jax.Array) -> jax.Array:
    """0.2989 R + 0.587 G + 0.114 B in every channel.

    Args:
        images: Floats `[B, H, W, C]`, C 1 or 3, else a `TypeError` or `ValueError`.

    Returns:
        `[B, H, W, C]` in the type of the images.
    """
    checks.colors("images", images)
    grey = _luminance(precision.widen(images)).astype(images.dtype)
    return jnp.broadcast_to(grey, images.shape)


def solarize(images: jax.Array, *, threshold: float = 128 / 255) -> jax.Array:
    """1 - x where x >= threshold.

    Args:
        images: Floats `[B, H, W, C]` in [0, 1], else a `TypeError` or `ValueError`.
        threshold: In [0, 1], else a `ValueError`.

    Returns:
        `[B, H, W, C]` in the type of the images (document 003, base code).
    """
    checks.images("images", images)
    checks.probability("threshold", threshold)
    return dm_pix.solarize(precision.widen(images), threshold).astype(images.dtype)


def normalize(
    images: jax.Array,
    *,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
) -> jax.Array:
    """(x - mean) / std per channel, those of ImageNet by default.

    Args:
        images: Floats `[B, H, W, C]` in [0, 1], else a `TypeError` or `ValueError`.
        mean: C numbers, or 1, else a `ValueError`.
        std: C positive numbers, or 1, else a `ValueError`.

    Returns:
        `[B, H, W, C]` in the type of the images.
    """
    checks.images("images", images)
    for name, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, images.shape[-1]):
            raise ValueError(f"{name}: expected {images.shape[-1]} numbers, got {values}.")
    if min(std) <= 0.0:
        raise ValueError(f"std: expected positive numbers, got {std}.")
    wide = precision.widen(images)
    wide = (wide - jnp.asarray(mean, wide.dtype)) / jnp.asarray(std, wide.dtype)
    return wide.astype(images.dtype)


def jitter(
    images: jax.Array,
    factors: jax.Array,
    order: jax.Array,
    *,
    where: jax.Array | None = None,
) -> jax.Array:
    """Brightness (0), contrast (1), saturation (2) and hue (3), one after the other in any order.

    x <- clip(f x + (1 - f) b, 0, 1) with b = 0 for brightness, the mean grey value of the image for
    contrast, the grey image for saturation; the hue is turned by a share of the circle.

    Args:
        images: Floats `[B, H, W, C]` in [0, 1], C 1 or 3, else a `TypeError` or `ValueError`.
        factors: Floats `[B, 4]`, else a `ValueError`: the three factors f (1: no change), and the
            turn of the hue in [-0.5, 0.5] (0: no change).
        order: Integers `[B, 4]`, else a `ValueError`: the numbers 0..3 in the order of use.
        where: Pixels over which the mean grey value is taken, booleans `[B, H, W]`, else a
            `ValueError`; all by default.

    Returns:
        `[B, H, W, C]` in [0, 1], in the type of the images.
    """
    checks.colors("images", images)
    checks.shape_equal("factors", jnp.shape(factors), (images.shape[0], 4))
    checks.shape_equal("order", jnp.shape(order), (images.shape[0], 4))
    if where is None:
        where = jnp.ones(images.shape[:3], bool)
    checks.shape_equal("where", jnp.shape(where), images.shape[:3])
    selected = jnp.asarray(where)[..., None]
    count = jnp.maximum(jnp.sum(selected, axis=(1, 2, 3), keepdims=True), 1)
    factors = jnp.asarray(factors)

    def step(wide, operation):
        grey = _luminance(wide)
        mean = jnp.sum(jnp.where(selected, grey, 0.0), axis=(1, 2, 3), keepdims=True) / count
        chosen = operation[:, None, None, None]
        base = jnp.select([chosen == 0, chosen == 1], [jnp.zeros_like(grey), mean], grey)
        factor = jnp.take_along_axis(factors, operation[:, None], axis=1)[..., None, None]
        factor = factor.astype(wide.dtype)
        blended = jnp.clip(factor * wide + (1.0 - factor) * base, 0.0, 1.0)
        return jnp.where(chosen == 3, _turn_hue(wide, factors[:, 3]), blended), None

    wide, _ = jax.lax.scan(step, precision.widen(images), jnp.asarray(order).T)
    return wide.astype(images.dtype)


def draw_jitter(
    keys: jax.Array,
    *,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.1,
) -> tuple[jax.Array, jax.Array]:
    """Strengths for `jitter`: factors uniform in [max(0, 1 - s), 1 + s], hue in [-s, s].

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        brightness: Strength s of the brightness, at least 0, else a `ValueError`.
        contrast: Strength of the contrast, at least 0, else a `ValueError`.
        saturation: Strength of the saturation, at least 0, else a `ValueError`.
        hue: Strength of the hue, in [0, 0.5], else a `ValueError`.

    Returns:
        Factors float32 `[B, 4]` and a random order int32 `[B, 4]`.
    """
    strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    for name, strength in strengths.items():
        if strength < 0.0:
            raise ValueError(f"{name}: expected at least 0, got {strength}.")
    if not 0.0 <= hue <= 0.5:
        raise ValueError(f"hue: expected a share of the circle in [0, 0.5], got {hue}.")
    low = jnp.asarray([*(max(0.0, 1.0 - s) for s in strengths.values()), -hue])
    high = jnp.asarray([*(1.0 + s for s in strengths.values()), hue])
    for_factors, for_order = draws.split(keys, 2)
    return draws.uniform(for_factors, low, high, shape=(4,)), draws.orders(for_order, 4)


def random_jitter(
    keys: jax.Array, images: jax.Array, *, probability: float = 0.8, **strengths: float
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    """`jitter` with drawn strengths and order, with the given probability.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        images: Floats `[B, H, W, C]` in [0, 1], C 1 or 3, else a `TypeError` or `ValueError`.
        probability: In [0, 1], else a `ValueError`.
        **strengths: Options of `draw_jitter`.

    Returns:
        The images, and whether each was changed `[B]`, its factors `[B, 4]` and order `[B, 4]`.
    """
    checks.colors("images", images)
    checks.keys("keys", keys, images.shape[0])
    for_chance, for_jitter = draws.split(keys, 2)
    applied = draws.happens(for_chance, probability)
    factors, order = draw_jitter(for_jitter, **strengths)
    changed = jnp.where(applied[:, None, None, None], jitter(images, factors, order), images)
    return changed, (applied, factors, order)


def _luminance(wide: jax.Array) -> jax.Array:
    if wide.shape[-1] == 1:
        return wide
    with jax.default_matmul_precision("highest"):  # Else accelerators round the image to 8 bits.
        return dm_pix.rgb_to_grayscale(wide)


def _turn_hue(wide: jax.Array, turns: jax.Array) -> jax.Array:
    if wide.shape[-1] == 1:
        return wide
    with jax.default_matmul_precision("highest"):
        turned = jax.vmap(dm_pix.adjust_hue)(wide, turns.astype(wide.dtype))
    return precision.bounded(turned, 0.0, 1.0)
