"""`jaxad.losses` and `jaxad.augment` need JAX and what it needs, so that other projects can too."""

import pathlib
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_HEAVY = ("flax", "grain", "orbax", "tensorflow_datasets", "ml_collections", "sklearn")


@pytest.mark.parametrize("folder", ["losses", "augment"])
def test_importing_pulls_no_framework(folder):
    modules = sorted(
        path.stem for path in (_ROOT / "jaxad" / folder).glob("*.py") if path.stem != "__init__"
    )
    code = (
        f"import sys; from jaxad.{folder} import {', '.join(modules)}; "
        f"print([name for name in {_HEAVY!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=_ROOT)
    assert result.stdout.strip() == "[]", result.stderr
