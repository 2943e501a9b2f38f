"""PAnS: anomaly segmentation with cosine prototypes; document 001.

    python -m jaxad.main --config=configs/pans.py
    python -m jaxad.main --config=configs/pans.py:streethazards
    python -m jaxad.sweep --config=configs/pans.py --table=ablation --seeds=0,1,2

Presets: `digits` (embedded data, for a CPU); `streethazards`, the document's, tested at five
scales, and `streethazards_single` at one; `camvid`; `own_scenes`. Each also as `<name>_linear`: the
same network with a linear classifier, scored by its softmax (MSP).

The document's result on StreetHazards: AUPR 8.8, AUROC 91.1, FPR95 23.2 (per image, averaged:
`per_image/…` here); MSP 6.6, 87.7, 33.7. Not re-run here: it needs the data and an accelerator.

Measured, `digits`, three seeds, two CPU cores, about three minutes each, AP / AUROC / FPR95 over
all pixels: 20.3 / 90.8 / 27.5; linear with MSP 18.3 / 88.1 / 34.9 (see the README).
"""

import ml_collections

from jaxad import config as configs
from jaxad import datasets
from jaxad import scene_sections as sections


def get_config(preset: str = "digits") -> ml_collections.ConfigDict:
    return configs.preset(PRESETS, preset)


def paper(source: dict, *, num_classes: int) -> ml_collections.ConfigDict:
    """Section 4.1; what the text leaves open is as released."""
    config = configs.defaults()
    config.method = dict(
        name="pans",
        num_classes=num_classes,
        network=sections.pspnet(),
        augment=sections.pans_scenes(),
        # 300/720 … 1000/1280 of 720 x 1280, each side rounded up to a multiple of 8.
        inference=sections.inference(
            scales=(300 / 720, 375 / 720, 450 / 720, 525 / 720, 1000 / 1280), multiple=8
        ),
        auxiliary_weight=0.4,  # As released; the text has no deep supervision.
        score="pans",  # Eqs. 4 and 5; "cosine_softmax", "class_scores", "msp": figure 5.
        max_first=True,  # As released; False takes the largest class after enlarging.
    )
    config.data.source = source
    config.stages.train = configs.stage(
        batch_size=2,  # Per device as released, and not scaled with them.
        epochs=40,
        optimizer=sections.sgd(
            0.007, weight_decay=1e-4, nesterov=True
        ),  # Section 4.1; Nesterov as released.
    )
    config.seed = 42  # As released.
    config.eval.batch_size = 1
    config.eval.every_epochs = 5
    config.eval.best_metric = "mean_iou"  # Unused: the last epoch is tested.
    config.checkpoint.every_epochs = 1
    return config


def streethazards() -> ml_collections.ConfigDict:
    return paper(datasets.streethazards(), num_classes=13)


def streethazards_single() -> ml_collections.ConfigDict:
    config = streethazards()
    config.method.inference = sections.inference(scales=(1000 / 1280,), multiple=8)
    return config


def digits() -> ml_collections.ConfigDict:
    """The same code on scenes of 64 x 96 pixels: a minute on two cores."""
    config = paper(datasets.digit_scenes(), num_classes=8)
    config.method.network.update(width=0.25, depths=(1, 1, 1, 1))
    config.method.augment = sections.digit_scenes()
    config.method.inference = sections.inference()
    config.stages.train = sections.digits_stage()
    config.seed = 0
    config.eval.batch_size = 20
    configs.override(config, {"eval.every_steps": 250, "checkpoint.every_steps": 250})
    return config


def camvid() -> ml_collections.ConfigDict:
    """Half resolution, from scratch."""
    config = paper(datasets.camvid_half(), num_classes=10)
    config.method.augment = {**sections.pans_scenes(), "crop": (160, 208), "scales": (1.0, 2.0)}
    config.method.inference = sections.inference()
    config.stages.train.batch_size = 8
    config.eval.batch_size = 8
    configs.override(config, {"stages.train.epochs": 400, "eval.every_epochs": 50})
    return config


def camvid_cpu() -> ml_collections.ConfigDict:
    """`camvid` for two CPU cores: a small network, few steps."""
    config = camvid()
    config.method.network.update(width=0.25, depths=(1, 1, 1, 1))
    config.stages.train = sections.camvid_cpu_stage()
    config.seed = 0
    configs.override(config, {"eval.every_steps": 150, "checkpoint.every_steps": 150})
    return config


def linear(build) -> ml_collections.ConfigDict:
    """The baseline: a linear classifier, scored by its softmax."""
    config = build()
    config.method.network.classifier = "linear"
    config.method.score = "msp"
    return config


OWN = {
    "digits": digits,
    "streethazards": streethazards,
    "streethazards_single": streethazards_single,
    "camvid": camvid,
    "camvid_cpu": camvid_cpu,
    "own_scenes": lambda: paper(datasets.own_scenes(), num_classes=13),
}
PRESETS = OWN | {f"{name}_linear": lambda build=build: linear(build) for name, build in OWN.items()}


def get_tables() -> dict:
    """Tables of `jaxad.sweep`: rows by name, each a preset of a config file and its changes."""

    def ablation(preset: str) -> dict:
        """Figure 5: the classifier, and what of it is the score, on one network of each kind."""
        posthoc = "posthoc.py:{}_" + preset
        rows = {
            "linear, MSP": (f"pans.py:{preset}_linear", {}),
            "linear, class scores": (posthoc.format("max_logit"), {}, "linear, MSP"),
            "cosine, PAnS": (f"pans.py:{preset}", {}),
            "cosine, softmax": (posthoc.format("msp"), {}, "cosine, PAnS"),
        }
        metrics = ("pixel_average_precision", "pixel_auc", "pixel_fpr95", "mean_iou")
        return {"rows": rows, "metrics": metrics}

    tables = {"ablation": ablation("digits")}
    return tables | {
        f"ablation_{name}": ablation(name) for name in ("streethazards", "camvid", "camvid_cpu")
    }
