"""Every public function of `jaxad.losses` and `jaxad.augment`, put through the same tests.

`tests/tables/<folder>_<module>.py` holds the rows of a module, `ROWS`, and may exempt functions
that run on the host, with the reason: `HOST = {function: reason}`.
"""

import importlib
import inspect
import os
import pathlib
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec
from jax.test_util import check_vjp
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


def cast(name, value, dtype, through=None):
    """An argument's arrays in the type of the test; integers, booleans and keys keep theirs.

    Args:
        name: Of the argument; one that starts with "key" becomes typed keys.
        value: Tree of NumPy arrays.
        dtype: Of what is floating-point.
        through: Type to which that is rounded first: all types then start from the same numbers.
    """

    def one(array):
        array = np.asarray(array)
        if name.startswith("key"):
            return jax.vmap(jax.random.key)(array.ravel()).reshape(array.shape)
        if array.dtype.kind == "f":
            array = array.astype(through or dtype).astype(dtype)
        return jnp.asarray(array)

    return jax.tree.map(one, value)


def arguments(row, dtype=jnp.float32, through=None, replaced=None):
    given = {**row.arguments, **(replaced or {})}
    return {k: cast(k, v, dtype, through) for k, v in given.items() if v is not None}


def changed_rows(row, change):
    """The row's arguments that count examples, with each NumPy array changed."""
    chosen = {name: row.arguments[name] for name in row.rows}
    return jax.tree.map(lambda x: change(np.asarray(x)), chosen)


def bound(row, **options):
    """The row's function of its array arguments alone, in one dictionary."""
    return lambda given: row.function(**given, **{**row.options, **options})


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


def split(row, given):
    return (
        {k: v for k, v in given.items() if k not in row.rows},
        {k: v for k, v in given.items() if k in row.rows},
    )


class Results(NamedTuple):
    """Outputs, their weighted sum, and its gradient in each differentiable argument."""

    outputs: Any
    value: Any
    gradient: Any


def results(row, **options):
    """`Results` as a function of the arguments that all devices have, and of the rows."""

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
            return Results(weighted({})[1], 0.0, {})
        (value, outputs), gradient = jax.value_and_grad(weighted, has_aux=True)(chosen)
        return Results(outputs, value, gradient)

    return run


COMPILED = {}


def compiled(row, given):
    """`Results` on one device: of each type one program, which the tests of a row share.

    Most of the time of these tests goes into compiling.
    """
    run = COMPILED.setdefault(row.id, jax.jit(results(row)))
    return run(*split(row, given))


@every_row
def test_jit_gives_the_same(row):
    given = arguments(row)
    assert_close(compiled(row, given).outputs, bound(row)(given), max(row.float32, 1e-5))


@every_row
def test_vmap_gives_the_same_as_one_after_the_other(row):
    # A second case of the same shapes: the examples in reverse.
    turned = {**row.arguments, **changed_rows(row, lambda x: x[::-1])}
    pair = jax.tree.map(lambda a, b: np.stack([a, b]), row.arguments, turned)
    actual = jax.jit(jax.vmap(bound(row)))(arguments(row, replaced=pair))
    each = [compiled(row, arguments(row, replaced=given)).outputs for given in ({}, turned)]
    expected = jax.tree.map(lambda a, b: np.stack([np.asarray(a), np.asarray(b)]), *each)
    assert_close(actual, expected, max(row.float32, 1e-5))


def on_each_device(row):
    """Outputs and gradients of the rows of a device; of gradients, those in the rows."""
    function = results(row, **({"axis_name": AXIS} if row.coupled else {}))

    def run(same, rows):
        outputs, _, gradient = function(same, rows)
        return outputs, {name: gradient[name] for name in gradient if name in row.rows}

    return run


@every_row
@pytest.mark.parametrize("layout", ["shard_map", "pmap"])
def test_eight_devices_give_the_same_as_one(row, layout):
    if not row.rows:
        pytest.skip("has no rows to share out")
    given = arguments(row)
    expected, _, gradient = compiled(row, given)
    gradient = {name: gradient[name] for name in gradient if name in row.rows}
    function = on_each_device(row)
    same, rows = split(row, given)
    if layout == "pmap":
        run = jax.pmap(lambda s, r: function(s[0], r), axis_name=AXIS, in_axes=(None, 0))
        shared = changed_rows(row, lambda x: x.reshape(DEVICES, -1, *x.shape[1:]))
        _, shared = split(row, arguments(row, replaced=shared))
        # Not an empty tree in front: jax.pmap (0.10.2) then forgets to split some of the rows.
        outputs, gradients = run((same, np.zeros(())), shared)
        merge = lambda x: np.asarray(x).reshape(-1, *x.shape[2:])  # noqa: E731
        gradients = jax.tree.map(merge, gradients)
        if row.outputs == "rows":
            outputs = jax.tree.map(merge, outputs)
        else:
            outputs = jax.tree.map(np.asarray, outputs)
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
    gradients = jax.tree.map(lambda g: np.asarray(g) / copies, gradients)
    assert_close(gradients, gradient, 5 * share)


@every_row
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_error_of_low_precision_is_as_stated(row, dtype):
    if dtype == "float32":
        low = compiled(row, arguments(row, jnp.float32, jnp.bfloat16)).outputs
    else:
        low = jax.jit(bound(row))(arguments(row, jnp.bfloat16))
    with jax.enable_x64(True):
        exact = compiled(row, arguments(row, jnp.float64, jnp.bfloat16)).outputs
    share = row.bfloat16 if dtype == "bfloat16" else row.float32
    for a, b in zip(floats(low), floats(exact), strict=True):
        assert a.dtype != jnp.float64
        _assert_leaf_close(a, b, share)


@every_gradient
def test_gradient_agrees_with_finite_differences(row):
    with jax.enable_x64(True):
        given = arguments(row, jnp.float64)
        chosen = {name: given[name] for name in row.differentiable}

        def value(chosen):
            return compiled(row, {**given, **chosen}).value

        def pull(chosen):
            _, value, gradient = compiled(row, {**given, **chosen})
            return value, lambda seed: (jax.tree.map(lambda x: seed * np.asarray(x), gradient),)

        # As `check_grads` with order 1, but without compiling value and gradient once more.
        check_vjp(value, pull, (chosen,), atol=row.check_gradient, rtol=row.check_gradient)


@every_gradient
def test_value_and_gradient_are_finite_at_the_bad_points(row):
    for replaced in row.bad:
        outputs, _, gradient = compiled(row, arguments(row, replaced=replaced))
        for leaf in [*floats(outputs), *jax.tree.leaves(gradient)]:
            assert np.isfinite(leaf).all(), f"at {list(replaced)}"


@every_row
def test_errors_name_the_argument(row):
    for replaced, error, message in row.errors or ():
        arrays = {k: v for k, v in replaced.items() if k in row.arguments}
        options = {k: v for k, v in replaced.items() if k not in row.arguments}
        # Static facts: they show in shapes and types alone, without compiling anything.
        given = arguments(row, replaced=arrays)
        with pytest.raises(error, match=message):
            jax.eval_shape(bound(row, **options), given)


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
