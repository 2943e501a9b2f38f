import jax
import jax.numpy as jnp
import pytest

from jaxad.losses import checks


def test_shape_error_names_argument_expected_and_got():
    with pytest.raises(ValueError, match=r"labels: expected shape \(3,\), got \(2,\)\."):
        checks.shape_equal("labels", (2,), (3,))
    checks.shape_equal("labels", [2, 1], (2, 1))


def test_rank_error_names_the_axes():
    with pytest.raises(ValueError, match=r"scores: expected axes \[B, T\], got \(2,\)\."):
        checks.rank_equal("scores", (2,), "B T")
    checks.rank_equal("scores", (2, 5), "B T")


@pytest.mark.parametrize("shape", [(), (3,), (1, 3), (2, 1), (2, 3)])
def test_broadcastable_shapes_pass(shape):
    checks.broadcastable("where", shape, (2, 3))


@pytest.mark.parametrize("shape", [(2,), (3, 2), (1, 2, 3)])
def test_other_shapes_do_not_broadcast(shape):
    with pytest.raises(ValueError, match=r"where: .*broadcasts to \(2, 3\), got"):
        checks.broadcastable("where", shape, (2, 3))


def test_types():
    checks.floating("x", jnp.zeros(2, jnp.bfloat16))
    with pytest.raises(TypeError, match=r"x: expected a floating-point array, got int32\."):
        checks.floating("x", jnp.zeros(2, jnp.int32))


@pytest.mark.parametrize(
    "value, error", [(0, ValueError), (-1, ValueError), (1.0, TypeError), (True, TypeError)]
)
def test_positive_integer(value, error):
    with pytest.raises(error, match="k: expected"):
        checks.positive_integer("k", value)


def test_a_traced_value_is_no_python_integer():
    with pytest.raises(TypeError, match="k: expected a Python integer"):
        jax.jit(lambda k: checks.positive_integer("k", k))(3)
