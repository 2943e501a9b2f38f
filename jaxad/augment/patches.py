"""Patches of images: cut out, bent, and pasted.

Patches live in buffers of one size; where `sizes` are given, what counts is their upper left part.

Source: "004" is the thesis whose chapter 5 describes MedMix (sections 5.3.2 and 5.4.2). It names
the deformations without formulas; those here are this project's.
"""

import jax
import jax.numpy as jnp

from jaxad.augment import checks, precision, sampling

__all__ = ["fisheye", "horizontal_wave", "paste_patches", "take_patches"]


def fisheye(
    patches: jax.Array, strengths: jax.Array, *, sizes: jax.Array | None = None
) -> jax.Array:
    """Magnifies the centre: (u, v) reads (u, v) (1 + k (r^2 - 1)) where r^2 = u^2 + v^2 < 1.

    u and v go from -1 to 1 over the patch; nothing moves at r >= 1. The centre
    grows by 1 / (1 - k). Bilinear; the border goes on outside.

    Args:
        patches: Floats `[B, h, w, C]` of any range, else a `TypeError` or `ValueError`.
        strengths: k in [0, 1), `[B]`, else a `ValueError`; 0 changes nothing.
        sizes: Height and width of the lesion, integers `[B, 2]`, else a `ValueError`; the whole
            patch by default. What lies beyond is not meant to be used.

    Returns:
        `[B, h, w, C]` in the type of the patches.
    """
    rows, columns, height, width = _places(patches, sizes)
    strengths = _column("strengths", strengths, patches)
    v, u = (2 * rows + 1) / height - 1, (2 * columns + 1) / width - 1
    squared = u**2 + v**2
    factor = jnp.where(squared < 1.0, 1.0 + strengths * (squared - 1.0), 1.0)
    # As a displacement, which is exactly 0 where nothing moves.
    rows = rows + v * (factor - 1.0) * height / 2
    columns = columns + u * (factor - 1.0) * width / 2
    return _read(patches, rows, columns, height, width)


def horizontal_wave(
    patches: jax.Array,
    amplitudes: jax.Array,
    lengths: jax.Array,
    phases: jax.Array,
    *,
    sizes: jax.Array | None = None,
) -> jax.Array:
    """Moves columns up and down: at (i, j) reads row i + a sin(2 pi j / l + p) of column j.

    Bilinear; the border goes on outside.

    Args:
        patches: Floats `[B, h, w, C]` of any range, else a `TypeError` or `ValueError`.
        amplitudes: a in pixels `[B]`, else a `ValueError`; 0 changes nothing.
        lengths: l in pixels, above 0, `[B]`, else a `ValueError`.
        phases: p in radians `[B]`, else a `ValueError`.
        sizes: Height and width of the lesion, integers `[B, 2]`, else a `ValueError`; the whole
            patch by default.

    Returns:
        `[B, h, w, C]` in the type of the patches.
    """
    rows, columns, height, width = _places(patches, sizes)
    amplitudes = _column("amplitudes", amplitudes, patches)
    lengths = _column("lengths", lengths, patches)
    phases = _column("phases", phases, patches)
    rows = rows + amplitudes * jnp.sin(2 * jnp.pi * columns / lengths + phases)
    return _read(patches, rows, columns, height, width)


def take_patches(
    bank: jax.Array, sources: jax.Array, corners: jax.Array, *, shape: tuple[int, int]
) -> jax.Array:
    """Cuts one patch each out of images of a bank; the border goes on outside.

    Args:
        bank: Images `[M, H, W, C]` of any type, else a `ValueError`.
        sources: Which image, integers `[B]`.
        corners: Row and column of the upper left pixel, integers `[B, 2]`, else a `ValueError`.
        shape: Height and width of the patches, else a `ValueError`.

    Returns:
        `[B, *shape, C]` in the type of the bank.
    """
    checks.images("bank", bank, floating=False)
    checks.size("shape", shape)
    checks.shape_equal("corners", jnp.shape(corners), (*jnp.shape(sources), 2))
    corners = jnp.asarray(corners)
    rows = jnp.clip(corners[:, :1] + jnp.arange(shape[0]), 0, bank.shape[1] - 1)
    columns = jnp.clip(corners[:, 1:] + jnp.arange(shape[1]), 0, bank.shape[2] - 1)
    sources = jnp.asarray(sources)[:, None, None]
    return bank[sources, rows[:, :, None], columns[:, None, :]]


