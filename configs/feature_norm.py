"""The norm of the raw features as score: what a trained system has to beat.

python -m jaxad.main --config=configs/feature_norm.py
"""

import ml_collections

from jaxad import config as configs
from jaxad import datasets


def get_config(preset: str = "digits") -> ml_collections.ConfigDict:
    return configs.preset(PRESETS, preset)


def untrained(source: dict) -> ml_collections.ConfigDict:
    config = configs.defaults()
    config.method = dict(name="feature_norm", k=3)  # Snippets that stand for a video, as in RTFM.
    config.data.source = source
    optimizer = dict(name="sgd", learning_rate=0.0)  # Nothing is learnt.
    config.stages.train = configs.stage(batch_size=32, steps=0, optimizer=optimizer)
    return config


PRESETS = {
    "digits": lambda: untrained(datasets.digit_reels()),
    "shanghaitech": lambda: untrained(datasets.shanghaitech()),
    "ucf_crime": lambda: untrained(datasets.ucf_crime()),
    "xd_violence": lambda: untrained(datasets.xd_violence()),
}
