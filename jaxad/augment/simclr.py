"""Weak views of SimCLR: crop, flip, colours, grey, blur, solarisation; every strength an option.

`draw_view` draws what happens to each image, `apply_view` does it, `random_view` is both. The
defaults are those of the thesis "004" (chapter 4, CCD) with SimCLR's blur; its released code
(github.com/tianyu0207/CCD) has none: `blur=0.0`. Normalise with `color.normalize` afterwards.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxad.augment import blur as blurring
from jaxad.augment import checks, color, crops, draws, rotations

__all__ = ["View", "apply_view", "draw_view", "random_view", "random_views"]


class View(NamedTuple):
    """What happens to each image, in this order.

    Attributes:
        boxes: Top, left, height and width of the crop, int32 `[B, 4]`.
        flipped: Whether left and right are exchanged `[B]`.
        jittered: Whether the colours change `[B]`.
        factors: Strengths of the colour changes, float32 `[B, 4]`.
        order: Order of the colour changes, int32 `[B, 4]`.
        greyed: Whether the colours are taken away `[B]`.
        blurred: Whether the image is blurred `[B]`.
        sigma: Width of the blur in pixels, float32 `[B]`.
        solarized: Whether bright values are inverted `[B]`.
    """

    boxes: jax.Array
    flipped: jax.Array
    jittered: jax.Array
    factors: jax.Array
    order: jax.Array
    greyed: jax.Array
    blurred: jax.Array
    sigma: jax.Array
    solarized: jax.Array


def draw_view(
    keys: jax.Array,
    *,
    shape: tuple[int, int],
    area: tuple[float, float] = (0.2, 1.0),
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
    flip: float = 0.5,
    jitter: float = 0.8,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.1,
    grey: float = 0.2,
    blur: float = 0.5,
    sigma: tuple[float, float] = (0.1, 2.0),
    solarize: float = 0.0,
) -> View:
    """Draws a view of each image.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        shape: Height and width of the images, else a `ValueError`.
        area: Smallest and largest share of the image in the crop, else a `ValueError`.
        aspect: Smallest and largest ratio of width to height, else a `ValueError`.
        flip: Probability of the horizontal flip, in [0, 1], else a `ValueError`.
        jitter: Probability of changed colours, likewise.
        brightness: Strength, at least 0, else a `ValueError`; see `color.draw_jitter`.
        contrast: Strength, likewise.
        saturation: Strength, likewise.
        hue: Strength, in [0, 0.5], else a `ValueError`.
        grey: Probability of no colours, in [0, 1], else a `ValueError`.
        blur: Probability of the blur, likewise.
        sigma: Smallest and largest width of the blur in pixels, in order, else a `ValueError`.
        solarize: Probability of the solarisation, in [0, 1], else a `ValueError`.

    Returns:
        A `View` of `[B, ...]`.
    """
    chances = {"flip": flip, "jitter": jitter, "grey": grey, "blur": blur, "solarize": solarize}
    for name, probability in chances.items():
        checks.probability(name, probability)
    checks.interval("sigma", sigma, minimum=0.0)
    for_box, for_jitter, for_sigma, *for_chances = draws.split(keys, 3 + len(chances))
    happens = {
        name: draws.happens(key, probability)
        for key, (name, probability) in zip(for_chances, chances.items(), strict=True)
    }
    strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    factors, order = color.draw_jitter(for_jitter, hue=hue, **strengths)
    return View(
        boxes=crops.draw_boxes(for_box, shape=shape, area=area, aspect=aspect),
        flipped=happens["flip"],
        jittered=happens["jitter"],
        factors=factors,
        order=order,
        greyed=happens["grey"],
        blurred=happens["blur"],
        sigma=draws.uniform(for_sigma, *sigma),
        solarized=happens["solarize"],
    )


def apply_view(
    images: jax.Array,
    view: View,
    *,
    size: tuple[int, int],
    kernel_size: int,
    method: str = "bilinear",
    threshold: float = 128 / 255,
) -> jax.Array:
    """Makes the view of each image that was drawn.

    Args:
        images: Floats `[B, H, W, C]` in [0, 1], C 1 or 3, else a `TypeError` or `ValueError`.
        view: Of `draw_view`, for as many images, else a `ValueError`.
        size: Height and width of the view, else a `ValueError`.
        kernel_size: Taps of the blur, odd, else a `ValueError`.
        method: Resampling of the crop, "bilinear" or "bicubic", else a `ValueError`.
        threshold: Values from which solarisation inverts, in [0, 1], else a `ValueError`.

    Returns:
        `[B, *size, C]` in [0, 1], in the type of the images.
    """
    checks.colors("images", images)
    views = crops.crop_and_resize(images, view.boxes, size=size, method=method)
    views = rotations.flip_horizontal(jnp.clip(views, 0.0, 1.0), view.flipped)
    views = _choose(view.jittered, color.jitter(views, view.factors, view.order), views)
    views = _choose(view.greyed, color.to_grey(views), views)
    blurred = blurring.gaussian_blur(views, view.sigma, kernel_size=kernel_size)
    views = _choose(view.blurred, blurred, views)
    return _choose(view.solarized, color.solarize(views, threshold=threshold), views)


def random_view(
    keys: jax.Array,
    images: jax.Array,
    *,
    size: tuple[int, int] | None = None,
    kernel_size: int | None = None,
    method: str = "bilinear",
    **strengths,
) -> tuple[jax.Array, View]:
    """One weak view of each image.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        images: Floats `[B, H, W, C]` in [0, 1], C 1 or 3, else a `TypeError` or `ValueError`.
        size: Height and width of the view; by default those of the images.
        kernel_size: Taps of the blur, odd; by default about a tenth of the view's height.
        method: Resampling of the crop, "bilinear" or "bicubic", else a `ValueError`.
        **strengths: Options of `draw_view`.

    Returns:
        `[B, *size, C]` in [0, 1], in the type of the images, and what was drawn (004, section 4).
    """
    checks.colors("images", images)
    checks.keys("keys", keys, images.shape[0])
    size = images.shape[1:3] if size is None else size
    kernel_size = _tenth(size[0]) if kernel_size is None else kernel_size
    view = draw_view(keys, shape=images.shape[1:3], **strengths)
    return apply_view(images, view, size=size, kernel_size=kernel_size, method=method), view


def random_views(
    keys: jax.Array, images: jax.Array, *, views: int = 2, **options
) -> tuple[jax.Array, View]:
    """Several weak views of each image, independent of one another.

    Rows 2 i and 2 i + 1 of `views.reshape(-1, H, W, C)` are then the two views of image i.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        images: Floats `[B, H, W, C]` in [0, 1], C 1 or 3, else a `TypeError` or `ValueError`.
        views: Number of views; at least 1, else a `ValueError`.
        **options: Options of `random_view`.

    Returns:
        `[B, views, *size, C]` in [0, 1], in the type of the images, and what was drawn, its arrays
        `[B, views, ...]`.
    """
    checks.colors("images", images)
    checks.keys("keys", keys, images.shape[0])
    one = lambda keys: random_view(keys, images, **options)  # noqa: E731
    return jax.vmap(one, out_axes=1)(draws.split(keys, views))


def _choose(applied: jax.Array, changed: jax.Array, images: jax.Array) -> jax.Array:
    return jnp.where(jnp.asarray(applied)[:, None, None, None], changed, images)


def _tenth(side: int) -> int:
    return int(0.1 * side) // 2 * 2 + 1
