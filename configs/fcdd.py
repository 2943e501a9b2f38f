"""FCDD on the encoder of a segmentation network, a baseline of document 000.

    python -m jaxad.main --config=configs/fcdd.py
    python -m jaxad.main --config=configs/fcdd.py:prostatex

Presets: as of `configs/aux_prototypes.py`, whose table `comparison` has it beside the prototypes.
"""

import ml_collections

from jaxad import config as configs
from jaxad import scan_sections as sections


def get_config(preset: str = "digits") -> ml_collections.ConfigDict:
    return configs.preset(PRESETS, preset)


def paper(source: dict) -> ml_collections.ConfigDict:
    """Section 4.1, "compared models"."""
    method = sections.network(
        name="fcdd",
        objective="fcdd",  # Eq. 3; "batch_mean" as released.
        exposure_weight=0.1,
        passes="joint",
    )
    return sections.paper(method, source)


PRESETS = sections.presets(paper)
