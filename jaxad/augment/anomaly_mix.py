"""AnomalyMix: objects cut out of other images and pasted into scenes, with their label maps.

Objects are neither scaled nor turned nor blended. Batches need one size: pad smaller objects, with
a mask of zeros; only the bounding box of the mask counts.

Source: "004" is the thesis whose chapter 11 describes PEBAL, section 3 of its sheet, and the code
released with it (github.com/tianyu0207/PEBAL).
"""

import jax
import jax.numpy as jnp

from jaxad.augment import checks, draws

__all__ = ["anomaly_mix", "bounding_boxes", "random_anomaly_mix"]


def bounding_boxes(masks: jax.Array) -> jax.Array:
    """The smallest box around the pixels of a mask.

    Args:
        masks: Booleans, or zeros and others, `[B, h, w]`, else a `ValueError`.

    Returns:
        Top, left, height and width, int32 `[B, 4]`; zeros for an empty mask.
    """
    masks = jnp.asarray(masks)
    if masks.ndim != 3:
        raise ValueError(f"masks: expected axes [B, h, w], got shape {masks.shape}.")
    sides = []
    for axis in (2, 1):
        used = jnp.any(masks != 0, axis=axis)
        first = jnp.argmax(used, axis=1)
        last = used.shape[1] - 1 - jnp.argmax(used[:, ::-1], axis=1)
        sides.append((first, (last - first + 1) * jnp.any(used, axis=1)))
    (top, height), (left, width) = sides
    return jnp.stack([top, left, height, width], axis=1).astype(jnp.int32)


def anomaly_mix(
    images: jax.Array,
    labels: jax.Array,
    objects: jax.Array,
    masks: jax.Array,
    corners: jax.Array,
    *,
    outlier: int = 254,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Copies the masked pixels of an object into each image and labels them as outliers.

    Nothing is changed where the mask is empty, or where its bounding box would leave the image:
    such an object is rejected, as values cannot raise under `jit`.

    Args:
        images: `[B, H, W, C]` of any type, else a `ValueError`.
        labels: Integers `[B, H, W]`, else a `TypeError` or `ValueError`.
        objects: `[B, h, w, C]` of the type of the images, else a `TypeError` or `ValueError`.
        masks: Booleans, or zeros and others, `[B, h, w]`, else a `ValueError`: the object's pixels.
            For COCO annotations `annotation == 254`.
        corners: Row and column of the image where the upper left pixel of the mask's bounding box
            goes, integers `[B, 2]`, else a `ValueError`.
        outlier: Label of the object.

    Returns:
        The images and labels, in their types, and whether anything was pasted, booleans `[B]`
        (004, chapter 11; released code).
    """
    images, labels, objects = jnp.asarray(images), jnp.asarray(labels), jnp.asarray(objects)
    masks, corners = jnp.asarray(masks) != 0, jnp.asarray(corners)
    _check(images, labels, objects, masks)
    checks.shape_equal("corners", corners.shape, (images.shape[0], 2))
    checks.integers("corners", corners)
    boxes = bounding_boxes(masks)
    size = jnp.asarray(images.shape[1:3])
    fits = jnp.all((corners >= 0) & (corners + boxes[:, 2:] <= size), axis=1)
    pasted = fits & (boxes[:, 2] > 0)

    def one(image, label, thing, mask, box, corner, pasted):
        rows = jnp.arange(image.shape[0]) - corner[0] + box[0]
        columns = jnp.arange(image.shape[1]) - corner[1] + box[1]
        known = ((rows >= 0) & (rows < mask.shape[0]))[:, None]
        known &= (columns >= 0) & (columns < mask.shape[1])
        read = lambda x: x.at[rows].get(mode="clip").at[:, columns].get(mode="clip")  # noqa: E731
        inside = known & read(mask) & pasted
        mixed = jnp.where(inside[..., None], read(thing), image)
        return mixed, jnp.where(inside, jnp.asarray(outlier, label.dtype), label)

    mixed = jax.vmap(one)(images, labels, objects, masks, boxes, corners, pasted)
    return *mixed, pasted


def random_anomaly_mix(
    keys: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    objects: jax.Array,
    masks: jax.Array,
    *,
    outlier: int = 254,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """AnomalyMix at a place drawn uniformly among those where the bounding box fits.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        images: `[B, H, W, C]` of any type, else a `ValueError`.
        labels: Integers `[B, H, W]`, else a `TypeError` or `ValueError`.
        objects: `[B, h, w, C]` of the type of the images, else a `TypeError` or `ValueError`.
        masks: Booleans, or zeros and others, `[B, h, w]`, else a `ValueError`.
        outlier: Label of the object.

    Returns:
        The images and labels, whether anything was pasted, booleans `[B]`, and the corners, int32
        `[B, 2]`. An object larger than the image is not pasted.
    """
    checks.images("images", images, floating=False)
    checks.keys("keys", keys, images.shape[0])
    _check(images, labels, objects, masks)
    sizes = bounding_boxes(masks)[:, 2:]
    free = jnp.asarray(images.shape[1:3]) - sizes + 1
    corners = draws.integers(keys, 0, free, shape=(2,))
    mixed = anomaly_mix(images, labels, objects, masks, corners, outlier=outlier)
    return *mixed, corners


def _check(images, labels, objects, masks) -> None:
    checks.images("images", images, floating=False)
    checks.labels("labels", labels, images)
    checks.images("objects", objects, floating=False)
    expected = (images.shape[0], *objects.shape[1:3], images.shape[3])
    checks.shape_equal("objects", objects.shape, expected)
    if jnp.result_type(objects) != jnp.result_type(images):
        raise TypeError(f"objects: expected {images.dtype} as the images, got {objects.dtype}.")
    checks.shape_equal("masks", jnp.shape(masks), objects.shape[:3])
