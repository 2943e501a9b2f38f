"""The auto-encoder baseline of anomaly segmentation: what it reconstructs badly is anomalous.

Document 001, table 1 ("AE"), which fixes neither its layers nor its training; here it is trained as
PAnS is, on the same scenes without their labels. A batch is that of `segmentation`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxad import fields
from jaxad.losses import masked, reconstruction
from jaxad.methods import base, scene_sampling, segmentation
from jaxad.models.scene_autoencoder import SceneAutoencoder


def build(
    optimizers: Mapping[str, optax.GradientTransformation],
    *,
    dtype: Any = "float32",
    width: float = 1.0,
    augment: Mapping[str, Any],
) -> base.Method:
    """Builds the auto-encoder and its score.

    Args:
        optimizers: One for the stage "train".
        dtype: Of the network's computation; losses and scores are float32.
        width: Factor of the network's channels.
        augment: Fields of `scene_sampling.Scenes`.

    Raises:
        InputError: A value is not as it must be; names the field.
    """
    fields.positive("method.width", width)
    model = SceneAutoencoder(width=width, axis_name=base.AXIS, dtype=jnp.dtype(dtype))
    scenes = scene_sampling.parse(augment)

    def scores(states, batch):
        images = scene_sampling.normalised(batch["image"])
        reconstructed = model.apply(segmentation.variables(states["train"]), images)
        return base.Scores(pixel=pixel_score(images, reconstructed))

    return base.Method({"train": stage(model, optimizers["train"], scenes)}, scores)


def stage(
    model: SceneAutoencoder, tx: optax.GradientTransformation, scenes: scene_sampling.Scenes
) -> base.Stage:
    """Training: mean (x - x^)² over all entries of the real rows of the global batch.

    Entries are those of normalised crops, void and padding included. The state has the network's
    parameters in `params` and its `batch_stats` in `stats`.

    Args:
        model: The network.
        tx: Its optimiser.
        scenes: How training scenes are drawn.
    """

    def loss(params, stats, batch, rng):
        keys = base.example_keys(rng, batch["image"].shape[0])
        images, _ = scene_sampling.draw(
            scenes, keys, batch["image"], batch["segments"], batch.get("centre")
        )
        reconstructed, stats = model.apply(
            {"params": params, **stats},
            images,
            batch["valid"],
            train=True,
            mutable=["batch_stats"],
        )
        errors = reconstruction.squared_error_mean(images, reconstructed)
        # Crops are of one size, so that the mean of the rows is that of all entries.
        return masked.mean(errors, batch["valid"], axis_name=base.AXIS), (dict(stats), {})

    init = segmentation.initialiser(model, tx, scenes)
    return base.Stage(init, base.gradient_update(loss, tx))


def pixel_score(images: jax.Array, reconstructed: jax.Array) -> jax.Array:
    """Σ (x - x^)² over the channels of each pixel.

    Args:
        images: Normalised floats `[B, H, W, C]`.
        reconstructed: The same shape.

    Returns:
        `[B, H, W]`, at least 0.
    """
    return images.shape[-1] * reconstruction.squared_error_map(images, reconstructed)
