from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors

from jaxad.convert import rtfm
from jaxad.errors import InputError
from jaxad.models.rtfm import RTFM


@pytest.fixture(scope="module")
def variables():
    model = RTFM("released", hidden=(8, 4))
    return jax.eval_shape(
        partial(model.init, train=False), jax.random.key(0), jnp.zeros((1, 1, 4, 32))
    )


@pytest.fixture
def state_dict():
    return vectors.part(vectors.load("rtfm", "test_scoring"), "sd/")


def test_every_array_finds_its_place(variables, state_dict):
    params, stats = rtfm.convert(state_dict, variables["params"], variables["batch_stats"])
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), {"params": params, "batch_stats": stats})
    assert shapes == jax.tree.map(lambda x: (x.shape, x.dtype), dict(variables))
    used = sum(x.size for x in jax.tree.leaves((params, stats)))
    given = {k: v for k, v in state_dict.items() if not k.endswith("num_batches_tracked")}
    assert used == sum(x.size for x in given.values())
    network = params["temporal_network"]
    np.testing.assert_array_equal(
        network["pdc2"]["kernel"][2, 5], state_dict["Aggregate.conv_2.0.weight"][:, 5, 2]
    )
    np.testing.assert_array_equal(
        network["tsa"]["query"]["kernel"][3],
        state_dict["Aggregate.non_local.theta.weight"][:, 3, 0],
    )
    np.testing.assert_array_equal(
        stats["temporal_network"]["fuse_norm"]["var"], state_dict["Aggregate.conv_5.2.running_var"]
    )


def test_all_that_does_not_fit_is_reported_at_once(variables, state_dict):
    del state_dict["fc2.bias"]
    state_dict["fc4.weight"] = np.ones((1, 1))
    state_dict["fc1.weight"] = np.ones((8, 64))
    with pytest.raises(InputError) as error:
        rtfm.convert(state_dict, variables["params"], variables["batch_stats"])
    text = str(error.value)
    assert "1 missing: fc2.bias" in text
    assert "1 unexpected: fc4.weight" in text
    assert "fc1.weight (expected (8, 32), found (8, 64))" in text
