"""PEBAL: pixel-wise energy-biased abstention learning; document 004, chapter 11 and appendix C.

    python -m jaxad.main --config=configs/pebal.py
    python -m jaxad.main --config=configs/pebal.py:fishyscapes_static_wide
    python -m jaxad.sweep --config=configs/pebal.py --table=ablation --seeds=0,1,2

Presets: `digits` (embedded data, for a CPU); `<test set>_wide` and `<test set>_resnet101` with the
document's settings on Cityscapes and COCO, for the test sets `lostandfound`,
`fishyscapes_lostandfound`, `fishyscapes_static` and `road_anomaly`; `camvid`; `own_scenes`.

The document starts from published closed-set checkpoints, and so should you, without training the
first stage: --config.stages.train.weights=cityscapes_best.pth --config.stages.train.steps=0

The document's results, AUROC / AP / FPR95, WideResNet-38: LostAndFound 99.76 / 78.29 / 0.81,
Fishyscapes L&F 98.96 / 58.81 / 4.76, Static 99.61 / 92.08 / 1.52, Road Anomaly 87.63 / 45.10 /
44.58. Not re-run here: it needs the data and an accelerator.

Measured, `digits`, three seeds, two CPU cores, about two minutes each: 88.6 / 24.8 / 45.6, mean IoU
0.853; energy of the same networks 87.0 / 23.6 / 55.7, 0.853 (table `comparison`, see the README).
"""

import ml_collections

from jaxad import config as configs
from jaxad import datasets
from jaxad import scene_sections as sections


def get_config(preset: str = "digits") -> ml_collections.ConfigDict:
    return configs.preset(PRESETS, preset)


def paper(source: dict, network: dict, *, num_classes: int = 19) -> ml_collections.ConfigDict:
    """Chapter 11, with the loss as released: it made the tables."""
    config = configs.defaults()
    config.method = dict(
        name="pebal",
        num_classes=num_classes,
        network=network,
        augment=sections.scenes((768, 768)),
        finetune_augment=sections.pebal_scenes(),
        inference=sections.inference(),  # Whole images, one scale.
        auxiliary_weight=0.4,
        objective="pebal",
        form="released",
        margin_in=-12.0,  # Section 11.4.2.
        margin_out=-6.0,
        energy_weight=0.1,  # lambda.
        smoothness_weight=3e-6,  # As released; with form="paper" 5e-4 (beta 1).
        sparsity_weight=5e-4,  # As released; with form="paper" 3e-6 (beta 2).
        outlier_weight=0.1,  # As released.
        penalty=4.5,  # Of objective="deep_gambler"; the release's default, the text gives none.
        detach_penalty=False,
        penalty_blur=True,  # As released.
        frozen_norm="running",  # The text leaves the network untouched; "batch" as released.
        score="energy",
    )
    config.data.source = source
    config.stages.train = sections.closed_set_stage()
    config.stages.finetune = configs.stage(
        batch_size=16,  # Section 11.4.2.
        epochs=20,
        outlier_share=0.1,  # As released: 297 objects beside 2975 images.
        optimizer=dict(name="adam", learning_rate=1e-5, schedule="polynomial", power=0.9),
    )
    config.eval.batch_size = 1
    config.eval.every_epochs = 1
    config.eval.checkpoint = "best"
    config.eval.best_metric = "pixel_average_precision"
    config.checkpoint.every_epochs = 1
    return config


def text(source: dict, network: dict, *, num_classes: int = 19) -> ml_collections.ConfigDict:
    """The loss of the text: means over pixels, no smoothed penalty."""
    config = paper(source, network, num_classes=num_classes)
    config.method.update(
        form="paper", smoothness_weight=5e-4, sparsity_weight=3e-6, penalty_blur=False
    )
    return config


def digits() -> ml_collections.ConfigDict:
    """The same code on scenes of 64 x 96 pixels: two minutes on two cores."""
    config = paper(datasets.digit_scenes(), sections.small_resnet(), num_classes=8)
    config.method.augment = sections.digit_scenes()
    config.method.finetune_augment = sections.digit_scenes()
    config.stages.train = sections.digits_stage()
    config.eval.batch_size = 20
    return few_steps(config)


