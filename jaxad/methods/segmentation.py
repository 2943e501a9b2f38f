"""What the segmentation systems share: networks by name, training scenes, the closed-set stage.

A batch holds `image [B, H, W, 3]` uint8, `segments [B, H, W]` (class ids; from the number of
classes on: outlier or void), `valid [B]`, and in training perhaps `centre [B, 2]` (a pixel that the
crop must hold, -1 for any) and an outlier object to paste, `object [B, h, w, 3]` with
`object_mask [B, h, w]`.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxad import fields, resampling
from jaxad.augment import blur, color, draws, scene_crops
from jaxad.convert import deeplab_v3 as published_deeplab_v3
from jaxad.convert import deeplab_v3_plus as published_deeplab
from jaxad.convert import pspnet as published_pspnet
from jaxad.errors import InputError
from jaxad.losses import cross_entropy, energy, entropy, posthoc
from jaxad.methods import base, scene_inference
from jaxad.models import deeplab_v3, deeplab_v3_plus, pspnet
from jaxad.models.scene_maps import SceneMaps

NETWORKS: Mapping[str, type[nn.Module]] = {
    "pspnet": pspnet.PSPNet,
    "deeplab_v3": deeplab_v3.DeepLabV3,
    "deeplab_v3_plus_wide": deeplab_v3_plus.DeepLabV3PlusWide,
    "deeplab_v3_plus_resnet": deeplab_v3_plus.DeepLabV3PlusResNet,
}

LookScore = Callable[[Sequence[jax.Array]], jax.Array]


def each_look(score: Callable[[jax.Array], jax.Array]) -> LookScore:
    """The mean of a score over several looks at an image.

    Args:
        score: From logits `[..., K]` to scores `[...]`.
    """
    return lambda looks: sum(map(score, looks)) / len(looks)


def max_softmax(looks: Sequence[jax.Array]) -> jax.Array:
    """1 - max of the mean softmax over several looks: the order of document 001's release.

    Args:
        looks: Logits `[..., K]` of each.
    """
    return posthoc.max_softmax(entropy.mean_log_probabilities(jnp.stack(looks)))


LOGIT_SCORES: Mapping[str, LookScore] = {
    "msp": max_softmax,
    "max_logit": each_look(posthoc.max_logit),
    "entropy": each_look(entropy.entropy),
    "energy": each_look(energy.free_energy),
}


class Trained(NamedTuple):
    """A trained network, as a score sees it.

    Attributes:
        apply: `(images, key) -> SceneMaps`, images normalised; with a key its dropout drops.
        num_classes: Inlier classes K; channels after the K-th are for outliers.
        align_corners: How its maps are enlarged.
        inference: How whole images are looked at.
    """

    apply: Callable[[jax.Array, jax.Array | None], SceneMaps]
    num_classes: int
    align_corners: bool
    inference: scene_inference.Inference


class Scenes(NamedTuple):
    """How training scenes are drawn; the fields of `config.method.augment`.

    Attributes:
        crop: Height and width of a crop.
        scales: Lowest and highest scale for `draw="range"`, or the scales for "choice".
        draw: "range": uniform in between; "choice": one of them.
        smooth: Whether images that shrink are smoothed, as Pillow does and OpenCV does not.
        padding: Of scenes smaller than the crop: "surrounded" or "centred", see
            `jaxad.augment.scene_crops`.
        fill: What padding holds: "black", or "mean", the mean colour of ImageNet.
        flip: Probability that left and right are exchanged.
        color_jitter: Strength of changes of brightness, contrast, saturation and hue; 0 for none.
        blur: Probability of Gaussian blur, its sigma uniform in [0.15, 1.15].
    """

    crop: tuple[int, int]
    scales: tuple[float, ...] = (0.5, 2.0)
    draw: str = "range"
    smooth: bool = True
    padding: str = "centred"
    fill: str = "black"
    flip: float = 0.5
    color_jitter: float = 0.0
    blur: float = 0.0


def network(section: Mapping[str, Any], num_classes: int, dtype: Any) -> nn.Module:
    """The network that `config.method.network` names.

    Raises:
        InputError: The name or an option is unknown, or a value is not as it must be.
    """
    options = {k: tuple(v) if isinstance(v, (list, tuple)) else v for k, v in section.items()}
    name = options.pop("name", None)
    fields.one_of("method.network.name", name, list(NETWORKS))
    own = ("name", "parent", "num_classes", "axis_name", "dtype")
    known = [each.name for each in dataclasses.fields(NETWORKS[name]) if each.name not in own]
    unknown = sorted(options.keys() - set(known))
    if unknown:
        raise InputError(
            f"config.method.network of {name!r} has no field {unknown[0]!r}; expected some of "
            f"{known}."
        )
    made = NETWORKS[name](
        num_classes=num_classes, axis_name=base.AXIS, dtype=jnp.dtype(dtype), **options
    )
    try:  # Its own checks run when it is traced.
        jax.eval_shape(made.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    except (TypeError, ValueError) as error:
        raise InputError(f"config.method.network: {error}") from error
    return made


def parse_scenes(section: Mapping[str, Any]) -> Scenes:
    """Reads `config.method.augment`.

    Raises:
        InputError: A field is unknown, missing or not as it must be: names it.
    """
    given = {k: tuple(v) if isinstance(v, (list, tuple)) else v for k, v in section.items()}
    unknown = sorted(given.keys() - set(Scenes._fields))
    if unknown or "crop" not in given:
        what = f"has no field {unknown[0]!r}" if unknown else "lacks the field 'crop'"
        raise InputError(f"config.method.augment {what}; its fields are {list(Scenes._fields)}.")
    scenes = Scenes(**given)
    fields.check(_SCENE_FIELDS, scenes._asdict(), "method.augment")
    if not isinstance(scenes.scales, tuple):
        raise InputError(
            f"config.method.augment.scales: expected several numbers, found {scenes.scales!r}."
        )
    for scale in scenes.scales:
        fields.positive("method.augment.scales", scale)
    in_order = len(scenes.scales) == 2 and scenes.scales[0] <= scenes.scales[1]
    if not scenes.scales or not (in_order or scenes.draw == "choice"):
        raise InputError(
            f"config.method.augment.scales: expected positive numbers (for draw='range' the lowest "
            f"and the highest), found {scenes.scales}."
        )
    if scenes.fill == "mean" and (scenes.color_jitter or scenes.blur):
        raise InputError(
            "config.method.augment.fill='mean' pads normalised images, and color_jitter and blur "
            "come before normalising; expected fill='black' beside them."
        )
    return scenes


def normalised(images: jax.Array) -> jax.Array:
    """uint8 or floats in [0, 1], `[B, H, W, 3]`, to float32 normalised as ImageNet's."""
    return color.normalize(_in_unit_range(images))


