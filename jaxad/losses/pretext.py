"""Pretext tasks: which strong augmentation was applied, and where a patch's neighbour lies.

Losses come per row and are reduced by the caller, with `masked.mean(values, valid, axis_name=...)`.
Patches are squares named by their top-left corner (row, column), in pixels.

Sources: "document" is document 004, a thesis whose chapter 4 describes CCD and chapter 5 PMSACL;
"released" is the code published with the former (github.com/tianyu0207/CCD).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxad.losses import checks, cross_entropy, devices, masked

__all__ = [
    "DIRECTIONS",
    "PatchPair",
    "augmentation_classification",
    "augmentation_classification_released",
    "neighbour_corner",
    "neighbour_corner_released",
    "normalized_linear",
    "normalized_linear_released",
    "patch_position",
    "sample_neighbours",
    "sample_neighbours_released",
]

# Rows and columns that a step of each label goes: the eight neighbours in reading order.
DIRECTIONS = np.array(
    [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)], np.int32
)


class PatchPair(NamedTuple):
    """Corners of a patch and of its neighbour, and where the neighbour lies.

    Attributes:
        first: Corners (row, column) `[B, 2]`, int32.
        second: Corners of the neighbours `[B, 2]`, int32.
        direction: Row of `DIRECTIONS` `[B]`, int32.
    """

    first: jax.Array
    second: jax.Array
    direction: jax.Array


def augmentation_classification(
    logits: jax.Array, strong_id: jax.Array, valid: jax.Array | None = None
) -> jax.Array:
    """-log softmax(logits)[k], k the strong augmentation of the item, for each of its views.

    Args:
        logits: Floats `[B, V, K]`, V views of each item; else a `TypeError`.
        strong_id: k, integers 0 to K - 1, `[B]`, else a `ValueError`.
        valid: Items that are no padding `[B]`, else a `ValueError`. All by default.

    Returns:
        Loss per item and view `[B, V]`; 0 for padding.

    References:
        Document, section 4.2.1, eq. 4.3; section 5.3.1, eq. 5.8.
    """
    checks.rank_equal("logits", jnp.shape(logits), "B V K")
    items, views, _ = jnp.shape(logits)
    checks.shape_equal("strong_id", jnp.shape(strong_id), (items,))
    valid = masked.valid_rows(valid, items)
    labels = jnp.broadcast_to(jnp.asarray(strong_id)[:, None], (items, views))
    return cross_entropy.softmax_cross_entropy(logits, labels, valid[:, None])


def augmentation_classification_released(
    logits: jax.Array, strong_id: jax.Array, *, axis_name: str | None = None
) -> jax.Array:
    """The same with the labels as the released code lays them: row r is taught k of item r mod B.

    Rows interleave the views, r = V i + l, while the labels are those of all items, V times over:
    most rows are taught the augmentation of another item. The released code drops the last, short
    batch; so there is no padding.

    Args:
        logits: Floats `[B, V, K]`, else a `TypeError`.
        strong_id: k, integers 0 to K - 1, `[B]`, else a `ValueError`.
        axis_name: Named axis of devices: B counts the items of all.

    Returns:
        Loss per item and view `[B, V]`.
    """
    checks.rank_equal("logits", jnp.shape(logits), "B V K")
    items, views, _ = jnp.shape(logits)
    checks.shape_equal("strong_id", jnp.shape(strong_id), (items,))
    of_all = devices.gather(jnp.asarray(strong_id), axis_name)
    row = devices.first_row(items * views, axis_name) + jnp.arange(items * views)
    labels = of_all[row % of_all.shape[0]].reshape(items, views)
    return cross_entropy.softmax_cross_entropy(logits, labels)


def patch_position(
    logits: jax.Array, direction: jax.Array, valid: jax.Array | None = None
) -> jax.Array:
    """-log softmax(logits)[direction], the place of a patch's neighbour among eight.

    Args:
        logits: Floats `[B, 8]`, else a `TypeError`, or a `ValueError` for other shapes.
        direction: Row of `DIRECTIONS`, integers `[B]`, else a `ValueError`.
        valid: Pairs that are no padding `[B]`, else a `ValueError`. All by default.

    Returns:
        Loss per pair `[B]`; 0 for padding.

    References:
        Document, section 4.2.1, eq. 4.4; section 5.3.1, eq. 5.9.
    """
    checks.rank_equal("logits", jnp.shape(logits), "B 8")
    pairs = jnp.shape(logits)[0]
    checks.shape_equal("logits", jnp.shape(logits), (pairs, len(DIRECTIONS)))
    checks.shape_equal("direction", jnp.shape(direction), (pairs,))
    return cross_entropy.softmax_cross_entropy(logits, direction, masked.valid_rows(valid, pairs))


def normalized_linear(inputs: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """x W̄ + b, W̄ the kernel with the weights that leave each input feature scaled to norm 1.

    Args:
        inputs: x, floats `[..., D]`, else a `TypeError`.
        kernel: W `[D, K]`, else a `ValueError`; the norm runs over K, the outputs.
        bias: b `[K]`, else a `ValueError`.

    Returns:
        Logits `[..., K]`, at least float32. Weights that are all zero stay zero.
    """
    checks.floating("inputs", inputs)
    checks.floating("kernel", kernel)
    checks.rank_equal("kernel", jnp.shape(kernel), "D K")
    checks.shape_equal("kernel", jnp.shape(kernel), (jnp.shape(inputs)[-1], jnp.shape(kernel)[-1]))
    checks.shape_equal("bias", jnp.shape(bias), jnp.shape(kernel)[1:])
    norms = masked.norm(kernel, True, axis=-1)[:, None]
    scaled = masked.widen(kernel) / jnp.where(norms > 0.0, norms, 1.0)
    return masked.widen(inputs) @ scaled + bias


def normalized_linear_released(inputs: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """As `normalized_linear`, with a kernel that receives no gradient; released code.

    Args:
        inputs: Floats `[..., D]`, else a `TypeError`.
        kernel: `[D, K]`, else a `ValueError`; stays as it was initialised.
        bias: `[K]`, else a `ValueError`.

    Returns:
        Logits `[..., K]`, at least float32.
    """
    return normalized_linear(inputs, jax.lax.stop_gradient(kernel), bias)


def neighbour_corner(
    first: jax.Array, direction: jax.Array, jitter: jax.Array, *, patch_size: int
) -> jax.Array:
    """p + d · (⌊3/4 K⌋ + δ) per axis: a neighbour that overlaps the patch by up to a quarter.

    Axes along which the direction is 0 do not move.

    Args:
        first: p, corners (row, column), integers `[..., 2]`.
        direction: Row d of `DIRECTIONS`, integers `[...]`, else a `ValueError`.
        jitter: δ, integers `[..., 2]`, else a `ValueError`.
        patch_size: K, at least 2, else a `ValueError`; a single pixel has no other neighbour.

    Returns:
        Corners `[..., 2]`, which may lie outside the image.

    References:
        Released code, without its clipping.
    """
    _check_patch_size(patch_size)
    checks.shape_equal("direction", jnp.shape(direction), jnp.shape(first)[:-1])
    checks.shape_equal("jitter", jnp.shape(jitter), jnp.shape(first))
    return first + _step(direction, jitter, patch_size)


def neighbour_corner_released(
    first: jax.Array,
    direction: jax.Array,
    jitter: jax.Array,
    *,
    image_size: tuple[int, int],
    patch_size: int,
) -> jax.Array:
    """`neighbour_corner`, clipped to the corners at which a patch fits; released code.

    Near the border the neighbour is then not where the direction says, and may be the patch itself.

    Args:
        first: Corners (row, column), integers `[..., 2]`.
        direction: Row of `DIRECTIONS`, integers `[...]`, else a `ValueError`.
        jitter: Integers `[..., 2]`, else a `ValueError`.
        image_size: Height and width, at least `patch_size`, else a `ValueError`.
        patch_size: K, at least 2, else a `ValueError`; a single pixel has no other neighbour.

    Returns:
        Corners `[..., 2]`.
    """
    moved = neighbour_corner(first, direction, jitter, patch_size=patch_size)
    return jnp.clip(moved, 0, _last_corner(image_size, patch_size, at_least=patch_size))


def sample_neighbours(
    keys: jax.Array, *, image_size: tuple[int, int], patch_size: int
) -> PatchPair:
    """Draws a direction, a jitter δ from 0 to K/4 - 1 per axis, and a patch whose neighbour fits.

    The patch is uniform among those whose neighbour lies inside the image, so that every label is
    true.

    Args:
        keys: One typed PRNG key per image, `[B]`.
        image_size: Height and width, at least K plus the longest step, ⌊3/4 K⌋ + ⌊K/4⌋ - 1, else a
            `ValueError`.
        patch_size: K, at least 2, else a `ValueError`; a single pixel has no other neighbour.

    Returns:
        Pairs `[B]`.
    """
    _check_patch_size(patch_size)
    longest = patch_size * 3 // 4 + _jitters(patch_size) - 1
    last = _last_corner(image_size, patch_size, at_least=patch_size + longest)

    def draw(key):
        direction, jitter, place = _draw(key, patch_size)
        step = _step(direction, jitter, patch_size)
        lowest, highest = jnp.maximum(0, -step), last - jnp.maximum(0, step)
        first = jax.random.randint(place, (2,), lowest, highest + 1, jnp.int32)
        return PatchPair(first, first + step, direction)

    return jax.vmap(draw)(_check_keys(keys))


def sample_neighbours_released(
    keys: jax.Array, *, image_size: tuple[int, int], patch_size: int
) -> PatchPair:
    """Draws a patch anywhere, a direction and a jitter, and clips the neighbour; released code.

    Args:
        keys: One typed PRNG key per image, `[B]`.
        image_size: Height and width, at least `patch_size`, else a `ValueError`.
        patch_size: K, at least 2, else a `ValueError`; a single pixel has no other neighbour.

    Returns:
        Pairs `[B]`; see `neighbour_corner_released` for what clipping does to the labels.
    """
    _check_patch_size(patch_size)
    last = _last_corner(image_size, patch_size, at_least=patch_size)

    def draw(key):
        direction, jitter, place = _draw(key, patch_size)
        first = jax.random.randint(place, (2,), 0, last + 1, jnp.int32)
        second = neighbour_corner_released(
            first, direction, jitter, image_size=image_size, patch_size=patch_size
        )
        return PatchPair(first, second, direction)

    return jax.vmap(draw)(_check_keys(keys))


def _draw(key, patch_size):
    """A direction, a jitter `[2]` and the key that is left for the place."""
    which, how_far, place = jax.random.split(key, 3)
    direction = jax.random.randint(which, (), 0, len(DIRECTIONS), jnp.int32)
    jitter = jax.random.randint(how_far, (2,), 0, _jitters(patch_size), jnp.int32)
    return direction, jitter, place


def _check_patch_size(patch_size):
    checks.positive_integer("patch_size", patch_size)
    if patch_size < 2:
        raise ValueError(f"patch_size: expected an integer of at least 2, got {patch_size}.")


def _jitters(patch_size):
    return max(1, patch_size // 4)


def _step(direction, jitter, patch_size):
    return jnp.asarray(DIRECTIONS)[direction] * (patch_size * 3 // 4 + jitter)


def _last_corner(image_size, patch_size, *, at_least):
    """The last corner at which a patch fits `[2]`, int32."""
    if len(image_size) != 2 or min(image_size) < at_least:
        raise ValueError(
            f"image_size: expected a height and a width of at least {at_least} for patches of"
            f" {patch_size}, got {tuple(image_size)}."
        )
    return np.array(image_size, np.int32) - patch_size


def _check_keys(keys):
    checks.rank_equal("keys", jnp.shape(keys), "B")
    return keys
