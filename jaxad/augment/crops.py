"""Random crops that are brought to one size, smoothed where they shrink.

Sources: "004" is the thesis whose chapter 4 describes CCD (SimCLR views), "003" the document on
self-distillation (DINO views). The rule for the box is that of torchvision, the resampling that of
Pillow, which both published pipelines use.
"""

import math

import jax
import jax.numpy as jnp

from jaxad.augment import checks, draws, precision

__all__ = ["crop_and_resize", "draw_boxes", "random_resized_crop"]


def draw_boxes(
    keys: jax.Array,
    *,
    shape: tuple[int, int],
    area: tuple[float, float] = (0.2, 1.0),
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
    tries: int = 10,
) -> jax.Array:
    """Boxes of a random share of the image and a random ratio of width to height.

    The share is uniform, the ratio log-uniform, both drawn anew up to `tries` times until the
    rounded box fits; then its place is uniform. If none fits: the largest centred box whose ratio
    is allowed.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        shape: Height and width of the images, else a `ValueError`.
        area: Smallest and largest share, in order and at least 0, else a `ValueError`.
        aspect: Smallest and largest ratio, in order and above 0, else a `ValueError`.
        tries: At least 1, else a `ValueError`.

    Returns:
        Top, left, height and width, int32 `[B, 4]`.
    """
    checks.size("shape", shape)
    checks.interval("area", area, minimum=0.0)
    checks.interval("aspect", aspect, minimum=1e-6)
    checks.integer("tries", tries)
    height, width = shape
    for_area, for_aspect, for_place = draws.split(keys, 3)
    areas = height * width * draws.uniform(for_area, *area, shape=(tries,))
    logs = draws.uniform(for_aspect, *map(math.log, aspect), shape=(tries,))
    ratios = jnp.exp(logs)
    widths = jnp.round(jnp.sqrt(areas * ratios)).astype(jnp.int32)
    heights = jnp.round(jnp.sqrt(areas / ratios)).astype(jnp.int32)
    sizes = jnp.stack([heights, widths], axis=-1)  # [B, tries, 2]
    full = jnp.asarray(shape, jnp.int32)
    fits = jnp.all((sizes > 0) & (sizes <= full), axis=-1)
    first = jnp.argmax(fits, axis=1)[:, None, None]
    chosen = jnp.take_along_axis(sizes, first, axis=1)[:, 0]  # [B, 2]
    corners = draws.integers(for_place, 0, full - chosen + 1, shape=(2,))
    fallback = jnp.asarray(_centred(shape, aspect), jnp.int32)
    boxes = jnp.concatenate([corners, chosen], axis=1)
    return jnp.where(jnp.any(fits, axis=1)[:, None], boxes, fallback)


def crop_and_resize(
    images: jax.Array, boxes: jax.Array, *, size: tuple[int, int], method: str = "bilinear"
) -> jax.Array:
    """Cuts out one box per image and resizes it, as Pillow does.

    Output i of m reads around b + (i + 0.5) l / m of a side that starts at b and is l pixels long,
    with the filter widened to l / m where it shrinks; pixels outside the box have no weight. Two
    products with matrices per image.

    Args:
        images: Floats `[B, H, W, C]` of any range, else a `TypeError` or `ValueError`.
        boxes: Top, left, height and width in pixels `[B, 4]`, else a `ValueError`; inside the image
            and at least one pixel high and wide.
        size: Height and width of the result, else a `ValueError`.
        method: "bilinear" or "bicubic" (a = -0.5), else a `ValueError`. A bicubic result may leave
            the range of the image by a few hundredths.

    Returns:
        `[B, *size, C]` in the type of the images.
    """
    checks.images("images", images)
    checks.shape_equal("boxes", jnp.shape(boxes), (images.shape[0], 4))
    checks.size("size", size)
    if method not in _FILTERS:
        raise ValueError(f"method: expected one of {list(_FILTERS)}, got {method!r}.")
    wide = precision.widen(images)
    boxes = jnp.asarray(boxes).astype(wide.dtype)
    vertical = _weights(boxes[:, 0], boxes[:, 2], images.shape[1], size[0], _FILTERS[method])
    horizontal = _weights(boxes[:, 1], boxes[:, 3], images.shape[2], size[1], _FILTERS[method])
    wide = jnp.einsum("boh,bhwc->bowc", vertical, wide, precision="highest")
    wide = jnp.einsum("bpw,bowc->bopc", horizontal, wide, precision="highest")
    return wide.astype(images.dtype)


def random_resized_crop(
    keys: jax.Array,
    images: jax.Array,
    *,
    size: tuple[int, int],
    method: str = "bilinear",
    area: tuple[float, float] = (0.2, 1.0),
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
) -> tuple[jax.Array, jax.Array]:
    """Cuts a random box out of each image and resizes it.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        images: Floats `[B, H, W, C]` of any range, else a `TypeError` or `ValueError`.
        size: Height and width of the result, else a `ValueError`.
        method: "bilinear" or "bicubic", else a `ValueError`.
        area: Smallest and largest share of the image, in order, else a `ValueError`.
        aspect: Smallest and largest ratio of width to height, in order, else a `ValueError`.

    Returns:
        `[B, *size, C]`, and the boxes int32 `[B, 4]`.
    """
    checks.images("images", images)
    checks.keys("keys", keys, images.shape[0])
    boxes = draw_boxes(keys, shape=images.shape[1:3], area=area, aspect=aspect)
    return crop_and_resize(images, boxes, size=size, method=method), boxes


def _centred(shape: tuple[int, int], aspect: tuple[float, float]) -> tuple[int, int, int, int]:
    height, width = shape
    if width / height < aspect[0]:
        height = round(width / aspect[0])
    elif width / height > aspect[1]:
        width = round(height * aspect[1])
    return (shape[0] - height) // 2, (shape[1] - width) // 2, height, width


def _weights(starts, lengths, inputs: int, outputs: int, kernel) -> jax.Array:
    """The share of each input in each output `[B, outputs, inputs]`."""
    starts, lengths = starts[:, None, None], lengths[:, None, None]
    step = lengths / outputs
    centres = starts + (jnp.arange(outputs)[:, None] + 0.5) * step
    pixels = jnp.arange(inputs) + 0.5
    weights = kernel(jnp.abs(pixels - centres) / jnp.maximum(step, 1.0))
    weights = jnp.where((pixels > starts) & (pixels < starts + lengths), weights, 0.0)
    sums = jnp.sum(weights, axis=-1, keepdims=True)
    return weights / jnp.where(sums > 0.0, sums, 1.0)


def _triangle(distance: jax.Array) -> jax.Array:
    return jnp.maximum(1.0 - distance, 0.0)


def _cubic(distance: jax.Array) -> jax.Array:
    near = (1.5 * distance - 2.5) * distance**2 + 1.0
    far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    return jnp.where(distance < 1.0, near, jnp.where(distance < 2.0, far, 0.0))


_FILTERS = {"bilinear": _triangle, "bicubic": _cubic}
