"""Multi-crop views of DINO: a few large views and many small ones of each image.

Source: "003" is the document on self-distillation with negative samples, section 4; it builds on
github.com/facebookresearch/dino, whose settings are the defaults but for the sizes (256 and 128
pixels instead of 224 and 96).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxad.augment import checks, draws, simclr

__all__ = ["random_crops"]

_KERNEL = 13  # Taps: 3 sigma on either side of the widest blur, 2 pixels.


def random_crops(
    keys: jax.Array,
    images: jax.Array,
    *,
    global_size: tuple[int, int] = (256, 256),
    local_size: tuple[int, int] = (128, 128),
    local_views: int = 8,
    global_area: tuple[float, float] = (0.4, 1.0),
    local_area: tuple[float, float] = (0.05, 0.4),
    global_blur: Sequence[float] = (1.0, 0.1),
    global_solarize: Sequence[float] = (0.0, 0.2),
    local_blur: float = 0.5,
    local_solarize: float = 0.0,
    kernel_size: int = _KERNEL,
    method: str = "bicubic",
    saturation: float = 0.2,
    **strengths,
) -> tuple[jax.Array, jax.Array]:
    """Global and local views of each image; global view i has blur and solarisation i.

    The views of negatives are `global_blur=(1.0,), global_solarize=(0.0,)` of the image after its
    negative transform, which so is drawn once per image. For a network that takes views as
    `[view 0 of all images, view 1 of all images, ...]`: `jnp.moveaxis(views, 1, 0)`, reshaped.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        images: Floats `[B, H, W, C]` in [0, 1], C 1 or 3, else a `TypeError` or `ValueError`.
        global_size: Height and width of the global views, else a `ValueError`.
        local_size: Height and width of the local views, else a `ValueError`.
        local_views: Number of local views; at least 1, else a `ValueError`.
        global_area: Smallest and largest share of the image in a global view.
        local_area: Smallest and largest share of the image in a local view.
        global_blur: Probability of the blur for each global view; as many as there are views.
        global_solarize: Probability of the solarisation for each, as many, else a `ValueError`.
        local_blur: Probability of the blur of a local view, in [0, 1], else a `ValueError`.
        local_solarize: Probability of its solarisation, likewise.
        kernel_size: Taps of the blur, odd, else a `ValueError`.
        method: Resampling of the crops, "bilinear" or "bicubic", else a `ValueError`.
        saturation: Strength of the change of saturation.
        **strengths: Further options of `simclr.draw_view`.

    Returns:
        Global views `[B, G, *global_size, C]` and local views `[B, local_views, *local_size, C]`,
        in [0, 1], in the type of the images (003, section 4).
    """
    checks.colors("images", images)
    checks.keys("keys", keys, images.shape[0])
    checks.integer("local_views", local_views)
    if not global_blur or len(global_blur) != len(global_solarize):
        raise ValueError(
            f"global_solarize: expected one probability per global view ({len(global_blur)}), "
            f"got {global_solarize}."
        )
    for name, values in (
        ("global_blur", global_blur),
        ("global_solarize", global_solarize),
        ("local_blur", [local_blur]),
        ("local_solarize", [local_solarize]),
    ):
        for value in values:
            checks.probability(name, value)

    def views(keys, size, area, blur, solarize):
        def one(keys, blur, solarize):
            drawn = simclr.draw_view(
                keys,
                shape=images.shape[1:3],
                area=area,
                blur=blur,
                solarize=solarize,
                saturation=saturation,
                **strengths,
            )
            return simclr.apply_view(
                images, drawn, size=size, kernel_size=kernel_size, method=method
            )

        blur, solarize = jnp.asarray(blur, jnp.float32), jnp.asarray(solarize, jnp.float32)
        return jax.vmap(one, out_axes=1)(draws.split(keys, len(blur)), blur, solarize)

    for_global, for_local = draws.split(keys, 2)
    local = [local_blur] * local_views, [local_solarize] * local_views
    return (
        views(for_global, global_size, global_area, global_blur, global_solarize),
        views(for_local, local_size, local_area, *local),
    )
