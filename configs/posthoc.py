"""Post-hoc scores on a finished segmentation run; nothing is trained.

    python -m jaxad.main --config=configs/closed_set.py
    python -m jaxad.main --config=configs/posthoc.py:energy
    python -m jaxad.main --config=configs/posthoc.py:crf --config.method.runs="('runs/mine',)"

A preset is a score: `msp`, `max_logit`, `entropy`, `energy`, `standardised_max_logit`,
`mahalanobis`, `dropout`, `ensemble` (of three runs), `crf`, `own` (the run's own, for other data).
`digits` is `energy` on the run that `configs/closed_set.py` makes by default;
`<score>_fishyscapes`, `_streethazards` and `_camvid` take another data set. The network, and how it
looks at images, are those of the run. `dropout` needs a network that has some when it scores: the
PSPNet of `configs/pans.py:<data>_linear`, where the other presets take a DeepLabV3+ on ResNet.
"""

import ml_collections

from jaxad import config as configs
from jaxad import datasets


def get_config(preset: str = "digits") -> ml_collections.ConfigDict:
    return configs.preset(PRESETS, preset)


def posthoc(score: str, source: dict, *, num_classes: int, run: str) -> ml_collections.ConfigDict:
    config = configs.defaults()
    config.method = dict(
        name="posthoc",
        runs=(run,),
        stage="",  # Of the run: the last; "train" scores what PEBAL starts from.
        num_classes=num_classes,
        score=score,
        temperature=1.0,  # Of the energy.
        suppression_width=4,  # Standardised max logit: released evaluation; its paper has 8.
        suppression_iterations=4,
        smoothing_dilation=6,
        ridge=1e-5,  # Mahalanobis; the documents say nothing of it.
        passes=10,  # Dropout; the document fixes neither these nor the rate.
        passes_statistic="entropy",  # Of dropout and ensemble.
        dropout_seed=0,
        crf_sigma=10.0,  # Benchmark code of document 001: bilateral kernel.
        crf_weight=10.0,
        crf_iterations=100,
    )
    if score == "ensemble":
        config.method.runs = tuple(f"{run}-seed{seed}" for seed in range(3))
    config.data.source = source
    config.stages.statistics = configs.stage(
        batch_size=1, steps=0, optimizer=dict(name="sgd", learning_rate=0.0)
    )
    config.eval.batch_size = 1
    config.eval.best_metric = "pixel_average_precision"
    config.checkpoint.keep = 1
    return config


def on_digits(score: str) -> ml_collections.ConfigDict:
    run = "runs/pans-digits_linear" if score == "dropout" else "runs/closed_set-digits"
    config = posthoc(score, datasets.digit_scenes(), num_classes=8, run=run)
    # Lengths in pixels were chosen for scenes of 1024 x 2048 and 720 x 1280; these are 64 x 96.
    config.method.suppression_width = 1
    config.method.suppression_iterations = 1
    config.method.smoothing_dilation = 1
    config.method.crf_sigma = 1.0
    config.eval.batch_size = 20
    return config


def on_cityscapes(score: str) -> ml_collections.ConfigDict:
    source = datasets.without_outliers(datasets.fishyscapes_static())
    return posthoc(score, source, num_classes=19, run="runs/closed_set-fishyscapes_static_wide")


def on_streethazards(score: str) -> ml_collections.ConfigDict:
    run = "runs/pans-streethazards_linear"
    return posthoc(score, datasets.streethazards(), num_classes=13, run=run)


def on_camvid(score: str, preset: str = "camvid") -> ml_collections.ConfigDict:
    run = f"runs/pans-{preset}_linear" if score == "dropout" else f"runs/closed_set-{preset}"
    config = posthoc(score, datasets.camvid_half(), num_classes=10, run=run)
    # Lengths in pixels, as in `on_digits`: a quarter or less.
    config.method.suppression_width = 1
    config.method.suppression_iterations = 1
    config.method.smoothing_dilation = 1
    config.method.crf_sigma = 2.5
    config.eval.batch_size = 8
    return config


SCORES = (
    "energy",
    "msp",
    "max_logit",
    "entropy",
    "standardised_max_logit",
    "mahalanobis",
    "dropout",
    "ensemble",
    "crf",
    "own",
)
BUILDERS = {
    "": on_digits,
    "_digits": on_digits,
    "_fishyscapes": on_cityscapes,
    "_streethazards": on_streethazards,
    "_camvid": on_camvid,
    "_camvid_cpu": lambda score: on_camvid(score, "camvid_cpu"),
}
PRESETS = {"digits": lambda: on_digits("energy")} | {
    f"{score}{suffix}": lambda score=score, build=build: build(score)
    for suffix, build in BUILDERS.items()
    for score in SCORES
}
