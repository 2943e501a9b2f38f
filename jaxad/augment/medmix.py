"""MedMix: patches of other normal images, deformed and pasted as synthetic lesions.

A lesion is cut out of an image of the `bank` (say, of the whole batch), changed in colour, bent by
a fisheye and a wave, made noisy, and pasted with hard edges. `draw_lesions` draws what happens,
`paste_lesions` does it, `random_medmix` is both. Sources are the images of the bank as they are, so
no lesion holds part of another.

Patches live in buffers of one size: the lesion is the upper left `sizes` of its buffer.

Source: "004" is the thesis whose chapter 5 describes PMSACL and MedMix (sections 5.3.2 and 5.4.2).
It gives neither sizes nor strengths; those here are this project's.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxad.augment import checks, color, draws, noise, precision
from jaxad.augment import patches as lesion_patches

__all__ = [
    "Lesions",
    "deform",
    "draw_lesions",
    "paste_lesions",
    "random_medmix",
]


class Lesions(NamedTuple):
    """n lesions of each image, pasted in order.

    Attributes:
        sizes: Height and width in pixels, int32 `[B, n, 2]`; 0 for a lesion that is not pasted.
        sources: Which image of the bank, int32 `[B, n]`.
        source_corners: Row and column of the upper left pixel there, int32 `[B, n, 2]`.
        corners: Row and column of the upper left pixel in the image, int32 `[B, n, 2]`.
        jittered: Whether the colours change `[B, n]`.
        factors: Strengths of the colour changes, float32 `[B, n, 4]`; see `color.jitter`.
        order: Order of the colour changes, int32 `[B, n, 4]`.
        fisheyed: Whether the fisheye is used `[B, n]`.
        strengths: Strengths of the fisheye, float32 `[B, n]`.
        waved: Whether the wave is used `[B, n]`.
        waves: Amplitude and length in pixels, and phase, float32 `[B, n, 3]`.
        sigma: Standard deviation of the noise, float32 `[B, n]`; 0 for none.
        noise: Standard normal numbers, float32 `[B, n, h, w, C]`; h and w are the buffer's size.
    """

    sizes: jax.Array
    sources: jax.Array
    source_corners: jax.Array
    corners: jax.Array
    jittered: jax.Array
    factors: jax.Array
    order: jax.Array
    fisheyed: jax.Array
    strengths: jax.Array
    waved: jax.Array
    waves: jax.Array
    sigma: jax.Array
    noise: jax.Array


def deform(patches: jax.Array, lesions: Lesions) -> jax.Array:
    """Changes the appearance of lesions: colours, fisheye, wave, noise; clipped to [0, 1].

    Args:
        patches: Floats `[B, n, h, w, C]` in [0, 1], else a `ValueError`.
        lesions: As many, with noise of that shape, else a `ValueError`.

    Returns:
        `[B, n, h, w, C]` in the type of the patches (004, section 5.3.2).
    """
    checks.shape_equal("lesions.noise", jnp.shape(lesions.noise), jnp.shape(patches))
    shape = jnp.shape(patches)
    flat = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
    choose = lambda which, new, old: jnp.where(which[:, None, None, None], new, old)  # noqa: E731
    lesions = jax.tree.map(flat, lesions)
    sizes, strengths, waves = lesions.sizes, lesions.strengths, lesions.waves
    out = precision.widen(flat(jnp.asarray(patches)))
    inside = jnp.arange(shape[2])[:, None] < sizes[:, 0, None, None]
    inside &= jnp.arange(shape[3]) < sizes[:, 1, None, None]
    jittered = color.jitter(out, lesions.factors, lesions.order, where=inside)
    out = choose(lesions.jittered, jittered, out)
    out = choose(lesions.fisheyed, lesion_patches.fisheye(out, strengths, sizes=sizes), out)
    waved = lesion_patches.horizontal_wave(out, waves[:, 0], waves[:, 1], waves[:, 2], sizes=sizes)
    out = choose(lesions.waved, waved, out)
    sigma = precision.widen(lesions.sigma)[:, None, None, None]
    out = noise.add_noise(out, lesions.noise * sigma)
    return out.astype(patches.dtype).reshape(shape)


def paste_lesions(
    images: jax.Array, bank: jax.Array, lesions: Lesions
) -> tuple[jax.Array, jax.Array]:
    """Cuts lesions out of the bank, deforms and pastes them.

    Args:
        images: Floats `[B, H, W, C]` in [0, 1], C 1 or 3, else a `TypeError` or `ValueError`.
        bank: Images `[M, H', W', C]` of that type, else a `TypeError` or `ValueError`.
        lesions: For as many images, else a `ValueError`.

    Returns:
        `[B, H, W, C]`, exactly the images outside the boxes, and the union of the boxes, booleans
        `[B, H, W]` (004, section 5.3.2).
    """
    checks.images("images", images)
    _check_bank(images, bank)
    batch, count, h, w, _ = lesions.noise.shape
    checks.shape_equal("lesions.sources", lesions.sources.shape, (images.shape[0], count))
    corners = lesions.source_corners.reshape(-1, 2)
    patches = lesion_patches.take_patches(bank, lesions.sources.reshape(-1), corners, shape=(h, w))
    patches = deform(patches.reshape(batch, count, h, w, -1), lesions)
    return lesion_patches.paste_patches(images, patches, lesions.corners, lesions.sizes)


def draw_lesions(
    keys: jax.Array,
    counts: jax.Array,
    places: jax.Array | None = None,
    *,
    shape: tuple[int, int, int],
    bank_shape: tuple[int, int, int],
    largest: int = 3,
    extent: tuple[float, float] = (0.05, 0.25),
    smallest: int = 3,
    probability: float = 0.5,
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1),
    strength: tuple[float, float] = (0.2, 0.6),
    amplitude: tuple[float, float] = (0.05, 0.15),
    length: tuple[float, float] = (0.5, 1.0),
    sigma: tuple[float, float] = (0.0, 0.1),
) -> Lesions:
    """Draws the lesions of each image.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        counts: Number of lesions of each image, the class n, integers in 0..largest `[B]`, else a
            `ValueError`.
        places: Which image of the bank each image is, integers `[B]`, else a `TypeError` or
            `ValueError`: it is then not its own source unless it is the only one. By default any
            image of the bank may be the source.
        shape: Height, width and channels of the images, else a `ValueError`.
        bank_shape: Number, height and width of the images of the bank, else a `ValueError`.
        largest: Largest number of lesions; at least 1, else a `ValueError`.
        extent: Smallest and largest height and width as a share of the image's, else a
            `ValueError` (patches of 32 pixels: (0.15, 0.4)).
        smallest: Least height and width in pixels; at least 1, else a `ValueError`.
        probability: Of each deformation, in [0, 1], else a `ValueError`.
        jitter: Strengths of brightness, contrast, saturation and hue, else a `ValueError`; see
            `color.draw_jitter`.
        strength: Smallest and largest strength of the fisheye, in order and in [0, 1), else a
            `ValueError`.
        amplitude: Smallest and largest amplitude of the wave as a share of the lesion's height, in
            order, else a `ValueError`.
        length: Smallest and largest length of the wave as a share of the lesion's width, in order
            and above 0, else a `ValueError`.
        sigma: Smallest and largest standard deviation of the noise, in order and at least 0, else
            a `ValueError`.

    Returns:
        `Lesions` of `[B, largest, ...]`; the first `counts` of each image have a size.
    """
    checks.keys("keys", keys)
    checks.shape_equal("counts", jnp.shape(counts), keys.shape)
    checks.integer("largest", largest)
    checks.interval("extent", extent, minimum=0.0)
    checks.integer("smallest", smallest)
    if places is not None:
        checks.shape_equal("places", jnp.shape(places), keys.shape)
        checks.integers("places", places)
    checks.interval("strength", strength, minimum=0.0)
    if strength[1] >= 1.0:
        raise ValueError(f"strength: expected less than 1, got {strength!r}.")
    checks.interval("amplitude", amplitude)
    checks.interval("length", length, minimum=1e-6)
    checks.interval("sigma", sigma, minimum=0.0)
    if len(jitter) != 4:
        raise ValueError(f"jitter: expected 4 strengths, got {jitter!r}.")
    buffer = tuple(max(smallest, round(extent[1] * side)) for side in shape[:2])
    sides = jnp.asarray([*shape[:2], *bank_shape[1:]])
    if any(buffer[i] > min(shape[i], bank_shape[i + 1]) for i in (0, 1)):
        raise ValueError(f"extent: lesions of up to {buffer} pixels do not fit into {shape[:2]}.")
    each = (keys.shape[0], largest)
    lesion_keys = draws.split(keys, largest).T.reshape(-1)
    k = draws.split(lesion_keys, 15)
    share = draws.uniform(k[0], *extent, shape=(2,)) * sides[:2]
    sizes = jnp.clip(jnp.round(share).astype(jnp.int32), smallest, jnp.asarray(buffer))
    factors, order = color.draw_jitter(
        k[3], **dict(zip(("brightness", "contrast", "saturation", "hue"), jitter, strict=True))
    )
    waves = [
        draws.uniform(k[6], *amplitude) * sizes[:, 0],
        draws.uniform(k[7], *length) * sizes[:, 1],
        draws.uniform(k[8], 0.0, 2 * jnp.pi),
    ]
    lesions = Lesions(
        sizes=sizes,
        sources=_draw_sources(k[9], places, bank_shape[0], largest),
        source_corners=draws.integers(k[1], 0, sides[2:] - sizes + 1, shape=(2,)),
        corners=draws.integers(k[2], 0, sides[:2] - sizes + 1, shape=(2,)),
        jittered=draws.happens(k[4], probability),
        factors=factors,
        order=order,
        fisheyed=draws.happens(k[10], probability),
        strengths=draws.uniform(k[5], *strength),
        waved=draws.happens(k[11], probability),
        waves=jnp.stack(waves, axis=-1),
        sigma=draws.happens(k[12], probability) * draws.uniform(k[13], *sigma),
        noise=draws.normal(k[14], shape=(*buffer, shape[2])),
    )
    lesions = jax.tree.map(lambda x: x.reshape(*each, *x.shape[1:]), lesions)
    active = jnp.arange(largest) < jnp.asarray(counts)[:, None]
    return lesions._replace(sizes=lesions.sizes * active[..., None])


def random_medmix(
    keys: jax.Array,
    images: jax.Array,
    counts: jax.Array,
    bank: jax.Array,
    places: jax.Array | None = None,
    **options,
) -> tuple[jax.Array, Lesions]:
    """MedMix: gives each image its number of synthetic lesions, before the weak views are made.

    The bank is the batch, or what all devices hold of it; an image's result depends on its key, on
    itself and on the bank.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        images: Floats `[B, H, W, C]` in [0, 1], C 1 or 3, else a `TypeError` or `ValueError`.
        counts: Number of lesions, the class n, integers in 0..largest `[B]`, else a `ValueError`;
            0 leaves the image exactly as it is.
        bank: Normal images `[M, H', W', C]` of that type, else a `TypeError` or `ValueError`.
        places: Which image of the bank each image is, integers `[B]`; see `draw_lesions`.
        **options: Options of `draw_lesions`.

    Returns:
        `[B, H, W, C]` in [0, 1], in the type of the images, and what was drawn (004, 5.3.2).
    """
    checks.images("images", images)
    _check_bank(images, bank)
    checks.keys("keys", keys, images.shape[0])
    shapes = {"shape": images.shape[1:], "bank_shape": bank.shape[:3]}
    lesions = draw_lesions(keys, counts, places, **shapes, **options)
    return paste_lesions(images, bank, lesions)[0], lesions


def _check_bank(images: jax.Array, bank: jax.Array) -> None:
    checks.images("bank", bank)
    expected, actual = jnp.result_type(images), jnp.result_type(bank)
    if actual != expected:
        raise TypeError(f"bank: expected {expected} as the images, got {actual}.")
    checks.shape_equal("bank", jnp.shape(bank), (*jnp.shape(bank)[:3], jnp.shape(images)[3]))


def _draw_sources(keys, places, bank_size: int, largest: int) -> jax.Array:
    if places is None or bank_size == 1:
        return draws.integers(keys, 0, bank_size)
    own = jnp.repeat(jnp.asarray(places), largest)
    other = draws.integers(keys, 0, bank_size - 1)
    return other + (other >= own)