def few_steps(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Fine-tuning for a CPU, chosen on the validation scenes of `digits`: the best of 1e-3, 3e-4,
    1e-4 and 3e-5 for 200 steps, all of which are best within the first 100.
    """
    config.stages.finetune.optimizer.learning_rate = 5e-5
    intervals = {"eval.every_steps": 25, "checkpoint.every_steps": 100}
    configs.override(config, {"stages.finetune.steps": 100, **intervals})
    return config


def camvid() -> ml_collections.ConfigDict:
    """Half resolution, from scratch, with COCO's objects; Bicyclist is the anomaly."""
    source = datasets.camvid_half(outliers=datasets.coco_proxy(object_size=(180, 240)))
    network = sections.deeplab_v3_plus_resnet(depths=(3, 4, 6, 3))
    config = paper(source, network, num_classes=10)
    config.method.augment = sections.scenes((160, 208), scales=(1.0, 2.0))
    config.method.finetune_augment = {
        **sections.pebal_scenes(),
        "crop": (160, 208),
        "scales": (1.0, 1.5, 1.75, 2.0),
    }
    config.stages.train.batch_size = 8
    config.stages.train.class_uniform_share = 0.0
    config.eval.batch_size = 8
    configs.override(config, {"stages.train.steps": 20_000})
    return config


def camvid_cpu() -> ml_collections.ConfigDict:
    """`camvid` for two CPU cores: the small network, few steps, patches of photographs for COCO."""
    config = camvid()
    config.data.source.outliers = datasets.photo_objects(object_size=(16, 72))
    config.method.network = sections.small_resnet()
    config.stages.train = sections.camvid_cpu_stage()
    return few_steps(config)


SOURCES = {
    "lostandfound": datasets.lostandfound,
    "fishyscapes_lostandfound": datasets.fishyscapes_lostandfound,
    "fishyscapes_static": datasets.fishyscapes_static,
    "road_anomaly": datasets.road_anomaly,
}


def on_cityscapes(build, source, network):
    return lambda: build(source(), network())


PRESETS = {
    "digits": digits,
    "camvid": camvid,
    "camvid_cpu": camvid_cpu,
    "own_scenes": lambda: paper(datasets.own_scenes(), sections.deeplab_v3_plus_resnet()),
    **{
        f"{name}_{backbone}{suffix}": on_cityscapes(build, source, network)
        for name, source in SOURCES.items()
        for backbone, network in sections.NETWORKS.items()
        for suffix, build in (("", paper), ("_text", text))
    },
}


POSTHOC = {
    "MSP": "msp",
    "max logit": "max_logit",
    "entropy": "entropy",
    "energy": "energy",
    "standardised max logit": "standardised_max_logit",
    "Mahalanobis": "mahalanobis",
    "MSP + CRF": "crf",
}


def get_tables() -> dict:
    """Tables of `jaxad.sweep`: rows by name, each a preset of a config file and its changes."""
    metrics = ("pixel_auc", "pixel_average_precision", "pixel_fpr95", "mean_iou")

    def ablation(preset: str) -> dict:
        """Table 11.5, one row per loss."""
        base = f"pebal.py:{preset}"
        no_regulariser = {"method.smoothness_weight": 0.0, "method.sparsity_weight": 0.0}
        rows = {
            "cross-entropy": (
                base,
                # Its score is the probability of the class of outliers.
                {"method.objective": "outlier_class", "method.score": "abstention"},
            ),
            "energy margins": (base, {"method.objective": "energy"}),
            "abstention, fixed penalty": (base, {"method.objective": "deep_gambler"}),
            "abstention + energy": (base, no_regulariser),
            "PEBAL": (base, {}),
        }
        return {"rows": rows, "metrics": metrics}

    def comparison(preset: str) -> dict:
        """PEBAL beside post-hoc scores of the very network that it starts from, and PAnS."""
        rows = {"PEBAL": (f"pebal.py:{preset}", {})}
        for name, score in POSTHOC.items():
            rows[name] = (f"posthoc.py:{score}_{preset}", {"method.stage": "train"}, "PEBAL")
        rows["PSPNet linear, MSP"] = (f"pans.py:{preset}_linear", {})
        for name, score in (("class scores", "max_logit"), ("MC dropout", "dropout")):
            rows[f"PSPNet linear, {name}"] = (
                f"posthoc.py:{score}_{preset}",
                {},
                "PSPNet linear, MSP",
            )
        rows["PAnS"] = (f"pans.py:{preset}", {})
        rows["PSPNet cosine, softmax"] = (f"posthoc.py:msp_{preset}", {}, "PAnS")
        return {"rows": rows, "metrics": metrics}

    def outlier_classes() -> dict:
        """Table 11.6: share of the kinds of outliers."""
        shares = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
        field = "data.source.outlier_kinds_share"
        rows = {f"{share:.0%} of kinds": ("pebal.py:digits", {field: share}) for share in shares}
        return {"rows": rows, "metrics": metrics}

    def outlier_samples() -> dict:
        """Table 11.7: share of the outlier objects."""
        rows = {
            f"{share:.0%} of objects": ("pebal.py:digits", {"data.source.outliers": count})
            for share, count in ((0.05, 12), (0.1, 24), (0.25, 60), (0.5, 120), (1.0, 240))
        }
        return {"rows": rows, "metrics": metrics}

    def coco(field: str, shares: tuple[float, ...]) -> dict:
        base = "pebal.py:fishyscapes_static_wide"
        name = f"data.source.outliers.{field}"
        return {"rows": {f"{s:.0%}": (base, {name: s}) for s in shares}, "metrics": metrics}

    return {
        "comparison": comparison("digits"),
        "comparison_camvid": comparison("camvid"),
        "comparison_camvid_cpu": comparison("camvid_cpu"),
        "ablation": ablation("digits"),
        "outlier_kinds": outlier_classes(),
        "outlier_objects": outlier_samples(),
        "ablation_lostandfound": ablation("lostandfound_wide"),
        "coco_classes": coco("classes_share", (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)),
        "coco_images": coco("images_share", (0.05, 0.1, 0.25, 0.5, 1.0)),
    }
