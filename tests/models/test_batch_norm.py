from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from layouts import AXIS, LAYOUTS, spread

from jaxad.models.batch_norm import BatchNorm, batch_statistics

VARIABLES = {
    "params": {"scale": jnp.array([2.0, 0.5]), "bias": jnp.array([1.0, -1.0])},
    "batch_stats": {"mean": jnp.array([0.3, 0.1]), "var": jnp.array([2.0, 3.0])},
}
apply = jax.jit(
    lambda variables, inputs, where=None, *, train=True: BatchNorm().apply(
        variables, inputs, where, train=train, mutable=["batch_stats"]
    ),
    static_argnames="train",
)


def draw(*shape, mean=0.0):
    return jnp.asarray(np.random.default_rng(0).normal(mean, 1.0, shape), jnp.float32)


def reference(inputs, variables=VARIABLES):
    """Normalised entries `[n, C]` and running statistics after them, in float64."""
    x, params, stats = np.asarray(inputs, np.float64), variables["params"], variables["batch_stats"]
    y = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) * params["scale"] + params["bias"]
    mean = 0.9 * np.asarray(stats["mean"]) + 0.1 * x.mean(0)
    var = 0.9 * np.asarray(stats["var"]) + 0.1 * x.var(0, ddof=1)  # Unbiased.
    return y, {"mean": mean, "var": var}


def assert_same(actual, expected):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), actual, expected)


def test_normalises_by_the_biased_and_keeps_the_unbiased_variance():
    inputs = draw(3, 4, 2)
    outputs, new = apply(VARIABLES, inputs)
    expected, stats = reference(inputs.reshape(-1, 2))
    assert_same(outputs.reshape(-1, 2), expected)
    assert_same(new["batch_stats"], stats)


def test_evaluation_uses_and_keeps_the_running_statistics():
    inputs = draw(5, 2)
    outputs, new = apply(VARIABLES, inputs, train=False)
    expected = (inputs - VARIABLES["batch_stats"]["mean"]) / jnp.sqrt(
        VARIABLES["batch_stats"]["var"] + 1e-5
    )
    expected = expected * VARIABLES["params"]["scale"] + VARIABLES["params"]["bias"]
    assert_same(outputs, expected)
    assert_same(new["batch_stats"], VARIABLES["batch_stats"])


def test_masked_entries_enter_no_statistic_and_no_gradient():
    inputs, where = draw(4, 3, 2), jnp.array([[1, 1, 0], [0, 0, 0], [1, 1, 1], [1, 0, 0]], bool)
    bad = jnp.where(where[..., None], inputs, jnp.nan)
    outputs, new = apply(VARIABLES, bad, where)
    expected, stats = reference(inputs[where])
    assert_same(outputs[where], expected)
    assert_same(new["batch_stats"], stats)

    def loss(inputs):
        outputs = BatchNorm().apply(VARIABLES, inputs, where, train=True, mutable=["batch_stats"])[
            0
        ]
        return jnp.sum(jnp.where(where[..., None], outputs, 0.0) ** 3)

    def loss_of_selected(selected):
        outputs = BatchNorm().apply(VARIABLES, selected, train=True, mutable=["batch_stats"])[0]
        return jnp.sum(outputs**3)

    gradient = jax.grad(loss)(inputs)
    assert_same(gradient[where], jax.grad(loss_of_selected)(inputs[where]))
    assert not gradient[~where].any()


def test_variance_keeps_its_digits_far_from_zero():
    inputs = draw(1000, 2, mean=3000.0)
    _, var, _ = batch_statistics(inputs)
    np.testing.assert_allclose(var, np.var(np.asarray(inputs, np.float64), 0), rtol=1e-4)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_entries_leave_what_they_cannot_tell(count):
    inputs, where = draw(3, 2), jnp.arange(3) < count
    outputs, new = apply(VARIABLES, inputs, where)
    assert jnp.isfinite(outputs).all()
    old = VARIABLES["batch_stats"]
    mean = 0.9 * old["mean"] + 0.1 * inputs[0] if count else old["mean"]
    assert_same(new["batch_stats"], {"mean": mean, "var": old["var"]})
    gradient = jax.grad(lambda x: jnp.sum(apply(VARIABLES, x, where)[0][:count]))(inputs)
    assert jnp.isfinite(gradient).all()


def test_16_bit_inputs_have_float32_statistics():
    inputs = draw(600, 2).astype(jnp.bfloat16)
    outputs, new = BatchNorm(dtype=jnp.bfloat16).apply(
        VARIABLES, inputs, train=True, mutable=["batch_stats"]
    )
    assert outputs.dtype == jnp.bfloat16
    assert {x.dtype for x in jax.tree.leaves(new)} == {jnp.dtype("float32")}
    assert_same(new["batch_stats"], reference(inputs.astype(jnp.float32))[1])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_devices_with_uneven_counts_normalise_as_one(layout):
    rows = {"x": draw(16, 3, 2), "where": jnp.arange(48).reshape(16, 3) < 17}

    def loss(params, rows, axis_name):
        variables = VARIABLES | {"params": params}
        outputs, new = BatchNorm(axis_name=axis_name).apply(
            variables, rows["x"], rows["where"], train=True, mutable=["batch_stats"]
        )
        value = jnp.sum(jnp.where(rows["where"][..., None], jnp.sin(outputs), 0.0))
        return value if axis_name is None else jax.lax.psum(value, axis_name), new

    def on_device(rows):
        (value, new), gradient = jax.value_and_grad(loss, has_aux=True)(
            VARIABLES["params"], rows, AXIS
        )
        return value, new, jax.lax.pmean(gradient, AXIS)

    (value, new), gradient = jax.value_and_grad(loss, has_aux=True)(VARIABLES["params"], rows, None)
    assert_same(spread(layout, on_device, rows), (value, new, gradient))


def test_initialisation():
    variables = BatchNorm(axis_name=AXIS).init(jax.random.key(0), draw(4, 3), train=True)
    expected = {
        "params": {"scale": jnp.ones(3), "bias": jnp.zeros(3)},
        "batch_stats": {"mean": jnp.zeros(3), "var": jnp.ones(3)},
    }
    jax.tree.map(np.testing.assert_array_equal, variables, expected)
