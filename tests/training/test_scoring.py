"""Methods with scores per pixel through a whole run."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_methods
import toy_runs

from jaxad import methods
from jaxad.data.split import Split
from jaxad.errors import InputError
from jaxad.evaluation import measures, predictions
from jaxad.methods import base
from jaxad.metrics import ranking, segmentation

SIZES = ((8, 12), (6, 10))
PIXEL = ("pixel_auc", "pixel_average_precision", "pixel_fpr95", "mean_iou", "ece")


@dataclasses.dataclass(frozen=True)
class Scenes:
    """Two classes side by side; every second image has a bright, anomalous corner."""

    seed: int
    hidden: tuple[str, ...] = ()

    def __call__(self, i):
        rng = np.random.default_rng([self.seed, i])
        height, width = SIZES[i % len(SIZES) if self.seed else 0]
        segments = np.broadcast_to(np.arange(width) >= width // 2, (height, width)).astype(np.uint8)
        image = 60 + 80 * segments + rng.integers(0, 60, (height, width))
        anomaly = np.zeros((height, width), np.uint8)
        if i % 2 and self.seed:
            anomaly[:3, :4] = 1
            image = np.where(anomaly == 1, image + 70, image)
        segments = np.where(anomaly == 1, 254, segments).astype(np.uint8)
        anomaly[-1] = segments[-1] = 255
        record = {
            "image": np.repeat(image[..., None], 3, axis=-1).clip(0, 255).astype(np.uint8),
            "segments": segments,
            "label": np.int32(bool(anomaly[0, 0])),
            "anomaly": anomaly,
        }
        return {name: array for name, array in record.items() if name not in self.hidden}


def split(seed, count, **options):
    read = Scenes(seed, **options)
    return Split(
        names=[f"scene {i}" for i in range(count)],
        labels=np.array([int(i % 2) if seed else 0 for i in range(count)]),
        read=read,
        fingerprint={"seed": seed},
        sizes=np.array([SIZES[i % 2] for i in range(count)]) if seed else None,
        segment_classes=("left", "right"),
    )


def brightness(optimizers, *, dtype):
    """One threshold between the classes, learnt; the score is the brightness."""
    tx = optimizers["train"]

    def init(rng, batch, done):
        params = jnp.zeros(())
        return base.new_state(params, tx.init(params), {})

    def grey(batch):
        return jnp.mean(batch["image"].astype(jnp.float32) / 255, axis=-1)

    def loss(params, stats, batch, rng):
        error = jnp.mean((jnp.mean(grey(batch), axis=(1, 2)) - params) ** 2)
        return jax.lax.pmean(error, base.AXIS), (stats, {})

    def score(states, batch):
        assert not {"segments", "anomaly"} & batch.keys(), "a score cannot see the truth"
        value, border = grey(batch), states["train"].params
        return base.Scores(
            image=jnp.max(value, axis=(1, 2)),
            pixel=value,
            classes=(value > border).astype(jnp.int32),
            extra={"confidence": jax.nn.sigmoid(20 * jnp.abs(value - border))},
        )

    return base.Method({"train": base.Stage(init, base.gradient_update(loss, tx))}, score)


@pytest.fixture(autouse=True)
def _method(monkeypatch):
    toy_runs.patch(
        monkeypatch, {"train": split(0, 16), "validation": split(1, 6), "test": split(2, 11)}
    )
    load = lambda name: types.SimpleNamespace(build=brightness, __name__=name)  # noqa: E731
    monkeypatch.setattr(methods, "load", load)


def config(**changes):
    made = toy_methods.config("brightness", steps=6)
    with made.unlocked():
        made.eval.components.min_predicted = made.eval.components.min_truth = 0
        made.eval.components.fpr = 0.2
        made.update_from_flattened_dict(changes)
    return made.lock()


@pytest.mark.parametrize("spmd, count", [("shard_map", 8), ("shard_map", 1), ("pmap", 4)])
def test_metrics_are_those_of_the_pixels(spmd, count, tmp_path):
    """On any number of devices, with images of two sizes and padded batches."""
    run = config(spmd=spmd, **{"eval.save_maps": True})
    found = toy_runs.run(run, tmp_path, devices=jax.devices()[:count])["test"]
    records = [split(2, 11).read(i) for i in range(11)]
    border = toy_runs.newest_leaves(tmp_path)["train/state.params"]
    grey = [record["image"].astype(np.float32).mean(-1) / 255 for record in records]
    truth = np.concatenate([record["anomaly"].ravel() for record in records])
    scores = np.concatenate([np.ravel(each) for each in grey])
    there = truth != 255
    exact = ranking.roc_auc(truth[there], scores[there])
    assert found["pixel_auc"] == pytest.approx(exact, abs=2e-3)
    segments = np.concatenate([record["segments"].ravel() for record in records])
    counted = segmentation.confusion_matrix(
        segments[None], (scores > border).astype(int)[None], classes=2, where=segments[None] < 2
    )
    assert found["mean_iou"] == pytest.approx(float(segmentation.mean_iou(counted[0])), abs=1e-3)
    assert {"image_auc", "per_image/pixel_auc", "component_f1", *PIXEL} <= found.keys()
    with np.load(tmp_path / "scores" / "test" / "000010.npz") as file:
        assert file["pixel"].shape == SIZES[0]
    assert len(list((tmp_path / "scores" / "test").iterdir())) == 11
    assert predictions.load(tmp_path / "scores" / "test.npz").pixels.threshold is not None
    page = (tmp_path / "report" / "index.html").read_text()
    assert page.count('class="photo"') == 4 * 9  # Five with anomalies, four without.


def test_threshold_comes_from_the_validation_split(tmp_path):
    found = toy_runs.run(config(), tmp_path)["test"]
    rows = [row for row in toy_runs.rows(tmp_path) if row["split"] == "validation"]
    assert found["component_threshold"] == rows[-1]["component_threshold"]
    assert {"mean_iou", "pixel_average_precision"} <= rows[-1].keys()
    assert "component_f1" not in rows[-1]


def test_oracle_is_named_so(tmp_path):
    found = toy_runs.run(config(**{"eval.components.threshold": "oracle"}), tmp_path)["test"]
    assert {"oracle/component_f1", "oracle/component_threshold"} <= found.keys()
    assert "component_f1" not in found


def test_best_checkpoint_by_a_metric_of_pixels(tmp_path):
    run = config(**{"eval.checkpoint": "best", "eval.best_metric": "mean_iou"})
    assert "mean_iou" in toy_runs.run(run, tmp_path)["test"]
    row = toy_runs.rows(tmp_path)[-1]
    assert (row["split"], row["checkpoint"]) == ("test", "best")


@pytest.mark.parametrize("hidden", [("anomaly",), ("anomaly", "segments")])
def test_truth_that_is_not_there_gives_reasons(hidden, tmp_path, monkeypatch):
    splits = {"train": split(0, 16), "validation": split(1, 6), "test": split(2, 11, hidden=hidden)}
    toy_runs.patch(monkeypatch, splits)
    load = lambda name: types.SimpleNamespace(build=brightness, __name__=name)  # noqa: E731
    monkeypatch.setattr(methods, "load", load)
    found = toy_runs.run(config(), tmp_path)["test"]
    assert "pixel_auc" not in found
    assert ("mean_iou" in found) == (len(hidden) == 1)
    assert "The split has no truth per pixel." in (tmp_path / "report" / "index.html").read_text()


@pytest.mark.parametrize(
    "field, value", [("eval.components.threshold", "train"), ("eval.components.fpr", -0.1)]
)
def test_bad_fields_are_named_before_anything_is_written(field, value, tmp_path):
    with pytest.raises(InputError, match=f"config.{field}: expected"):
        toy_runs.run(config(**{field: value}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def named_sets(seed, count):
    """Truth of whole images alone; anomalous ones are of two sets, classes have a background."""
    made = split(seed, count, hidden=("anomaly",))
    labels = made.labels.tolist()
    return dataclasses.replace(
        made,
        classes=[
            "" if not label else ("near", "far")[i % 3 == 0] for i, label in enumerate(labels)
        ],
        class_groups={"near": "C1", "far": "C2"},
        background=0,
        subjects=[f"{seed}/P{i // 4}" for i in range(count)],
    )


@pytest.mark.parametrize("spmd, count", [("shard_map", 8), ("pmap", 2)])
def test_named_sets_and_dice_through_a_run(spmd, count, tmp_path, monkeypatch):
    """The best checkpoint is that of the highest Dice on validation data."""
    parts = {"train": (0, 16), "validation": (1, 6), "test": (2, 11)}
    splits = {name: named_sets(*part) for name, part in parts.items()}
    toy_runs.patch(monkeypatch, splits)
    load = lambda name: types.SimpleNamespace(build=brightness, __name__=name)  # noqa: E731
    monkeypatch.setattr(methods, "load", load)
    run = config(spmd=spmd, **{"eval.checkpoint": "best", "eval.best_metric": "dice"})
    found = toy_runs.run(run, tmp_path, devices=jax.devices()[:count])["test"]
    assert "pixel_auc" not in found
    scores = np.array([splits["test"].read(i)["image"].mean(-1).max() for i in range(11)])
    for name in ("near", "far"):
        own = np.array([each in ("", name) for each in splits["test"].classes])
        exact = ranking.roc_auc(splits["test"].labels[own], scores[own])
        assert found[f"class/{name}/image_auc"] == pytest.approx(exact, abs=1e-6)
    assert {"sets/image_fpr95", "group/C1/image_auc", "dice/right", "per_subject/dice"} <= set(
        found
    )
    loaded = predictions.load(tmp_path / "scores" / "test.npz")
    assert measures.measure(loaded) == pytest.approx(found)
    assert (tmp_path / "splits.json").exists()
    assert "Out-of-distribution sets" in (tmp_path / "report" / "index.html").read_text()
