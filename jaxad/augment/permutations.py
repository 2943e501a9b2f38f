"""Patches, halves and pixels in another order. Images `[B, H, W, C]` or maps `[B, H, W]`, any type.

Sources: "004" is the thesis whose chapter 4 describes CCD, with its code
(github.com/tianyu0207/CCD); "003" is the document on self-distillation with negative samples; "000"
that on auxiliary prototypes.
"""

import math

import jax
import jax.numpy as jnp

from jaxad.augment import checks, draws

__all__ = [
    "permute_patches",
    "permute_pixels",
    "random_patch_permutation",
    "random_pixel_permutation",
    "split_patches",
    "swap_halves",
]


def swap_halves(images: jax.Array, classes: jax.Array) -> jax.Array:
    """Strong augmentation k = 2 a + b: a exchanges the upper and lower half, b the left and right.

    Halves are split at floor(H / 2) and floor(W / 2); of an odd side the later half is the longer.

    Args:
        images: `[B, H, W, C]` or `[B, H, W]`, else a `ValueError`.
        classes: Integers k in 0..3, `[B]`, else a `ValueError`.

    Returns:
        The pixels of `images`, in their shape (004, section 4; released code).
    """
    images, classes = jnp.asarray(images), jnp.asarray(classes)
    _check(images)
    checks.shape_equal("classes", classes.shape, images.shape[:1])
    checks.integers("classes", classes)
    for axis, bit in ((1, 2), (2, 1)):
        swapped = jnp.roll(images, -(images.shape[axis] // 2), axis)
        mask = (classes & bit).reshape(-1, *(1,) * (images.ndim - 1)) != 0
        images = jnp.where(mask, swapped, images)
    return images


def permute_patches(images: jax.Array, indices: jax.Array) -> jax.Array:
    """Cuts each image into k x k equal patches and puts them in another order.

    Args:
        images: `[B, H, W, C]` or `[B, H, W]`, H and W multiples of k, else a `ValueError`.
        indices: Integers `[B, k * k]`, else a `ValueError`: patch j of the result, counted row by
            row, is patch `indices[j]` of the image.

    Returns:
        The pixels of `images`, in their shape (003, table 2, "Perm"; 000, section 5).
    """
    images, indices = jnp.asarray(images), jnp.asarray(indices)
    _check(images)
    checks.integers("indices", indices)
    grid = math.isqrt(indices.shape[-1]) if indices.ndim else 0
    checks.shape_equal("indices", indices.shape, (images.shape[0], grid * grid))
    patches, back = _to_grid(images, grid)
    return back(jax.vmap(lambda p, i: p[i])(patches, indices))


def random_patch_permutation(
    keys: jax.Array, images: jax.Array, *, grid: int = 2, identity: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Puts the patches of each image in a random order, all orders equally likely.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        images: `[B, H, W, C]` or `[B, H, W]`, H and W multiples of `grid`, else a `ValueError`.
        grid: Patches per side; at least 1, or 2 without the identity, else a `ValueError`.
        identity: Whether the order of the image itself may be drawn.

    Returns:
        The images, and the `indices` int32 `[B, grid * grid]` that give them.
    """
    _check(images)
    checks.keys("keys", keys, images.shape[0])
    checks.integer("grid", grid, minimum=1 if identity else 2)
    items = jnp.arange(grid * grid, dtype=jnp.int32)

    def draw(key):
        # Drawn until it is another order: all others stay equally likely.
        again = lambda state: jnp.all(state[1] == items)  # noqa: E731
        start = key, items
        return (_redraw(start) if identity else jax.lax.while_loop(again, _redraw, start))[1]

    indices = jax.vmap(draw)(keys)
    return permute_patches(images, indices), indices


def permute_pixels(images: jax.Array, indices: jax.Array) -> jax.Array:
    """Puts the pixels of each image in another order, the same for all channels.

    Args:
        images: `[B, H, W, C]` or `[B, H, W]`, else a `ValueError`.
        indices: Integers `[B, H * W]`, else a `ValueError`: pixel j of the result, counted row by
            row, is pixel `indices[j]` of the image.

    Returns:
        The pixels of `images`, in their shape (003, table 2, "PixPerm").
    """
    images, indices = jnp.asarray(images), jnp.asarray(indices)
    _check(images)
    checks.integers("indices", indices)
    batch, height, width = images.shape[:3]
    checks.shape_equal("indices", indices.shape, (batch, height * width))
    pixels = images.reshape(batch, height * width, *images.shape[3:])
    return jax.vmap(lambda p, i: p[i])(pixels, indices).reshape(images.shape)


def random_pixel_permutation(keys: jax.Array, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Puts the pixels of each image in a random order, the same for all channels.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        images: `[B, H, W, C]` or `[B, H, W]`, else a `ValueError`.

    Returns:
        The images, and the `indices` int32 `[B, H * W]` that give them.
    """
    _check(images)
    checks.keys("keys", keys, images.shape[0])
    indices = draws.orders(keys, images.shape[1] * images.shape[2])
    return permute_pixels(images, indices), indices


def split_patches(images: jax.Array, *, size: int) -> jax.Array:
    """Cuts each image into square patches that do not overlap, counted row by row.

    The released list of local patches has the images innermost, index = (row of the grid · columns
    + column) · N + image: `jnp.moveaxis(patches, 1, 0)`, its first two axes merged.

    Args:
        images: `[B, H, W, C]` or `[B, H, W]`, H and W multiples of `size`, else a `ValueError`.
        size: Side of a patch in pixels; at least 1, else a `ValueError`.

    Returns:
        `[B, patches, size, size, C]` or `[B, patches, size, size]` (004, section 4, local stage).
    """
    images = jnp.asarray(images)
    _check(images)
    checks.integer("size", size)
    batch, height, width, *rest = images.shape
    if height % size or width % size:
        raise ValueError(f"images: expected sides that {size} divides, got {images.shape}.")
    parts = images.reshape(batch, height // size, size, width // size, size, *rest)
    return jnp.swapaxes(parts, 2, 3).reshape(batch, -1, size, size, *rest)


def _redraw(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    key, items = state
    key, own = jax.random.split(key)
    return key, jax.random.permutation(own, items)


def _to_grid(images: jax.Array, grid: int):
    """The patches `[B, grid * grid, h, w, ...]`, and the function that puts them back."""
    batch, height, width, *rest = images.shape
    if grid < 1 or height % grid or width % grid:
        raise ValueError(f"images: expected sides that {grid} divides, got {images.shape}.")
    h, w = height // grid, width // grid
    parts = jnp.swapaxes(images.reshape(batch, grid, h, grid, w, *rest), 2, 3)

    def back(patches):
        return jnp.swapaxes(patches.reshape(parts.shape), 2, 3).reshape(images.shape)

    return parts.reshape(batch, grid * grid, h, w, *rest), back


def _check(images: jax.Array) -> None:
    if jnp.ndim(images) not in (3, 4):
        raise ValueError(f"images: expected [B, H, W(, C)], got shape {jnp.shape(images)}.")
