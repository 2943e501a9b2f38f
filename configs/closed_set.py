"""Closed-set segmentation networks, which `posthoc` scores and PEBAL fine-tunes.

    python -m jaxad.main --config=configs/closed_set.py
    python -m jaxad.main --config=configs/closed_set.py:fishyscapes_static_resnet101

Presets: `digits` (embedded data, for a CPU); `<test set>_wide` and `<test set>_resnet101`, trained
on Cityscapes with the recipe released with the standardised max logit (document 004 imports such
checkpoints: --config.stages.train.weights=cityscapes_best.pth --config.stages.train.steps=0);
`camvid` with the class Bicyclist held out, `camvid_cpu` smaller; `own_scenes` for yours.
"""

import ml_collections

from jaxad import config as configs
from jaxad import datasets
from jaxad import scene_sections as sections


def get_config(preset: str = "digits") -> ml_collections.ConfigDict:
    return configs.preset(PRESETS, preset)


def closed_set(source: dict, network: dict, *, num_classes: int) -> ml_collections.ConfigDict:
    """The recipe released with the standardised max logit (specs of document 004, section 3)."""
    config = configs.defaults()
    config.method = dict(
        name="closed_set",
        num_classes=num_classes,
        network=network,
        augment=sections.scenes((768, 768)),
        inference=sections.inference(),
        auxiliary_weight=0.4,  # Of the branch for deep supervision, where the network has one.
        score="msp",  # Or "max_logit", "entropy", "energy".
    )
    config.data.source = source
    config.stages.train = sections.closed_set_stage()
    config.eval.batch_size = 1
    config.eval.every_steps = 10_000
    config.eval.best_metric = "mean_iou"
    config.checkpoint.every_steps = 2_000
    return config


def digits() -> ml_collections.ConfigDict:
    """The same code on scenes of 64 x 96 pixels: a minute on two cores."""
    config = closed_set(datasets.digit_scenes(), sections.small_resnet(), num_classes=8)
    config.method.augment = sections.digit_scenes()
    config.stages.train = sections.digits_stage()
    config.eval.batch_size = 20
    configs.override(config, {"eval.every_steps": 250, "checkpoint.every_steps": 250})
    return config


def camvid() -> ml_collections.ConfigDict:
    """Half resolution, from scratch, ResNet-50; steps for one accelerator."""
    network = sections.deeplab_v3_plus_resnet(depths=(3, 4, 6, 3))
    config = closed_set(datasets.camvid_half(), network, num_classes=10)
    config.method.augment = sections.scenes((160, 208), scales=(1.0, 2.0))
    config.stages.train.batch_size = 8
    config.stages.train.class_uniform_share = 0.0
    config.eval.batch_size = 8
    intervals = {"eval.every_steps": 2_000, "checkpoint.every_steps": 2_000}
    configs.override(config, {"stages.train.steps": 20_000, **intervals})
    return config


def camvid_cpu() -> ml_collections.ConfigDict:
    """`camvid` for two CPU cores: the small network, few steps."""
    config = camvid()
    config.method.network = sections.small_resnet()
    config.stages.train = sections.camvid_cpu_stage()
    configs.override(config, {"eval.every_steps": 150, "checkpoint.every_steps": 150})
    return config


CITYSCAPES = {
    "cityscapes": datasets.cityscapes,
    "lostandfound": datasets.lostandfound,
    "fishyscapes_lostandfound": datasets.fishyscapes_lostandfound,
    "fishyscapes_static": datasets.fishyscapes_static,
    "road_anomaly": datasets.road_anomaly,
}


def on_cityscapes(source, network):
    return lambda: closed_set(datasets.without_outliers(source()), network(), num_classes=19)


PRESETS = {
    "digits": digits,
    "camvid": camvid,
    "camvid_cpu": camvid_cpu,
    "own_scenes": lambda: closed_set(
        datasets.own_scenes(), sections.deeplab_v3_plus_resnet(), num_classes=19
    ),
    **{
        f"{name}_{backbone}": on_cityscapes(source, network)
        for name, source in CITYSCAPES.items()
        for backbone, network in sections.NETWORKS.items()
    },
}
