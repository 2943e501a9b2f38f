"""From low-resolution maps of a network to scores of whole images, in bounded memory.

A network leaves small maps; enlarged to 1024 x 2048 pixels, twenty classes would be 160 MiB an
image. Here an image is enlarged, and scored, a strip of rows at a time: what is kept is one number
per pixel. An image may be looked at several times (scales, mirrored, other networks, dropout), or
through windows that overlap.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxad import fields, resampling
from jaxad.augment import crops
from jaxad.errors import InputError

Maps = Any  # A pytree of `[B, h, w, C]`.


class Inference(NamedTuple):
    """How whole images are looked at; the fields of `config.method.inference`.

    Attributes:
        scales: Factors of the image's size, one look each.
        multiple: Scaled sides are rounded up to a multiple of it.
        flip: Whether each look is repeated on the mirrored image.
        window: Height and width of overlapping windows, each seen by itself, at scale 1 alone; ()
            for the whole image at once.
        window_stride: Distance of neighbouring windows, rows and columns; () for two thirds of the
            window, rounded up.
        rows: Rows of a strip.
    """

    scales: tuple[float, ...] = (1.0,)
    multiple: int = 1
    flip: bool = False
    window: tuple[int, ...] = ()
    window_stride: tuple[int, ...] = ()
    rows: int = 64


class Part(NamedTuple):
    """Maps of a window of an image, or of all of it.

    Attributes:
        maps: At the network's strides.
        corner: Row and column of the window's first pixel.
        size: Height and width of the window, in pixels of the image whatever the scale it was seen
            at: what the maps are enlarged to. What lies beyond the image is not used.
    """

    maps: Maps
    corner: tuple[int, int]
    size: tuple[int, int]


View = tuple[Part, ...]  # One look at an image: all of its windows.


def parse(section: Any) -> Inference:
    """Reads `config.method.inference`.

    Raises:
        InputError: A field is unknown or not as it must be: names it.
    """
    given = {k: tuple(v) if isinstance(v, (list, tuple)) else v for k, v in dict(section).items()}
    unknown = sorted(given.keys() - set(Inference._fields))
    if unknown:
        raise InputError(
            f"config.method.inference has no field {unknown[0]!r}; expected some of "
            f"{list(Inference._fields)}."
        )
    inference = Inference(**given)
    field = "method.inference.{}".format
    good = isinstance(inference.scales, tuple) and all(
        isinstance(scale, (int, float)) and 0 < scale < math.inf for scale in inference.scales
    )
    if not inference.scales or not good:
        raise InputError(
            f"config.{field('scales')}: expected positive numbers, found {inference.scales!r}."
        )
    for name in ("multiple", "rows"):
        fields.positive_integer(field(name), getattr(inference, name))
    fields.boolean(field("flip"), inference.flip)
    for name in ("window", "window_stride"):
        if getattr(inference, name):
            fields.positive_integers(field(name), getattr(inference, name), count=2)
    if inference.window and (inference.scales != (1.0,) or inference.multiple != 1):
        raise InputError(
            f"config.{field('window')}: expected scales=(1.0,) and multiple=1 beside windows, "
            f"found {inference.scales} and {inference.multiple}."
        )
    if inference.window_stride:
        _check_stride(field("window_stride"), inference)
    return inference


def look(
    apply: Callable[[jax.Array], Maps], images: jax.Array, inference: Inference
) -> tuple[View, ...]:
    """Looks at images as often as `inference` asks for.

    Args:
        apply: From normalised images `[B, H, W, 3]` to maps.
        images: Normalised, `[B, H, W, 3]`.
        inference: How.

    Returns:
        A view per scale, and after each its mirrored one if `flip`.
    """
    applied = [apply]
    if inference.flip:
        applied.append(lambda x: jax.tree.map(_mirror, apply(_mirror(x))))
    if inference.window:
        return tuple(_windows(each, images, inference) for each in applied)
    size = images.shape[1:3]
    views = []
    for scale in inference.scales:
        scaled = _scaled(images, scale, inference.multiple)
        views += [whole(each(scaled), size) for each in applied]
    return tuple(views)


def whole(maps: Maps, size: tuple[int, int]) -> View:
    """A view of whole images of that height and width."""
    return (Part(maps, (0, 0), size),)


def by_strips(
    views: Sequence[View],
    size: tuple[int, int],
    function: Callable[[list[Maps]], Any],
    *,
    align_corners: bool,
    rows: int = 64,
) -> Any:
    """Applies a function of enlarged maps to whole images, strip by strip.

    Args:
        views: One or more looks at the same images.
        size: Height and width of the images.
        function: From the enlarged maps `[B, rows, W, C]` of each view to a pytree of
            `[B, rows, W, ...]`; each pixel by itself.
        align_corners: How maps are enlarged, see `jaxad.resampling.taps`.
        rows: Rows of a strip.

    Returns:
        The function's pytree, as `[B, H, W, ...]`.
    """
    rows = min(rows, size[0])
    enlarge = functools.partial(_rows, size=size, rows=rows, align_corners=align_corners)

    def strip(start):
        return function([enlarge(view, start) for view in views])

    strips = jax.lax.map(strip, jnp.arange(0, size[0], rows))

    def joined(x):  # [strips, B, rows, W, ...]
        x = jnp.moveaxis(x, 0, 1)
        return x.reshape(x.shape[0], -1, *x.shape[3:])[:, : size[0]]

    return jax.tree.map(joined, strips)


def fold_strips(
    view: View,
    size: tuple[int, int],
    start: Any,
    function: Callable[[Any, Maps, jax.Array], Any],
    *,
    align_corners: bool,
    rows: int = 64,
) -> Any:
    """Carries a value through the strips of whole images, from the top down.

    Args:
        view: A look at the images.
        size: Height and width of the images.
        start: A pytree.
        function: From it, the enlarged maps `[B, rows, W, C]` of a strip, and which of its rows are
            rows of the images `[rows]`, to the next one.
        align_corners: How maps are enlarged.
        rows: Rows of a strip.

    Returns:
        The last value.
    """
    rows = min(rows, size[0])

    def step(carry, first):
        maps = _rows(view, first, size=size, rows=rows, align_corners=align_corners)
        return function(carry, maps, first + jnp.arange(rows) < size[0]), None

    return jax.lax.scan(step, start, jnp.arange(0, size[0], rows))[0]


def mean_probabilities(logits: Sequence[jax.Array]) -> jax.Array:
    """Mean softmax of several looks, `[..., K]`: what the predicted class is the largest of."""
    return sum(jax.nn.softmax(each, axis=-1) for each in logits) / len(logits)


def _scaled(images: jax.Array, scale: float, multiple: int) -> jax.Array:
    sides = [int(side * scale) for side in images.shape[1:3]]
    size = tuple(max(1, -(-side // multiple)) * multiple for side in sides)
    if size == images.shape[1:3]:
        return images
    boxes = jnp.tile(jnp.asarray([0, 0, *images.shape[1:3]]), (images.shape[0], 1))
    # Smoothed where it shrinks, as Pillow does in the released code of document 001.
    return crops.crop_and_resize(images, boxes, size=size)


def _mirror(maps: jax.Array) -> jax.Array:
    return maps[:, :, ::-1]


def _check_stride(field: str, inference: Inference) -> None:
    if not inference.window:
        raise InputError(f"config.{field}: expected () without, or a stride beside a window.")
    pairs = zip(inference.window_stride, inference.window, strict=True)
    if any(stride > side for stride, side in pairs):
        raise InputError(
            f"config.{field}: expected at most the window, {inference.window}, so that each pixel "
            f"is seen; found {inference.window_stride}."
        )


def _windows(apply, images: jax.Array, inference: Inference) -> View:
    size, window = images.shape[1:3], inference.window
    stride = inference.window_stride or tuple(math.ceil(side * 2 / 3) for side in window)
    short = [max(w - side, 0) for w, side in zip(window, size, strict=True)]
    images = jnp.pad(images, ((0, 0), (0, short[0]), (0, short[1]), (0, 0)))
    tops, lefts = (_starts(*each) for each in zip(images.shape[1:3], window, stride, strict=True))
    corners = [(top, left) for top in tops for left in lefts]
    cut = [images[:, i : i + window[0], j : j + window[1]] for i, j in corners]
    maps = jax.lax.map(apply, jnp.stack(cut))  # One after the other: memory and program of one.
    return tuple(
        Part(jax.tree.map(lambda x, n=n: x[n], maps), corner, window)
        for n, corner in enumerate(corners)
    )


def _starts(side: int, window: int, stride: int) -> list[int]:
    """Windows at multiples of the stride; the last one ends where the image does."""
    count = math.ceil((side - window) / stride) + 1
    return [min(i * stride, side - window) for i in range(count)]


def _rows(view: View, start, *, size: tuple[int, int], rows: int, align_corners: bool) -> Maps:
    """Enlarged rows `[B, rows, W, C]` of a view; the mean of the windows that hold a pixel."""
    if len(view) == 1:  # It starts at the first pixel, and holds all.
        part = view[0]
        return jax.tree.map(
            lambda x: resampling.bilinear_rows(
                x, part.size, start, rows, align_corners=align_corners
            )[:, :, : size[1]],
            part.maps,
        )
    places = start + jnp.arange(rows)
    totals, counts = None, jnp.zeros((rows, size[1], 1), jnp.float32)
    for part in view:
        (top, left), (height, width) = part.corner, part.size
        inside = ((places >= top) & (places < top + height))[:, None, None]
        room = size[1] - left - width  # Negative where a window is wider than the image.

        def cut(x, left=left, room=room):
            x = x[:, :, : x.shape[2] + min(room, 0)]
            return jnp.pad(x, ((0, 0), (0, 0), (left, max(room, 0)), (0, 0)))

        def read(x, part=part, top=top, inside=inside, cut=cut):
            local = resampling.bilinear_rows(
                x, part.size, start - top, rows, align_corners=align_corners
            )
            return cut(jnp.where(inside, local, 0.0))

        values = jax.tree.map(read, part.maps)
        totals = values if totals is None else jax.tree.map(jnp.add, totals, values)
        ones = jnp.broadcast_to(inside, (rows, width, 1)).astype(jnp.float32)
        counts += cut(ones[None])[0]
    return jax.tree.map(lambda x: x / jnp.maximum(counts, 1.0), totals)
