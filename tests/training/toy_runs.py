"""Runs of the toy methods through `experiment.run`, and what they leave behind."""

import json
import pathlib
import types

import jax
import numpy as np
import toy_methods

from jaxad import methods
from jaxad.data import sources
from jaxad.training import experiment


def patch(monkeypatch, splits=None):
    """Lets configs name the toy methods and the toy source."""

    def load(name):
        return types.SimpleNamespace(build=toy_methods.METHODS[name], __name__=name)

    monkeypatch.setattr(methods, "load", load)
    opened = splits or toy_methods.splits()
    monkeypatch.setattr(sources, "open_splits", lambda name, options: dict(opened))


def run(config, workdir, **options):
    return experiment.run(config, workdir, **options)


def newest_leaves(workdir: pathlib.Path) -> dict[str, np.ndarray]:
    """The newest checkpoint of each stage, by stage and leaf."""
    import orbax.checkpoint as ocp

    leaves = {}
    for stage in sorted((workdir / "checkpoints").iterdir()):
        manager = ocp.CheckpointManager(stage, item_names=("leaves", "meta"))
        number = max(int(p.name) for p in stage.iterdir() if p.name.isdigit())
        meta = manager.restore(number, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
        wanted = {
            name: jax.ShapeDtypeStruct(
                leaf["shape"],
                leaf["dtype"],
                sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0]),
            )
            for name, leaf in meta["leaves"].items()
        }
        args = ocp.args.Composite(leaves=ocp.args.StandardRestore(wanted))
        found = manager.restore(number, args=args)["leaves"]
        leaves.update({f"{stage.name}/{name}": np.asarray(leaf) for name, leaf in found.items()})
        manager.close()
    return leaves


def rows(workdir: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
