"""Exchanged patches: outliers made of an image's own pixels.

Source: "000" is the document on auxiliary prototypes, section 5; its random swap is that of TorchIO
1.2.1 on two-dimensional images.
"""

import jax
import jax.numpy as jnp

from jaxad.augment import checks, draws

__all__ = ["random_swap", "swap_patches"]


def swap_patches(images: jax.Array, locations: jax.Array, *, patch: int = 15) -> jax.Array:
    """Exchanges pairs of square patches, one pair after the other.

    The first patch is written over the second place, then the saved second patch over the first;
    so the pixels of patches that overlap are not all kept, as in TorchIO.

    Args:
        images: `[B, H, W, C]` of any type and range, H and W at least `patch`, else a `ValueError`.
        locations: Integers `[B, n, 2, 2]`, else a `ValueError`: row and column of the upper left
            pixel of the first and of the second patch, both inside the image.
        patch: Side of a patch; at least 1, else a `ValueError`.

    Returns:
        `[B, H, W, C]` in the type of the images (000, section 5).
    """
    images, locations = jnp.asarray(images), jnp.asarray(locations)
    _check(images, patch)
    if locations.ndim != 4 or locations.shape != (len(images), locations.shape[1], 2, 2):
        raise ValueError(
            f"locations: expected shape ({len(images)}, n, 2, 2), got {locations.shape}."
        )
    checks.integers("locations", locations)
    size = (patch, patch, images.shape[3])

    def exchange(image, pair):
        places = [(row, column, jnp.zeros_like(row)) for row, column in pair]
        first, second = (jax.lax.dynamic_slice(image, place, size) for place in places)
        image = jax.lax.dynamic_update_slice(image, first, places[1])
        return jax.lax.dynamic_update_slice(image, second, places[0])

    step = lambda images, pairs: (jax.vmap(exchange)(images, pairs), None)  # noqa: E731
    return jax.lax.scan(step, images, jnp.swapaxes(locations, 0, 1))[0]


def random_swap(
    keys: jax.Array, images: jax.Array, *, patch: int = 15, swaps: int = 100
) -> tuple[jax.Array, jax.Array]:
    """Exchanges pairs of patches at random places, never a patch with itself.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        images: `[B, H, W, C]` of any type and range, else a `ValueError`.
        patch: Side of a patch; below H and W, as TorchIO never uses the last place of a side, and
            leaving two places, else a `ValueError`.
        swaps: Number of exchanges, at least 1, else a `ValueError`.

    Returns:
        The images, and the locations int32 `[B, swaps, 2, 2]`; each place is uniform in
        [0, H - patch) by [0, W - patch).
    """
    checks.keys("keys", keys, images.shape[0])
    _check(images, patch)
    checks.integer("swaps", swaps)
    rows, columns = images.shape[1] - patch, images.shape[2] - patch
    if min(rows, columns) < 1 or rows * columns < 2:
        raise ValueError(f"patch: {patch} leaves no two places in images {images.shape[1:3]}.")
    for_first, for_second = draws.split(keys, 2)
    first = draws.integers(for_first, 0, rows * columns, shape=(swaps,))
    # One place fewer, those from the first on moved up: uniform over the others.
    second = draws.integers(for_second, 0, rows * columns - 1, shape=(swaps,))
    places = jnp.stack([first, second + (second >= first)], axis=-1)
    locations = jnp.stack([places // columns, places % columns], axis=-1)
    return swap_patches(images, locations, patch=patch), locations


def _check(images: jax.Array, patch: int) -> None:
    checks.images("images", images, floating=False)
    checks.integer("patch", patch)
    if patch > min(images.shape[1:3]):
        raise ValueError(f"patch: expected at most {min(images.shape[1:3])}, got {patch}.")