def draw_scenes(
    scenes: Scenes,
    keys: jax.Array,
    images: jax.Array,
    segments: jax.Array,
    centre: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Scaled, flipped and cropped scenes.

    Args:
        scenes: How.
        keys: One per scene, typed `[B]`.
        images: uint8, or floats in [0, 1], `[B, H, W, 3]`.
        segments: Class ids, integers `[B, H, W]`.
        centre: Row and column that the crop holds, int `[B, 2]`; negative: any crop.

    Returns:
        Normalised images `[B, *crop, 3]` and int32 class ids `[B, *crop]`, 255 outside the scene.

    Raises:
        InputError: Even the largest scene is smaller than the crop.
    """
    _check_crop(scenes, images.shape[1:3])
    for_scale, for_corner, for_flip, for_color, for_blur = draws.split(keys, 5)
    if scenes.draw == "choice":
        choice = draws.integers(for_scale, 0, len(scenes.scales))
        scales = jnp.asarray(scenes.scales, jnp.float32)[choice]
    else:
        scales = draws.uniform(for_scale, *scenes.scales)
    flipped = draws.happens(for_flip, scenes.flip)
    shape = {"shape": images.shape[1:3], "size": scenes.crop}
    corners = _CORNERS[scenes.padding](for_corner, scales, **shape)
    if centre is not None:
        corners = _holding(for_corner, centre, corners, flipped, scales, **shape)
    crop = scene_crops.Crop(flipped, scales, corners)
    make = scene_crops.scale_and_crop_smoothed if scenes.smooth else scene_crops.scale_and_crop
    make = functools.partial(make, crop=crop, size=scenes.crop)
    segments = segments.astype(jnp.int32)
    if scenes.fill == "mean":
        return make(normalised(images), segments)
    images, segments = make(jnp.clip(_in_unit_range(images), 0.0, 1.0), segments)
    if scenes.color_jitter:
        strength = scenes.color_jitter
        images, _ = color.random_jitter(
            for_color,
            images,
            probability=1.0,
            brightness=strength,
            contrast=strength,
            saturation=strength,
            hue=min(strength, 0.5),
        )
    if scenes.blur:
        images, _ = blur.random_blur(
            for_blur, images, kernel_size=11, sigma=(0.15, 1.15), probability=scenes.blur
        )
    return color.normalize(images), segments


def enlarged(maps: jax.Array, size: tuple[int, int], model: nn.Module) -> jax.Array:
    """Logits `[B, h, w, C]` at the size of the labels, `[B, *size, C]`."""
    return resampling.bilinear(maps, size, align_corners=model.align_corners)


def closed_set_stage(
    model: nn.Module,
    tx: optax.GradientTransformation,
    scenes: Scenes,
    *,
    num_classes: int,
    auxiliary_weight: float,
) -> base.Stage:
    """Training on inlier classes alone: cross-entropy over the real pixels of the global batch.

    Its state has the network's parameters in `params` and its `batch_stats` in `stats`.

    Args:
        model: The network.
        tx: Its optimiser.
        scenes: How training scenes are drawn.
        num_classes: K; ids from K on are void.
        auxiliary_weight: Of the same loss on the network's auxiliary logits, where it has some.
    """

    def init(rng, batch, _done):
        check_scenes(scenes, batch)
        variables = model.init(rng, jnp.zeros((1, *scenes.crop, 3), jnp.float32))
        stats = {"batch_stats": variables["batch_stats"]}
        return base.new_state(variables["params"], tx.init(variables["params"]), stats)

    def loss(params, stats, batch, rng):
        scenes_rng, dropout_rng = jax.random.split(rng)
        keys = base.example_keys(scenes_rng, batch["image"].shape[0])
        images, segments = draw_scenes(
            scenes, keys, batch["image"], batch["segments"], batch.get("centre")
        )
        out, stats = model.apply(
            {"params": params, **stats},
            images,
            batch["valid"],
            train=True,
            dropout=True,
            rngs={"dropout": dropout_rng},
            mutable=["batch_stats"],
        )
        where = (segments < num_classes) & batch["valid"][:, None, None]
        of = {"labels": segments, "where": where, "axis_name": base.AXIS}
        logits = enlarged(out.logits, segments.shape[1:], model)
        terms = {"cross_entropy": cross_entropy.mean_cross_entropy(logits, **of)}
        if out.auxiliary is not None and auxiliary_weight:
            logits = enlarged(out.auxiliary, segments.shape[1:], model)
            auxiliary = cross_entropy.mean_cross_entropy(logits, **of)
            terms["auxiliary"] = auxiliary_weight * auxiliary
        return sum(terms.values()), (dict(stats), terms)

    return base.Stage(init, base.gradient_update(loss, tx))


def converter(section: Mapping[str, Any]) -> Callable[[Mapping[str, Any], base.State], base.State]:
    """Reads published checkpoints of the network that `config.method.network` names.

    A PSPNet and a DeepLabV3 also take a backbone alone, as trained on ImageNet.
    """
    name = section.get("name")

    def convert(arrays, state):
        if name not in _CONVERTERS:
            raise InputError(
                f"config.method.network.name={name!r}: no published checkpoints of it are known; "
                f"expected one of {list(_CONVERTERS)} beside weights."
            )
        read = _CONVERTERS[name]
        head, read_backbone = _BACKBONES.get(name, ("", None))
        if read_backbone and not any(key.startswith(head) for key in arrays):
            read = read_backbone
        params, batch_stats = read(arrays, state.params, state.stats["batch_stats"])
        return state.replace(params=params, stats={**state.stats, "batch_stats": batch_stats})

    return convert


def variables(state: base.State) -> dict[str, Any]:
    """What a network of `closed_set_stage` is applied with."""
    return {"params": state.params, "batch_stats": state.stats["batch_stats"]}


def trained(
    model: nn.Module, variables: Mapping[str, Any], num_classes: int, inference: Any
) -> Trained:
    """A network with its parameters and statistics, for scores."""

    def apply(images, key=None):
        rngs = {} if key is None else {"dropout": key}
        return model.apply(variables, images, dropout=key is not None, rngs=rngs)

    return Trained(apply, num_classes, model.align_corners, inference)


def score_logits(net: Trained, images: jax.Array, score: LookScore) -> base.Scores:
    """Pixel scores that are functions of the inlier logits, with the predicted classes.

    Where an image is looked at more than once, the class is that of the mean softmax.

    Args:
        net: The network.
        images: `[B, H, W, 3]`, not normalised.
        score: From the logits `[..., K]` of each look to scores `[...]`, higher where more
            anomalous.
    """

    def maps(images):
        return net.apply(images, None).logits[..., : net.num_classes]

    def of_strip(views):
        return decided(views).replace(pixel=score(views))

    return by_strips(net, maps, images, of_strip)


def decided(views: Sequence[jax.Array]) -> base.Scores:
    """The class of the largest mean softmax over several looks `[..., K]`, and how large it is."""
    probabilities = scene_inference.mean_probabilities(views)
    return base.Scores(
        classes=jnp.argmax(probabilities, axis=-1).astype(jnp.int32),
        extra={"confidence": jnp.max(probabilities, axis=-1)},
    )


def by_strips(
    net: Trained,
    maps: Callable[[jax.Array], Any],
    images: jax.Array,
    function: Callable[[list[Any]], Any],
) -> Any:
    """Looks at images as the network does, and applies a function of what is seen, enlarged.

    Args:
        net: The network.
        maps: From normalised images to maps `[B, h, w, C]`.
        images: `[B, H, W, 3]`, not normalised.
        function: As for `scene_inference.by_strips`.
    """
    return scene_inference.by_strips(
        scene_inference.look(maps, normalised(images), net.inference),
        images.shape[1:3],
        function,
        align_corners=net.align_corners,
        rows=net.inference.rows,
    )


def _in_unit_range(images) -> jax.Array:
    """float32 in [0, 1]; bytes are divided by 255."""
    images = jnp.asarray(images)
    scale = 255.0 if jnp.issubdtype(images.dtype, jnp.integer) else 1.0
    return images.astype(jnp.float32) / scale


def _holding(keys, centre, corners, flipped, scales, *, shape, size) -> jax.Array:
    """Corners of crops that hold a pixel, uniform among them, then moved inside the scene."""
    row, column = centre[:, 0], centre[:, 1]
    column = jnp.where(flipped, shape[1] - 1 - column, column)
    sides = jnp.floor(jnp.asarray(shape) * scales[:, None]).astype(jnp.int32)
    # Its middle: the nearest pixel of the scaled scene, were it enlarged, shows it.
    middle = (jnp.stack([row, column], axis=1) + 0.5) * sides / jnp.asarray(shape)
    place = jnp.minimum(middle.astype(jnp.int32), sides - 1)
    drawn = place - draws.integers(keys, 0, jnp.asarray(size), shape=(2,))
    spare = sides - jnp.asarray(size)
    inside = jnp.clip(drawn, 0, jnp.maximum(spare, 0))
    wanted = (centre[:, :1] >= 0) & (spare >= 0)  # A short side is padded as without a centre.
    return jnp.where(wanted, inside, corners)


def check_scenes(scenes: Scenes, batch: base.Batch) -> None:
    """Whether training scenes can be drawn from batches like this one.

    Args:
        scenes: How they are drawn.
        batch: Of the training split.

    Raises:
        InputError: It has no images with class maps, or even the largest scene is smaller than the
            crop.
    """
    missing = [name for name in ("image", "segments") if name not in batch]
    if missing:
        raise InputError(
            f"config.data.source gives records with {sorted(batch)} and without {missing}; "
            "segmentation needs a source of scenes."
        )
    _check_crop(scenes, batch["image"].shape[1:3])


def _check_crop(scenes: Scenes, shape: tuple[int, int]) -> None:
    largest = [int(side * max(scenes.scales)) for side in shape]
    if any(side < wanted for side, wanted in zip(largest, scenes.crop, strict=True)):
        raise InputError(
            f"config.method.augment.crop={scenes.crop} is larger than the images: {tuple(shape)} "
            f"scaled by at most {max(scenes.scales)} are {tuple(largest)}."
        )


_CONVERTERS = {
    "pspnet": published_pspnet.convert,
    "deeplab_v3": published_deeplab_v3.convert,
    "deeplab_v3_plus_wide": published_deeplab.convert,
    "deeplab_v3_plus_resnet": published_deeplab.convert,
}
_BACKBONES = {  # How names of the other parts start in a whole network.
    "pspnet": ("head.", published_pspnet.convert_backbone),
    "deeplab_v3": ("classifier.", published_deeplab_v3.convert_backbone),
}
_CORNERS = {
    "surrounded": scene_crops.draw_surrounded,
    "centred": scene_crops.draw_centred,
}
_SCENE_FIELDS = {
    "crop": functools.partial(fields.positive_integers, count=2),
    "draw": functools.partial(fields.one_of, choices=("range", "choice")),
    "smooth": fields.boolean,
    "padding": functools.partial(fields.one_of, choices=tuple(_CORNERS)),
    "fill": functools.partial(fields.one_of, choices=("black", "mean")),
    "flip": fields.share,
    "color_jitter": fields.not_negative,
    "blur": fields.share,
}
