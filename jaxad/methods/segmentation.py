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
from jaxad.convert import deeplab_v3 as published_deeplab_v3
from jaxad.convert import deeplab_v3_plus as published_deeplab
from jaxad.convert import pspnet as published_pspnet
from jaxad.errors import InputError
from jaxad.losses import cross_entropy, energy, entropy, posthoc
from jaxad.methods import base, scene_inference, scene_sampling
from jaxad.models import deeplab_v3, deeplab_v3_plus, pspnet, unet
from jaxad.models.scene_maps import SceneMaps

NETWORKS: Mapping[str, type[nn.Module]] = {
    "pspnet": pspnet.PSPNet,
    "deeplab_v3": deeplab_v3.DeepLabV3,
    "unet": unet.UNet,
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


def network(section: Mapping[str, Any], num_classes: int, dtype: Any) -> nn.Module:
    """The network that `config.method.network` names.

    Raises:
        InputError: The name or an option is unknown, or a value is not as it must be.
    """
    options = fields.tuples(section)
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
    side, channels = max(64, 2 ** getattr(made, "levels", 0)), getattr(made, "input_channels", 3)
    try:  # Its own checks run when it is traced.
        jax.eval_shape(made.init, jax.random.key(0), jnp.zeros((1, side, side, channels)))
    except (TypeError, ValueError) as error:
        raise InputError(f"config.method.network: {error}") from error
    return made


def enlarged(maps: jax.Array, size: tuple[int, int], model: nn.Module) -> jax.Array:
    """Logits `[B, h, w, C]` at the size of the labels, `[B, *size, C]`."""
    return resampling.bilinear(maps, size, align_corners=model.align_corners)


def closed_set_stage(
    model: nn.Module,
    tx: optax.GradientTransformation,
    scenes: scene_sampling.Scenes,
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

    def loss(params, stats, batch, rng):
        scenes_rng, dropout_rng = jax.random.split(rng)
        keys = base.example_keys(scenes_rng, batch["image"].shape[0])
        images, segments = scene_sampling.draw(
            scenes, keys, batch["image"], batch["segments"], batch.get("centre")
        )
        out, kept = model.apply(
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
        return sum(terms.values()), ({**stats, **kept}, terms)

    return base.Stage(initialiser(model, tx, scenes), base.gradient_update(loss, tx))


def initialiser(
    model: nn.Module, tx: optax.GradientTransformation, scenes: scene_sampling.Scenes
) -> Callable[..., base.State]:
    """The `Stage.init` of a network that is trained on crops of scenes.

    Args:
        model: The network.
        tx: Its optimiser.
        scenes: How training scenes are drawn; checked against the batch.
    """

    def init(rng, batch, _done):
        scene_sampling.check(scenes, batch)
        variables = model.init(rng, jnp.zeros((1, *scenes.crop, 3), jnp.float32))
        stats = {"batch_stats": variables.get("batch_stats", {})}  # A U-Net may have none.
        return base.new_state(variables["params"], tx.init(variables["params"]), stats)

    return init


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


def inlier_logits(net: Trained, images: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """Logits `[B, h, w, K]` of the inlier classes, at the network's stride.

    Args:
        net: The network.
        images: Normalised, `[B, H, W, 3]`.
        key: With one its dropout drops.
    """
    return net.apply(images, key).logits[..., : net.num_classes]


def score_logits(net: Trained, images: jax.Array, score: LookScore) -> base.Scores:
    """Pixel scores that are functions of the inlier logits, with the predicted classes.

    Where an image is looked at more than once, the class is that of the mean softmax.

    Args:
        net: The network.
        images: `[B, H, W, 3]`, not normalised.
        score: From the logits `[..., K]` of each look to scores `[...]`, higher where more
            anomalous.
    """

    def of_strip(views):
        return decided(views).replace(pixel=score(views))

    return by_strips(net, functools.partial(inlier_logits, net), images, of_strip)


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
        scene_inference.look(maps, scene_sampling.normalised(images), net.inference),
        images.shape[1:3],
        function,
        align_corners=net.align_corners,
        rows=net.inference.rows,
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
