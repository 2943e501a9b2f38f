"""Quarter turns, half turns and flips: pixels are moved, never interpolated.

Images `[B, H, W, C]` or label maps `[B, H, W]`, of any type and range.

Sources: "004" is the thesis whose chapter 4 describes CCD (rotations as strong augmentations), with
its code (github.com/tianyu0207/CCD); "003" is the document on self-distillation with negative
samples (rotated images as negatives); "000" that on auxiliary prototypes (half turn and vertical
flip as outliers).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxad.augment import checks, draws

__all__ = [
    "flip_horizontal",
    "flip_vertical",
    "random_horizontal_flip",
    "random_quarter_rotation",
    "rotate_half",
    "rotate_quarter",
]


def rotate_quarter(images: jax.Array, turns: jax.Array) -> jax.Array:
    """Turns each image counter-clockwise by 90 degrees times its number of turns.

    Args:
        images: `[B, H, H, C]` or `[B, H, H]`, else a `ValueError`: a quarter turn of another shape
            would change it.
        turns: Integers `[B]`, else a `ValueError`; any, as four turns are none.

    Returns:
        The pixels of `images`, in their shape (004, section 4; 003, table 2, "Rot.").
    """
    images, turns = jnp.asarray(images), jnp.asarray(turns)
    _check(images)
    if images.shape[1] != images.shape[2]:
        raise ValueError(f"images: expected square images, got shape {images.shape}.")
    checks.shape_equal("turns", turns.shape, images.shape[:1])
    checks.integers("turns", turns)
    # Two turns and one turn make all four, as the bits of the number say.
    images = jnp.where(_column(turns & 2, images) != 0, rotate_half(images), images)
    quarter = jnp.swapaxes(images, 1, 2)[:, ::-1]
    return jnp.where(_column(turns & 1, images) != 0, quarter, images)


def random_quarter_rotation(
    keys: jax.Array, images: jax.Array, *, choices: Sequence[int] = (1, 2, 3)
) -> tuple[jax.Array, jax.Array]:
    """Turns each image by a number of quarter turns drawn from the choices.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        images: `[B, H, H, C]` or `[B, H, H]`, else a `ValueError`.
        choices: Numbers of turns, equally likely; none is a `ValueError`. (1, 2, 3) is `rot` of the
            document, (0, 1, 2, 3) its `rot360`.

    Returns:
        The turned images and their turns, int32 `[B]` (003, table 2).
    """
    if not len(choices):
        raise ValueError(f"choices: expected at least one number of turns, got {choices!r}.")
    _check(images)
    checks.keys("keys", keys, images.shape[0])
    numbers = jnp.asarray(np.asarray(choices, np.int32))
    turns = numbers[draws.integers(keys, 0, len(choices))]
    return rotate_quarter(images, turns), turns


def rotate_half(images: jax.Array) -> jax.Array:
    """Turns each image by 180 degrees.

    Args:
        images: `[B, H, W, C]` or `[B, H, W]`, else a `ValueError`.

    Returns:
        The pixels of `images`, in their shape (000, section 5).
    """
    _check(images)
    return images[:, ::-1, ::-1]


def flip_horizontal(images: jax.Array, flipped: jax.Array) -> jax.Array:
    """Exchanges left and right where asked for.

    Args:
        images: `[B, H, W, C]` or `[B, H, W]`, else a `ValueError`.
        flipped: Booleans `[B]`, else a `ValueError`.

    Returns:
        The pixels of `images`, in their shape.
    """
    return _flip(images, flipped, 2)


def flip_vertical(images: jax.Array, flipped: jax.Array) -> jax.Array:
    """Exchanges top and bottom where asked for.

    Args:
        images: `[B, H, W, C]` or `[B, H, W]`, else a `ValueError`.
        flipped: Booleans `[B]`, else a `ValueError`.

    Returns:
        The pixels of `images`, in their shape (000, section 5).
    """
    return _flip(images, flipped, 1)


def random_horizontal_flip(
    keys: jax.Array, images: jax.Array, *, probability: float = 0.5
) -> tuple[jax.Array, jax.Array]:
    """Exchanges left and right of an image with the given probability.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        images: `[B, H, W, C]` or `[B, H, W]`, else a `ValueError`.
        probability: In [0, 1], else a `ValueError`.

    Returns:
        The images, and which are flipped, booleans `[B]`.
    """
    _check(images)
    checks.keys("keys", keys, images.shape[0])
    flipped = draws.happens(keys, probability)
    return flip_horizontal(images, flipped), flipped


def _flip(images: jax.Array, flipped: jax.Array, axis: int) -> jax.Array:
    _check(images)
    checks.shape_equal("flipped", jnp.shape(flipped), images.shape[:1])
    mask = _column(jnp.asarray(flipped).astype(bool), images)
    return jnp.where(mask, jnp.flip(images, axis), images)


def _check(images: jax.Array) -> None:
    if jnp.ndim(images) not in (3, 4):
        raise ValueError(f"images: expected [B, H, W(, C)], got shape {jnp.shape(images)}.")


def _column(values: jax.Array, images: jax.Array) -> jax.Array:
    return values.reshape(values.shape + (1,) * (images.ndim - 1))
