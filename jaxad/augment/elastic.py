"""Elastic deformation by a lattice of cubic B-splines.

A place p of the result is read at p + u(p), the field u given by control points. Lattice and locked
borders are those of TorchIO 1.2.1 (and ITK), up to mirroring the lattice and the sign of u, which
change no distribution.

Source: "000" is the document on auxiliary prototypes, section 5.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxad.augment import checks, draws, precision, sampling

__all__ = ["deform_images", "deform_labels", "random_elastic", "spline_fields"]


def spline_fields(controls: jax.Array, *, size: tuple[int, int]) -> jax.Array:
    """Displacements of all pixels from those of the control points: u = B_h c B_w^T.

    M control points span M - 3 cells; point m lies m - 1 cells from the image's edge and pixel i at
    (i + 0.5) / H · (M - 3), so the outermost points lie outside the image.

    Args:
        controls: Row and column displacements in pixels, floats `[B, M, M', 2]`, M and M' at least
            4, else a `ValueError`.
        size: Height and width of the images, else a `ValueError`.

    Returns:
        Row and column displacements in pixels `[B, *size, 2]`, at least float32.
    """
    checks.images("controls", controls)
    checks.size("size", size)
    if min(controls.shape[1:3]) < 4 or controls.shape[3] != 2:
        raise ValueError(f"controls: expected [B, M, M', 2] with M, M' >= 4, got {controls.shape}.")
    wide = precision.widen(controls)
    vertical, horizontal = (
        jnp.asarray(_basis(n, m), wide.dtype)
        for n, m in zip(size, controls.shape[1:3], strict=True)
    )
    fields = jnp.einsum("hm,bmnc->bhnc", vertical, wide, precision="highest")
    return jnp.einsum("wn,bhnc->bhwc", horizontal, fields, precision="highest")


def deform_images(images: jax.Array, fields: jax.Array) -> jax.Array:
    """Reads each pixel p at p + u(p), bilinear; more than half a pixel outside is the minimum.

    Args:
        images: Floats `[B, H, W, C]` of any range, else a `TypeError` or `ValueError`.
        fields: Row and column displacements in pixels `[B, H, W, 2]`, else a `ValueError`.

    Returns:
        `[B, H, W, C]` in the type of the images; places outside hold the image's minimum
        (000, section 5).
    """
    checks.images("images", images)
    rows, columns = _places(images, fields)
    read = sampling.bilinear(images, rows, columns)
    inside = sampling.within(rows, columns, size=images.shape[1:3])[..., None]
    return jnp.where(inside, read, jnp.min(images, axis=(1, 2, 3), keepdims=True))


def deform_labels(labels: jax.Array, fields: jax.Array, *, background: int = 0) -> jax.Array:
    """Reads each pixel p at the pixel nearest to p + u(p); outside is background.

    Args:
        labels: Integers `[B, H, W]`, else a `TypeError` or `ValueError`.
        fields: Row and column displacements in pixels `[B, H, W, 2]`, else a `ValueError`.
        background: Label of places outside.

    Returns:
        Integers `[B, H, W]` in the type of the labels.
    """
    labels = jnp.asarray(labels)
    checks.integers("labels", labels)
    if labels.ndim != 3:
        raise ValueError(f"labels: expected axes [B, H, W], got shape {labels.shape}.")
    rows, columns = _places(labels, fields)
    inside = sampling.within(rows, columns, size=labels.shape[1:3])
    outside = jnp.asarray(background, labels.dtype)
    return jnp.where(inside, sampling.nearest(labels, rows, columns), outside)


def random_elastic(
    keys: jax.Array,
    images: jax.Array,
    *,
    lattice: int = 7,
    locked: int = 2,
    displacement: float = 7.5,
) -> tuple[jax.Array, jax.Array]:
    """Moves the inner control points at random and the image with them.

    The labels of an image follow with `deform_labels(labels, fields)`.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        images: Floats `[B, H, W, C]` of any range, else a `TypeError` or `ValueError`.
        lattice: Control points per side; at least 4, else a `ValueError`.
        locked: Rings of control points, from the outside, that do not move; at least 0 and leaving
            one point, else a `ValueError`.
        displacement: Largest displacement of a control point per axis in pixels, at least 0, else a
            `ValueError`.

    Returns:
        The images, and the fields float32 `[B, H, W, 2]` (000, section 5).
    """
    checks.images("images", images)
    checks.keys("keys", keys, images.shape[0])
    checks.integer("lattice", lattice, minimum=4)
    checks.integer("locked", locked, minimum=0)
    free = lattice - 2 * locked
    if free < 1:
        raise ValueError(f"locked: {locked} rings leave no point of {lattice} to move.")
    if displacement < 0.0:
        raise ValueError(f"displacement: expected at least 0, got {displacement}.")
    controls = draws.uniform(keys, -displacement, displacement, shape=(free, free, 2))
    border = (locked, locked)
    controls = jnp.pad(controls, ((0, 0), border, border, (0, 0)))
    fields = spline_fields(controls, size=images.shape[1:3])
    return deform_images(images, fields), fields


def _basis(pixels: int, points: int) -> np.ndarray:
    """Weights of the control points at the pixels `[pixels, points]`; rows sum to 1."""
    places = (np.arange(pixels)[:, None] + 0.5) / pixels * (points - 3)
    distance = np.abs(places - (np.arange(points) - 1))
    near = 2 / 3 - distance**2 + distance**3 / 2
    return np.where(distance < 1, near, np.maximum(2 - distance, 0) ** 3 / 6)


def _places(values: jax.Array, fields: jax.Array) -> tuple[jax.Array, jax.Array]:
    checks.shape_equal("fields", jnp.shape(fields), (*values.shape[:3], 2))
    fields = precision.widen(fields)
    rows = jnp.arange(values.shape[1], dtype=fields.dtype)[:, None] + fields[..., 0]
    return rows, jnp.arange(values.shape[2], dtype=fields.dtype) + fields[..., 1]
