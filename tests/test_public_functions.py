"""Every public function of `jaxad.losses` and `jaxad.augment`, put through the same tests.

`tests/tables/<folder>_<module>.py` holds the rows of a module, `ROWS`, and may exempt functions
that run on the host, with the reason: `HOST = {function: reason}`.
"""

import importlib
import inspect
import os
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec
from jax.test_util import check_grads
from layouts import AXIS

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDERS = ("losses", "augment")
DEVICES = 8
PLUMBING = ("checks", "devices")  # What the others are made of; they have tests of their own.


def public_modules():
    for folder in FOLDERS:
        for path in sorted((ROOT / "jaxad" / folder).glob("*.py")):
            if path.stem not in ("__init__", *PLUMBING):
                yield importlib.import_module(f"jaxad.{folder}.{path.stem}")


def public_functions():
    for module in public_modules():
        for name in module.__all__:
            if inspect.isfunction(getattr(module, name)):
                yield getattr(module, name)


def tables():
    found = [p for f in FOLDERS for p in (ROOT / "tests" / "tables").glob(f"{f}_*.py")]
    for path in sorted(found):
        if path.stem in os.environ.get("JAXAD_TABLES", path.stem).split(","):
            yield importlib.import_module(f"tables.{path.stem}")


ROWS = [row for table in tables() for row in table.ROWS]
HOST = {function for table in tables() for function in getattr(table, "HOST", {})}
every_row = pytest.mark.parametrize("row", ROWS, ids=[row.id for row in ROWS])
rows_with_gradient = [row for row in ROWS if row.differentiable]
every_gradient = pytest.mark.parametrize(
    "row", rows_with_gradient, ids=[row.id for row in rows_with_gradient]
)


def cast(name, value, dtype):
    """An argument's arrays in the type of the test; integers, booleans and keys keep theirs."""

    def one(array):
        array = np.asarray(array)
        if name.startswith("key"):
            return jax.vmap(jax.random.key)(array) if array.ndim else jax.random.key(array)
        if array.dtype.kind == "f":
            # Rounded first: all types then start from the same numbers.
            return jnp.asarray(jnp.asarray(array, jnp.bfloat16), dtype)
        return jnp.asarray(array)

    return jax.tree.map(one, value)


def plain(name, value, dtype):
    """As `cast`, but without rounding to bfloat16 first."""

    def one(array):
        array = np.asarray(array)
        if name.startswith("key"):
            return jax.vmap(jax.random.key)(array) if array.ndim else jax.random.key(array)
        return jnp.asarray(array, dtype if array.dtype.kind == "f" else None)

    return jax.tree.map(one, value)


def arguments(row, dtype=jnp.float32, convert=plain, replaced=None):
    given = {**row.arguments, **(replaced or {})}
    return {k: convert(k, v, dtype) for k, v in given.items() if v is not None}


def bound(row, **options):
    """The row's function of its array arguments alone, in one dictionary."""
    return lambda given: row.function(**given, **{**row.options, **options})


COMPILED = {}


def compiled(row):
    """The same function under `jit`, shared by the tests of a row."""
    return COMPILED.setdefault(row.id, jax.jit(bound(row)))


def floats(outputs):
    """The floating-point leaves of outputs: those that have a gradient and an error."""
    return [x for x in jax.tree.leaves(outputs) if jnp.issubdtype(jnp.result_type(x), jnp.floating)]


def objective(outputs):
    """A scalar that weighs every entry of the outputs differently, the rows aside."""

    def one(x):
        weights = jnp.cos(jnp.arange(x[0].size if x.ndim else 1, dtype=x.dtype) + 0.5)
        return jnp.sum(x * weights.reshape(x.shape[1:]) if x.ndim else x * weights[0])

    return sum(map(one, floats(outputs)))


def assert_close(actual, expected, share):
    jax.tree.map(lambda a, b: _assert_leaf_close(a, b, share), actual, expected)


def _assert_leaf_close(actual, expected, share):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    if expected.dtype.kind not in "fV" and str(expected.dtype) != "bfloat16":
        np.testing.assert_array_equal(actual, expected)
        return
    actual, expected = actual.astype(np.float64), expected.astype(np.float64)
    largest = np.max(np.abs(expected), initial=0.0, where=np.isfinite(expected))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=share * max(largest, 1e-30))


