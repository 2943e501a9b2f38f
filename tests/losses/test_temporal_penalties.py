import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.losses import temporal_penalties

SCORES = jnp.array([[0.1, 0.4, 0.2, 0.9], [0.5, 0.5, 0.3, 0.7]])
ENDS = jnp.array([[1, 1, 1, 0], [0, 1, 1, 0]], bool)  # Padded behind, and at both ends.
LABELS = jnp.array([1, 1])
VALID = jnp.array([True, True])
PER_VIDEO = {
    "smoothness": temporal_penalties.smoothness,
    "sparsity": temporal_penalties.sparsity,
    "mean_smoothness": temporal_penalties.mean_smoothness,
    "mean_sparsity": temporal_penalties.mean_sparsity,
}
JOINT = {
    "smoothness_released": temporal_penalties.smoothness_released,
    "sparsity_released": temporal_penalties.sparsity_released,
}
every_per_video = pytest.mark.parametrize("penalty", PER_VIDEO.values(), ids=PER_VIDEO)
every_joint = pytest.mark.parametrize("penalty", JOINT.values(), ids=JOINT)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("smoothness", [0.09 + 0.04 + 0.49, 0.04 + 0.16]),
        ("sparsity", [1.6, 2.0]),
        ("mean_smoothness", [0.62 / 4, 0.2 / 4]),
        ("mean_sparsity", [0.4, 0.5]),
    ],
)
def test_whole_videos_by_hand(name, expected):
    values = PER_VIDEO[name](SCORES)
    assert values.shape == (2,)
    np.testing.assert_allclose(values, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("smoothness", [0.09 + 0.04, 0.04]),
        ("sparsity", [0.7, 0.8]),
        ("mean_smoothness", [0.13 / 3, 0.04 / 2]),
        ("mean_sparsity", [0.7 / 3, 0.4]),
    ],
)
def test_padded_ends_do_not_count(name, expected):
    values = PER_VIDEO[name](jnp.where(ENDS, SCORES, jnp.nan), ENDS)
    np.testing.assert_allclose(values, expected, rtol=1e-5)


@every_per_video
def test_padding_gets_no_gradient(penalty):
    padded = jnp.where(ENDS, SCORES, jnp.nan)
    gradient = jax.grad(lambda x: jnp.sum(penalty(x, ENDS)))(padded)
    assert np.all(np.isfinite(gradient))
    np.testing.assert_array_equal(gradient[~ENDS], 0.0)


@every_per_video
def test_zero_scores_of_videos_cost_nothing_and_are_left_alone(penalty):
    value, gradient = jax.value_and_grad(lambda x: jnp.sum(penalty(x)))(jnp.zeros((2, 4)))
    assert value == 0.0
    np.testing.assert_array_equal(gradient, np.zeros((2, 4)))


@every_joint
def test_zero_scores_of_a_batch_cost_nothing_and_are_left_alone(penalty):
    value, gradient = jax.value_and_grad(penalty)(jnp.zeros((2, 4)), LABELS, VALID)
    assert value == 0.0
    np.testing.assert_array_equal(gradient, np.zeros((2, 4)))


def test_released_smoothness_steps_over_padded_ends():
    # 0.1 0.4 0.2 | 0.5 0.3: the padding between the videos is cut out.
    value = temporal_penalties.smoothness_released(
        jnp.where(ENDS, SCORES, jnp.nan), LABELS, VALID, ENDS
    )
    np.testing.assert_allclose(value, 0.09 + 0.04 + 0.09 + 0.04, rtol=1e-5)


def test_released_sparsity_is_one_norm_over_all_videos():
    value = temporal_penalties.sparsity_released(
        jnp.where(ENDS, SCORES, jnp.nan), LABELS, VALID, ENDS
    )
    np.testing.assert_allclose(value, np.sqrt(0.01 + 0.16 + 0.04 + 0.25 + 0.09), rtol=1e-5)


@every_joint
def test_normal_videos_and_padded_rows_do_not_count(penalty):
    value = penalty(SCORES, jnp.array([1, 0]), VALID)
    np.testing.assert_allclose(value, penalty(SCORES[:1], LABELS[:1], VALID[:1]), rtol=1e-6)
    value = penalty(SCORES, LABELS, jnp.array([True, False]))
    np.testing.assert_allclose(value, penalty(SCORES[:1], LABELS[:1], VALID[:1]), rtol=1e-6)


@pytest.mark.parametrize("name", ["mean_smoothness", "mean_sparsity"])
def test_mean_without_a_real_snippet_is_zero(name):
    values = PER_VIDEO[name](SCORES, jnp.zeros((2, 4), bool))
    np.testing.assert_array_equal(values, [0.0, 0.0])
