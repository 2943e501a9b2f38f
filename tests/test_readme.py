"""Every command and code block of the README is run here, on smaller numbers."""

import pathlib
import re
import shlex

import command_line
import jax
import numpy as np
import optax
import pytest
import volume_files
from PIL import Image

README = (command_line.ROOT / "README.md").read_text()
SMALL = " ".join(command_line.TINY)
BENCHMARK = "--config.data.source.feature_size=16 --config.method.hidden=(8,4)"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


COMMANDS = [
    line
    for block in blocks("bash")
    for line in block.splitlines()
    if line.startswith("python -m ") and not line.startswith("python -m pytest")
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Features in the published layout: what `/data/ucf_crime` and `data/own` stand for."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    (folder / "features").mkdir()
    truth = []
    labels = []
    for part, count in (("train", 8), ("test", 4)):
        names = []
        for i in range(count):
            anomalous = i % 2 == 0
            number = i + (100 if part == "test" else 0)
            name = f"{'Abuse' if anomalous else 'Normal_Videos_'}{number:03d}_x264"
            length = int(rng.integers(20, 40))
            features = rng.random((length, 2, 16), np.float32)
            np.save(folder / "features" / f"{name}_i3d.npy", features)
            names.append(f"/home/somebody/else/{name}_i3d.npy")
            labels.append(f"{name} {int(anomalous)}")
            if part == "test":
                frames = np.zeros(16 * length)
                frames[32:96] = anomalous
                truth.append(frames)
        (folder / f"{part}.list").write_text("\n".join(names) + "\n")
    np.save(folder / "gt.npy", np.concatenate(truth))
    (folder / "labels.txt").write_text("\n".join(labels) + "\n")
    write_volumes(folder)
    write_streets(folder)
    return folder


def write_volumes(folder):
    """Five patients of two classes, and an OoD set: what `data/own_volumes` stands for."""
    rng = np.random.default_rng(0)
    for part in ("own_volumes/images", "own_volumes/labels", "own_ood/images"):
        (folder / part).mkdir(parents=True)
    (folder / "own_volumes" / "classes.csv").write_text("id,name\n1,organ\n0,background\n")
    for i in range(5):
        labels = np.zeros((12, 14, 3), np.uint8)
        labels[4:8, 4:9] = 1
        scan = rng.normal(size=labels.shape).astype(np.float32) + labels
        volume_files.write_nifti(folder / "own_volumes" / "images" / f"p{i}.nii.gz", scan)
        volume_files.write_nifti(folder / "own_volumes" / "labels" / f"p{i}.nii.gz", labels)
    volume_files.write_nifti(folder / "own_ood" / "images" / "q.nii.gz", -scan)


def write_streets(folder):
    """Ten classes in blocks, and a bicyclist outside of training: what `data/camvid` stands for."""
    rng = np.random.default_rng(0)
    for part in ("train", "val", "test"):
        (folder / "camvid" / part).mkdir(parents=True)
        (folder / "camvid" / f"{part}annot").mkdir()
        for i in range(8 if part == "train" else 4):
            labels = rng.integers(0, 10, (4, 6)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
            if part != "train":
                labels[8:16, 8:24] = 10
            image = np.clip(labels[..., None] * 20 + rng.integers(0, 40, (32, 48, 3)), 0, 255)
            Image.fromarray(image.astype(np.uint8)).save(folder / "camvid" / part / f"{i}.jpg")
            Image.fromarray(labels).save(folder / "camvid" / f"{part}annot" / f"{i}.png")


def smaller(command, files, workdir):
    """The command with flags behind it that make it small; a later flag overrules an earlier."""
    source = " ".join(
        f"--config.data.source.{name}={files}/{path}"
        for name, path in (
            ("root", "features"),
            ("train_list", "train.list"),
            ("test_list", "test.list"),
        )
    )
    steps = "--config.stages.train.steps=2 --config.stages.train.batch_size=4"
    narrow = "--config.data.source.feature_size=16"
    scenes = " ".join(command_line.TINY_SCENES)
    network = " ".join(command_line.TINY_NETWORK)
    finetuning = " ".join(command_line.TINY_FINETUNING)
    scans = " ".join(command_line.TINY_SCANS)
    if "configs/aux_prototypes.py --table" in command:
        rows = "--rows=FCDD,network\\ alone --seeds=0"
        return f"{command} {rows} {scans} --workdir={workdir}/scans"
    if ":own_volumes" in command:
        roots = f"--config.data.source.root={files} --config.data.source.cache={workdir}/cache"
        return f"{command} {roots} --config.data.source.size=(16,16)"
    if "configs/aux_prototypes.py" in command:
        return f"{command} {scans} --workdir={workdir}/aux_prototypes"
    if ":camvid_cpu" in command:
        sizes = "--config.data.source.size=(32,48) --config.data.source.test_size=(32,48)"
        outliers = "--config.data.source.outliers.object_size=(8,12)"
        data = f"--config.data.source.root={files} {sizes} {outliers}"
        tiny = f"{network} {finetuning} --config.eval.batch_size=4"
        return f"{command} --rows=energy --seeds=0 {data} {tiny} --workdir={workdir}/streets"
    if "configs/pebal.py --table" in command:
        rows = "--rows=energy"  # And PEBAL, whose network it scores.
        tiny = f"{scenes} {network} {finetuning}"
        return f"{command} {rows} --seeds=0 {tiny} --workdir={workdir}/comparison"
    if "jaxad.sweep" in command:
        rows = "--rows=feature\\ norm"
        return f"{command} {rows} --seeds=0 --workdir={workdir}"
    if "configs/closed_set.py" in command:
        return f"{command} {scenes} {network} --workdir={workdir}/closed_set"
    if "configs/posthoc.py" in command:
        command = command.replace("runs/closed_set-digits", f"{workdir}/closed_set")
        return f"{command} {scenes} --workdir={workdir}/posthoc"
    if "configs/pebal.py" in command:
        return f"{command} {scenes} {network} {finetuning} --workdir={workdir}/pebal"
    if "benchmarks.losses" in command:
        return f"{command} --scale=0.01 --repeats=1"
    if "benchmarks.input_pipeline" in command:
        return (
            f"{command} {BENCHMARK} --videos=4 --batch_size=4 --batches=2 --steps=2 "
            "--threads=1 --snippets=40"
        )
    if "benchmarks" in command:
        sizes = "--batch_sizes=2 --repeats=1"
        if "--hlo" in command:
            sizes += f" --hlo={workdir}/hlo --trace={workdir}/trace"
        return f"{command} {BENCHMARK} {sizes}"
    if ":ucf_crime" in command:
        truth = f"--config.data.source.ground_truth={files}/gt.npy"
        return (
            f"{command} {source} {truth} {steps} {narrow} "
            f"--config.data.source.validation_fraction=0.25 --workdir={workdir}/ucf"
        )
    if ":own_features" in command:
        labels = f"--config.data.source.labels={files}/labels.txt --config.data.source.suffix=_i3d"
        held_out = "--config.data.source.validation_fraction=0.25"
        if "check_data" in command:
            return f"{command} {source} {labels} {narrow} {held_out}"
        return f"{command} {source} {labels} {steps} {narrow} {held_out} --workdir={workdir}/own"
    return f"{command} {SMALL} --workdir={workdir}/digits"


def test_readme_has_commands():
    assert len(COMMANDS) >= 8
    for marker in ("install", "train", "test"):
        assert f"<!-- {marker} -->\n```bash\n" in README


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("readme")


@pytest.mark.parametrize("command", COMMANDS)
def test_command_runs(command, files, workdir):
    arguments = shlex.split(smaller(command, files, workdir))
    assert arguments[:2] == ["python", "-m"]
    status, out, err = command_line.run(*arguments[3:], module=arguments[2])
    assert status == 0, err
    assert out.strip()
    if "--hlo" in command:
        assert list((workdir / "hlo").glob("*.txt"))
        assert list((workdir / "trace").rglob("*.xplane.pb"))


def test_steps_with_the_losses_agree_in_all_three_layouts():
    """Each block goes on from the one before, as a reader would."""
    names = {}
    steps = re.findall(r"<!-- losses -->\n```python\n(.*?)```", README, re.DOTALL)
    assert len(steps) == len(blocks("python")) == 3
    for code in steps:
        exec(compile(code, "README.md", "exec"), names)
        assert np.isfinite(names["value"])
    # The same step from the same parameters, on one device, sharded, and mapped; by SGD, since Adam
    # would hide a gradient of the wrong scale.
    names["tx"] = optax.sgd(1.0)
    start = (np.zeros(8, np.float32), names["tx"].init(np.zeros(8, np.float32)))
    rows = names["batch"]
    shared = jax.tree.map(names["split"], rows)
    results = [
        names["step"](*start, rows),
        names["sharded_step"](*start, rows),
        names["pmapped_step"](*start, shared),
    ]
    for params, _, value in results[1:]:
        np.testing.assert_allclose(value, results[0][2], rtol=1e-6)
        np.testing.assert_allclose(params, results[0][0], rtol=1e-5)


def test_files_that_the_readme_names_exist():
    for path in re.findall(r"`((?:jaxad|configs|tests|benchmarks)/[\w/.]+)`", README):
        assert (pathlib.Path(command_line.ROOT) / path).exists(), path