def test_every_public_function_has_a_row_or_a_reason():
    functions = {row.function for row in ROWS} | HOST
    missing = [f"{f.__module__}.{f.__name__}" for f in public_functions() if f not in functions]
    assert not missing


@pytest.mark.parametrize("module", list(public_modules()), ids=lambda m: m.__name__)
def test_all_names_what_is_public(module):
    public = [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and name[0] != "_"
    ]
    assert sorted(public) == sorted(n for n in module.__all__ if n in public), "not in __all__"
    assert list(module.__all__) == sorted(module.__all__)


def measures():
    """The public functions of `jaxad.metrics`, which run on the host and have no row."""
    for path in sorted((ROOT / "jaxad" / "metrics").glob("*.py")):
        module = importlib.import_module(f"jaxad.metrics.{path.stem}")
        for name, value in vars(module).items():
            own = inspect.isfunction(value) and value.__module__ == module.__name__
            if own and name[0] != "_" and path.stem not in ("__init__", *PLUMBING):
                yield value


@pytest.mark.parametrize(
    "function", [*public_functions(), *measures()], ids=lambda f: f"{f.__module__}.{f.__name__}"
)
def test_docstring_gives_arguments_shapes_and_returns(function):
    text = inspect.getdoc(function) or ""
    named = re.findall(r"^ {4}([\w, *]+):", text.partition("Args:")[2], re.MULTILINE)
    documented = {name.strip(" *") for line in named for name in line.split(",")}
    parameters = set(inspect.signature(function).parameters)
    assert parameters <= documented, f"Args: lacks {sorted(parameters - documented)}"
    if inspect.signature(function).return_annotation is not None:
        assert "Returns:" in text
    number = inspect.signature(function).return_annotation is float
    shape = re.search(r"`[^`]*\[|calar|of the shape of", text)
    assert number or shape, "no shape"


@every_row
def test_jit_gives_the_same(row):
    given = arguments(row)
    assert_close(compiled(row)(given), bound(row)(given), max(row.float32, 1e-5))


@every_row
def test_vmap_gives_the_same_as_one_after_the_other(row):
    given = arguments(row)
    turned = {  # A second case of the same shapes: the examples in reverse.
        k: jax.tree.map(lambda x: x[::-1], v) if k in row.rows else v for k, v in given.items()
    }
    pair = jax.tree.map(lambda a, b: jnp.stack([a, b]), given, turned)
    actual = jax.jit(jax.vmap(bound(row)))(pair)
    run = compiled(row)
    expected = jax.tree.map(lambda a, b: jnp.stack([a, b]), run(given), run(turned))
    assert_close(actual, expected, max(row.float32, 1e-5))


def split(row, given):
    return (
        {k: v for k, v in given.items() if k not in row.rows},
        {k: v for k, v in given.items() if k in row.rows},
    )


def value_and_gradient(row, **options):
    """Outputs, and the gradient of their weighted sum in each differentiable argument."""

    def run(same, rows):
        given = {**same, **rows}
        chosen = {name: given.pop(name) for name in row.differentiable}

        def weighted(chosen):
            outputs = bound(row, **options)({**given, **chosen})
            value = objective(outputs) if chosen else 0.0
            if options and row.outputs == "rows":
                value = jax.lax.psum(value, AXIS)
            return value, outputs

        if not chosen:
            return weighted({})[1], {}
        (_, outputs), gradient = jax.value_and_grad(weighted, has_aux=True)(chosen)
        return outputs, gradient

    return run


WITH_GRADIENT = {}


def compiled_gradient(row):
    """`value_and_gradient` on one device under `jit`, shared by the tests of a row."""
    return WITH_GRADIENT.setdefault(row.id, jax.jit(value_and_gradient(row)))


def on_each_device(row):
    """The same on the rows of a device; of gradients, those in the rows."""
    function = value_and_gradient(row, **({"axis_name": AXIS} if row.coupled else {}))

    def run(same, rows):
        outputs, gradient = function(same, rows)
        return outputs, {name: gradient[name] for name in gradient if name in row.rows}

    return run


