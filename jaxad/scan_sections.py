"""What the configs of the systems for medical segmentation share: document 000, section 4.

Config files import it, so it imports nothing heavy.
"""

from collections.abc import Callable, Mapping
from typing import Any

import ml_collections

from jaxad import config as configs
from jaxad import datasets
from jaxad import scene_sections as sections

Preset = Callable[[], ml_collections.ConfigDict]
FOR_A_CPU = ("digits", "hippocampus")


def drawing(**fields: Any) -> dict[str, Any]:
    """How scans and outliers are drawn, see `jaxad.methods.scan_sampling.Drawing`.

    Args:
        fields: Those that differ. Sizes are the document's, strengths TorchIO's: its supplement,
            which had them, is not available.
    """
    section = dict(
        degrees=15.0,  # Section 4.1.2.
        pixels=10.0,
        operations=("half_turn", "vertical_flip", "permutation", "swap", "gamma", "elastic"),
        probabilities=(),  # Of each; empty: all alike.
        count=1,  # Operations per outlier.
        grid=2,  # Patches per side of the permutation; or 4.
        patch=15,  # TorchIO's defaults from here on.
        swaps=100,
        log_gamma=(-0.3, 0.3),
        displacement=7.5,
    )
    return {**section, **fields}


def network(**fields: Any) -> dict[str, Any]:
    """What the systems share in `config.method`: data, network and how images are drawn.

    Args:
        fields: Further ones, and those that differ.
    """
    section = dict(
        num_classes=4,  # Background included.
        background=configs.placeholder(int),  # None: the last class.
        network=sections.unet(),
        normalisation="none",  # "imagenet" for a backbone that was trained so.
        augment=drawing(),
        auxiliary_weight=0.0,  # Of DeepLabV3's auxiliary classifier; the document has none.
    )
    return {**section, **fields}


def paper(method: Mapping[str, Any], source: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """Section 4.1.2: AdamWR, 150 epochs, the best validation Dice; no shifted data choose.

    Args:
        method: `config.method`.
        source: `config.data.source`.
    """
    config = configs.defaults()
    config.method = dict(method)
    config.data.source = dict(source)
    config.stages.train = configs.stage(
        batch_size=8,  # And as many outliers.
        epochs=150,
        optimizer=dict(
            name="adamw",
            learning_rate=1e-3,  # Ours, as the decay and the cycles: the document has none of them.
            weight_decay=1e-4,
            schedule="cosine_restarts",
            cycles=4,  # 10, 20, 40 and 80 epochs.
            cycle_factor=2.0,
        ),
    )
    config.eval.batch_size = 8
    config.eval.every_epochs = 1
    config.eval.checkpoint = "best"
    config.eval.best_metric = "dice"
    config.checkpoint.every_epochs = 1
    return config


def _narrow(config: ml_collections.ConfigDict) -> None:
    """A quarter of the channels, and changes that fit images of 64 pixels."""
    config.method.network.width = 0.25
    config.method.augment.update(pixels=4.0, patch=9, swaps=40, displacement=4.0)


def digits(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """The same code on scenes of 64 x 96 pixels, for two CPU cores.

    Args:
        config: Changed in place.
    """
    config.method.num_classes = 4
    _narrow(config)
    config.stages.train.optimizer.learning_rate = 3e-3
    config.stages.train.optimizer.cycles = 1  # The steps are too few for restarts.
    config.eval.batch_size = 20
    intervals = {"eval.every_steps": 100, "checkpoint.every_steps": 100}
    configs.override(config, {"stages.train.steps": 1000, **intervals})
    return config


DATA: Mapping[str, Callable[[], dict[str, Any]]] = {
    "mnms_a": datasets.mnms_a,
    "mnms_b": datasets.mnms_b,
    "prostatex": datasets.prostatex,
    "own_volumes": datasets.own_volumes,
}


def hippocampus(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Slices of 64 x 64 pixels and a network of a quarter of the channels, for two CPU cores.

    Args:
        config: Changed in place.
    """
    config.method.num_classes = 3
    _narrow(config)
    config.eval.batch_size = 32
    intervals = {"eval.every_steps": 200, "checkpoint.every_steps": 200}
    configs.override(config, {"stages.train.steps": 600, **intervals})
    return config


def presets(build: Callable[[Mapping[str, Any]], ml_collections.ConfigDict]) -> dict[str, Preset]:
    """The presets of a system: `digits`, `hippocampus`, and the document's, `<data>` with U-Net and
    `<data>_deeplab_v3`.

    Args:
        build: From a source to the config with U-Net.
    """

    def with_deeplab(source):
        config = build(source())
        config.method.network = sections.deeplab_v3()
        config.method.normalisation = (
            "imagenet"  # Of the weights to give with stages.train.weights.
        )
        return config

    return {
        "digits": lambda: digits(build(datasets.digit_shifts())),
        "hippocampus": lambda: hippocampus(build(datasets.hippocampus())),
        **{name: lambda source=source: build(source()) for name, source in DATA.items()},
        **{
            f"{name}_deeplab_v3": lambda source=source: with_deeplab(source)
            for name, source in DATA.items()
        },
    }
