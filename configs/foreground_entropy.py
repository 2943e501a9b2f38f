"""Monte Carlo dropout, deep ensembles and plain networks, baselines of document 000.

    python -m jaxad.main --config=configs/foreground_entropy.py
    python -m jaxad.main --config=configs/foreground_entropy.py:mnms_a_ensemble

Presets: as of `configs/aux_prototypes.py`, each also as `<name>_dropout` (ten passes) and
`<name>_ensemble` (ten members; five, one after the other, where presets are for a CPU). That file's
table `comparison` has them beside the prototypes.
"""

import ml_collections

from jaxad import config as configs
from jaxad import scan_sections as sections


def get_config(preset: str = "digits") -> ml_collections.ConfigDict:
    return configs.preset(PRESETS, preset)


def paper(source: dict) -> ml_collections.ConfigDict:
    """One network and one pass: what Dice and scores are without anything."""
    method = sections.network(
        name="foreground_entropy",
        members=1,
        members_at_once=0,  # All; fewer for less memory.
        passes=1,
        dropout_seed=0,
    )
    return sections.paper(method, source)


def with_dropout(build) -> ml_collections.ConfigDict:
    """Ten passes (section 4.1); where dropout is, and its rate, are ours."""
    config = build()
    config.method.passes = 10
    if "dropout_rate" in config.method.network:
        config.method.network.dropout_rate = 0.5  # DeepLabV3 has its own.
    return config


def with_members(name: str, build) -> ml_collections.ConfigDict:
    """Ten members (section 4.1)."""
    config = build()
    small = name in sections.FOR_A_CPU
    config.method.members = 5 if small else 10
    config.method.members_at_once = 1 if small else 0  # Side by side, XLA on CPU is slower.
    return config


ALONE = sections.presets(paper)
PRESETS = {
    **ALONE,
    **{f"{name}_dropout": lambda build=build: with_dropout(build) for name, build in ALONE.items()},
    **{
        f"{name}_ensemble": lambda name=name, build=build: with_members(name, build)
        for name, build in ALONE.items()
    },
}