@every_row
@pytest.mark.parametrize("layout", ["shard_map", "pmap"])
def test_eight_devices_give_the_same_as_one(row, layout):
    if not row.rows:
        pytest.skip("has no rows to share out")
    same, rows = split(row, arguments(row))
    expected, gradient = compiled_gradient(row)(same, rows)
    gradient = {name: gradient[name] for name in gradient if name in row.rows}
    function = on_each_device(row)
    if layout == "pmap":
        run = jax.pmap(lambda s, r: function(s[0], r), axis_name=AXIS, in_axes=(None, 0))
        shared = jax.tree.map(lambda x: x.reshape(DEVICES, -1, *x.shape[1:]), rows)
        # Not an empty tree in front: jax.pmap (0.10.2) then forgets to split some of the rows.
        outputs, gradients = run((same, jnp.zeros(())), shared)
        merge = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
        gradients = jax.tree.map(merge, gradients)
        if row.outputs == "rows":
            outputs = jax.tree.map(merge, outputs)
        else:
            for leaf in jax.tree.leaves(outputs):
                np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[0], leaf.shape))
            outputs = jax.tree.map(lambda x: x[0], outputs)
    else:
        each = PartitionSpec(AXIS)
        run = jax.shard_map(
            function,
            mesh=Mesh(np.array(jax.devices()[:DEVICES]), (AXIS,)),
            in_specs=(PartitionSpec(), each),
            out_specs=(each if row.outputs == "rows" else PartitionSpec(), each),
            check_vma=False,
        )
        outputs, gradients = jax.jit(run)(same, rows)
    # Every device differentiates its own copy of a coupled value; the copies add up.
    copies = DEVICES if row.coupled else 1
    share = max(row.float32, 2e-5)
    assert_close(outputs, expected, share)
    assert_close(jax.tree.map(lambda g: g / copies, gradients), gradient, 5 * share)


@every_row
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_error_of_low_precision_is_as_stated(row, dtype):
    low = compiled(row)(arguments(row, jnp.dtype(dtype), cast))
    with jax.enable_x64(True):
        exact = compiled(row)(arguments(row, jnp.float64, cast))
    share = row.bfloat16 if dtype == "bfloat16" else row.float32
    for a, b in zip(floats(low), floats(exact), strict=True):
        assert a.dtype != jnp.float64
        _assert_leaf_close(a, b, share)


@every_gradient
def test_gradient_agrees_with_finite_differences(row):
    with jax.enable_x64(True):
        given = arguments(row, jnp.float64)
        chosen = {name: given[name] for name in row.differentiable}

        @jax.jit
        def weighted(chosen):
            return objective(bound(row)({**given, **chosen}))

        check_grads(
            weighted,
            (chosen,),
            order=1,
            modes=["rev"],
            atol=row.check_gradient,
            rtol=row.check_gradient,
        )


@every_gradient
def test_value_and_gradient_are_finite_at_the_bad_points(row):
    for replaced in row.bad:
        outputs, gradient = compiled_gradient(row)(*split(row, arguments(row, replaced=replaced)))
        for leaf in [*floats(outputs), *jax.tree.leaves(gradient)]:
            assert np.isfinite(leaf).all(), f"at {list(replaced)}"


@every_row
def test_errors_name_the_argument(row):
    for replaced, error, message in row.errors or ():
        arrays = {k: v for k, v in replaced.items() if k in row.arguments}
        options = {k: v for k, v in replaced.items() if k not in row.arguments}
        with pytest.raises(error, match=message):
            bound(row, **options)(arguments(row, replaced=arrays))


def test_rows_state_what_they_must():
    assert len({row.id for row in ROWS}) == len(ROWS)  # Compiled programs are kept by it.
    for row in ROWS:
        batch = {np.shape(jax.tree.leaves(row.arguments[name])[0])[0] for name in row.rows}
        assert len(batch) <= 1, row.id
        assert batch <= {8, 16, 24, 32, 64}, row.id
        takes = "axis_name" in inspect.signature(row.function).parameters
        assert row.coupled == takes, f"{row.id}: coupled, and axis_name"
        assert not row.differentiable or row.bad, f"{row.id}: no bad points"
        assert row.errors or row.errors is None, f"{row.id}: no errors"
