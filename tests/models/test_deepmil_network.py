from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.models.deepmil import DeepMIL


def draw(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("projection", [False, True])
def test_scores_are_those_of_the_layers_written_out(projection):
    model, x = DeepMIL(projection, hidden=(6, 4)), draw(2, 3, 5, 8)
    params = model.init(jax.random.key(0), x, train=False)["params"]
    out = model.apply({"params": params}, x, train=False)

    def dense(name, x):
        return x @ params[name]["kernel"] + params[name]["bias"]

    y = dense("projection", x) if projection else x
    y = dense("logit", dense("dense2", jnp.maximum(dense("dense1", y), 0.0)))[..., 0]
    np.testing.assert_allclose(out["crop_scores"], 1 / (1 + jnp.exp(-y)), rtol=1e-5)
    np.testing.assert_allclose(out["scores"], jnp.mean(out["crop_scores"], 1), rtol=1e-6)


def test_sizes_and_initialisation_of_the_original():
    init = partial(DeepMIL().init, train=False)
    params = init(jax.random.key(0), jnp.zeros((1, 1, 2, 4096)))["params"]
    assert sum(x.size for x in jax.tree.leaves(params)) == 4096 * 512 + 512 + 512 * 32 + 32 + 33
    std = np.sqrt(2 / (4096 + 512))  # Glorot normal.
    np.testing.assert_allclose(np.std(params["dense1"]["kernel"]), std, rtol=0.01)
    assert np.max(np.abs(params["dense1"]["kernel"])) > np.sqrt(6 / (4096 + 512))  # Not uniform.


def test_dropout_acts_while_training_only():
    model, x = DeepMIL(hidden=(64, 4)), draw(2, 3, 5, 8)
    params = model.init(jax.random.key(0), x, train=False)["params"]
    rngs = {"dropout": jax.random.key(1)}
    trained = model.apply({"params": params}, x, train=True, rngs=rngs)["scores"]
    assert (trained != model.apply({"params": params}, x, train=False)["scores"]).all()


def test_16_bit_computation_gives_float32_scores():
    model, x = DeepMIL(hidden=(6, 4), dtype=jnp.bfloat16), draw(2, 3, 5, 8)
    variables = model.init(jax.random.key(0), x, train=False)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert model.apply(variables, x, train=False)["scores"].dtype == jnp.float32


def test_shape_error():
    with pytest.raises(ValueError, match=r"features: expected \[B, N, T, D\], got \(2, 8\)"):
        DeepMIL().init(jax.random.key(0), draw(2, 8), train=False)
