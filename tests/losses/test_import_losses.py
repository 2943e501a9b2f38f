import pathlib
import subprocess
import sys

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_HEAVY = ("flax", "grain", "orbax", "tensorflow_datasets", "ml_collections")


def test_importing_losses_pulls_no_framework():
    code = (
        "import sys; from jaxad.losses import checks, masked, mil; "
        f"print([name for name in {_HEAVY!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=_ROOT)
    assert result.stdout.strip() == "[]", result.stderr