def paste_patches(
    images: jax.Array, patches: jax.Array, corners: jax.Array, sizes: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Pastes n patches into each image in order, later over earlier, with hard edges.

    Args:
        images: `[B, H, W, C]` of any type, else a `ValueError`.
        patches: `[B, n, h, w, C]` of that type, else a `TypeError`; n at least 1, else a
            `ValueError`.
        corners: Row and column of the upper left pixels in the image, integers `[B, n, 2]`, not
            negative; else a `ValueError`.
        sizes: How many rows and columns of the patch are pasted, integers `[B, n, 2]`, at most
            (h, w), else a `ValueError`; 0 for none. Box and image may overlap in part.

    Returns:
        `[B, H, W, C]`, exactly the images outside the boxes, and the union of the boxes, booleans
        `[B, H, W]` (004, section 5.3.2).
    """
    images, patches = jnp.asarray(images), jnp.asarray(patches)
    corners, sizes = jnp.asarray(corners), jnp.asarray(sizes)
    checks.images("images", images, floating=False)
    batch, height, width, channels = images.shape
    if patches.ndim != 5 or patches.shape[:1] + patches.shape[4:] != (batch, channels):
        expected = f"({batch}, n, h, w, {channels})"
        raise ValueError(f"patches: expected shape {expected}, got {patches.shape}.")
    if patches.dtype != images.dtype:
        raise TypeError(f"patches: expected {images.dtype} as the images, got {patches.dtype}.")
    count, h, w = patches.shape[1:4]
    checks.integer("number of patches", count)
    checks.shape_equal("corners", corners.shape, (batch, count, 2))
    checks.shape_equal("sizes", sizes.shape, (batch, count, 2))

    def paste_one(canvas, patch, corner, size):
        inside = (jnp.arange(h)[:, None] < size[0]) & (jnp.arange(w) < size[1])
        start = (corner[0], corner[1], jnp.zeros_like(corner[0]))
        under = jax.lax.dynamic_slice(canvas, start, (h, w, channels))
        return jax.lax.dynamic_update_slice(
            canvas, jnp.where(inside[..., None], patch, under), start
        )

    # The margin holds what a buffer has beyond its lesion.
    canvas = jnp.pad(images, ((0, 0), (0, h), (0, w), (0, 0)))
    swap = lambda x: jnp.swapaxes(x, 0, 1)  # noqa: E731
    step = lambda canvas, one: (jax.vmap(paste_one)(canvas, *one), None)  # noqa: E731
    canvas, _ = jax.lax.scan(step, canvas, (swap(patches), swap(corners), swap(sizes)))

    def within(pixels, axis):  # [B, n, pixels]
        start = corners[..., axis, None]
        places = jnp.arange(pixels)
        return (places >= start) & (places < start + sizes[..., axis, None])

    boxes = within(height, 0)[..., :, None] & within(width, 1)[..., None, :]
    return canvas[:, :height, :width], jnp.any(boxes, axis=1)


def _places(patches: jax.Array, sizes: jax.Array | None):
    """Coordinates `[B, h, w]` of all pixels, height and width of the lesions `[B, 1, 1]`."""
    checks.images("patches", patches)
    batch, h, w, _ = patches.shape
    dtype = precision.widen(patches).dtype
    sizes = jnp.full((batch, 2), jnp.asarray([h, w])) if sizes is None else jnp.asarray(sizes)
    checks.shape_equal("sizes", sizes.shape, (batch, 2))
    height, width = jnp.maximum(sizes, 1).astype(dtype).T[..., None, None]
    rows = jnp.broadcast_to(jnp.arange(h, dtype=dtype)[:, None], (batch, h, w))
    columns = jnp.broadcast_to(jnp.arange(w, dtype=dtype), (batch, h, w))
    return rows, columns, height, width


def _column(name: str, values: jax.Array, patches: jax.Array) -> jax.Array:
    checks.shape_equal(name, jnp.shape(values), patches.shape[:1])
    return jnp.asarray(values)[:, None, None].astype(precision.widen(patches).dtype)


def _read(patches, rows, columns, height, width) -> jax.Array:
    rows, columns = jnp.clip(rows, 0.0, height - 1), jnp.clip(columns, 0.0, width - 1)
    return sampling.bilinear(patches, rows, columns)
