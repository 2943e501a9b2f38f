"""Auto-encoder baseline of anomaly segmentation; document 001, table 1 ("AE").

    python -m jaxad.main --config=configs/scene_autoencoder.py
    python -m jaxad.main --config=configs/scene_autoencoder.py:streethazards

Presets: `digits` (embedded data, for a CPU); `streethazards`, the document's data; `camvid` with
the class Bicyclist held out; `own_scenes` for yours. Scenes and schedule are those of
`configs/pans.py`; the document gives none for this baseline, nor its layers.

The document's result on StreetHazards: AUPR 2.2, AUROC 66.1, FPR95 91.7 (per image, averaged:
`per_image/…` here). Not re-run here: it needs the data and an accelerator.
"""

import ml_collections

from jaxad import config as configs
from jaxad import datasets
from jaxad import scene_sections as sections


def get_config(preset: str = "digits") -> ml_collections.ConfigDict:
    return configs.preset(PRESETS, preset)


def paper(source: dict) -> ml_collections.ConfigDict:
    """As PAnS (section 4.1)."""
    config = configs.defaults()
    config.method = dict(
        name="scene_autoencoder",
        width=1.0,  # Factor of the channels 32, 64, 128 and 256.
        augment=sections.pans_scenes(),
    )
    config.data.source = source
    config.stages.train = configs.stage(
        batch_size=2,
        epochs=40,
        optimizer=sections.sgd(0.007, weight_decay=1e-4, nesterov=True),
    )
    config.seed = 42
    config.eval.batch_size = 1
    config.eval.every_epochs = 5
    config.eval.best_metric = "pixel_average_precision"  # Unused: the last epoch is tested.
    config.checkpoint.every_epochs = 1
    return config


def digits() -> ml_collections.ConfigDict:
    """The same code on scenes of 64 x 96 pixels: a minute on two cores."""
    config = paper(datasets.digit_scenes())
    config.method.width = 0.5
    config.method.augment = sections.digit_scenes()
    config.stages.train = sections.digits_stage()
    config.seed = 0
    config.eval.batch_size = 20
    configs.override(config, {"eval.every_steps": 500, "checkpoint.every_steps": 500})
    return config


def camvid() -> ml_collections.ConfigDict:
    """Half resolution."""
    config = paper(datasets.camvid_half())
    config.method.augment = {**sections.pans_scenes(), "crop": (160, 208), "scales": (1.0, 2.0)}
    config.stages.train.batch_size = 8
    config.eval.batch_size = 8
    configs.override(config, {"stages.train.epochs": 400, "eval.every_epochs": 50})
    return config


PRESETS = {
    "digits": digits,
    "streethazards": lambda: paper(datasets.streethazards()),
    "camvid": camvid,
    "own_scenes": lambda: paper(datasets.own_scenes()),
}
