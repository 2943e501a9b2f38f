"""The floors and bans of the design, held against the code."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "jaxad"
FILES = sorted(PACKAGE.rglob("*.py"))

FLOORS = {
    "errors": 0,
    "config": 0,
    "cosine": 0,
    "datasets": 0,
    "fields": 0,
    "files": 0,
    "medical_datasets": 0,
    "resampling": 0,
    "scan_sections": 0,
    "scene_sections": 0,
    "losses": 1,
    "metrics": 1,
    "models": 1,
    "augment": 1,
    "data": 1,
    "convert": 2,
    "methods": 2,
    "training": 3,
    "evaluation": 3,
}
TOP = 4  # Command lines: jaxad/main.py and its neighbours.
# methods may read foreign checkpoints; training puts evaluation to use.
SAME_FLOOR = {("methods", "convert"), ("training", "evaluation"), ("config", "errors")}
SAME_FLOOR |= {
    ("files", "errors"),
    ("fields", "errors"),
    ("config", "fields"),
    ("datasets", "config"),
    ("datasets", "medical_datasets"),
    ("medical_datasets", "config"),
    ("scene_sections", "config"),
    ("scan_sections", "config"),
    ("scan_sections", "datasets"),
    ("scan_sections", "scene_sections"),
}


def imports(path):
    """Absolute module names that a file imports, anywhere in it."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def house(path):
    """The folder (or file) of the package that a file belongs to."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_to_lower_floors(path):
    own = house(path)
    floor = FLOORS.get(own, TOP)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "jaxad" or len(parts) < 2 or parts[1] in (own, "__version__"):
            continue
        other = parts[1]
        below = FLOORS.get(other, TOP) < floor or (own, other) in SAME_FLOOR
        commands = floor == TOP and own not in ("__init__",)
        assert below or commands, f"{path} imports {name}"


def test_every_folder_has_a_floor():
    folders = {p.name for p in PACKAGE.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert folders <= FLOORS.keys()


@pytest.mark.parametrize(
    "folder, allowed",
    [
        (
            "losses",
            {
                *("jax", "numpy", "scipy"),  # jax itself needs the other two.
                *("optax", "dm_pix", "jaxad"),
                *("collections", "functools", "math", "numbers", "typing"),
            },
        ),
        (
            "augment",
            {
                *("jax", "numpy", "optax", "dm_pix", "jaxad"),
                *("collections", "functools", "math", "numbers", "typing"),
            },
        ),
    ],
)
def test_pure_folders_import_nothing_else(folder, allowed):
    for path in (PACKAGE / folder).glob("*.py"):
        assert {name.split(".")[0] for name in imports(path)} <= allowed, path


def test_data_and_metrics_do_not_know_jax():
    for folder in ("data", "metrics"):
        for path in (PACKAGE / folder).glob("*.py"):
            assert not {"jax", "flax"} & {name.split(".")[0] for name in imports(path)}, path


@pytest.mark.parametrize("folder", ["training", "evaluation"])
def test_no_system_is_named_above_its_file(folder):
    systems = {p.stem for p in (PACKAGE / "methods").glob("*.py")} - {"__init__", "base"}
    for path in (PACKAGE / folder).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in systems, f"{path} names {node.value}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_file_is_named_after_what_it_does(path):
    assert path.stem not in ("utils", "util", "helpers", "misc", "common")


def test_importing_losses_pulls_nothing_heavy():
    modules = [f"jaxad.losses.{p.stem}" for p in (PACKAGE / "losses").glob("[a-z]*.py")]
    code = (
        f"import importlib, sys; [importlib.import_module(m) for m in {modules}]; "
        "heavy = {'flax', 'grain', 'orbax', 'tensorflow_datasets', 'ml_collections'}; "
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.py")), ids=lambda p: p.name)
def test_configs_import_nothing_heavy(path):
    assert {name.split(".")[0] for name in imports(path)} <= {"jaxad", "ml_collections"}
    light = ("jaxad.config", "jaxad.datasets", "jaxad.medical_datasets", "jaxad.scene_sections")
    light += ("jaxad.scan_sections",)
    assert all(n in light for n in imports(path) if n.startswith("jaxad"))
