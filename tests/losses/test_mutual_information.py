import contextlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxad.losses import interpolation
from jaxad.losses import mutual_information as mi

PRECISIONS = {  # Context, type, tolerance of float64 golden vectors.
    "float32": (contextlib.nullcontext, jnp.float32, 2e-5),
    "float64": (partial(jax.enable_x64, True), jnp.float64, 1e-8),
}
every_precision = pytest.mark.parametrize("precision", PRECISIONS)
SCORES = jnp.asarray(np.random.default_rng(0).normal(size=(5, 5, 3)), jnp.float32)
ALL = jnp.ones(5, bool)
VALID = jnp.array([True, True, False, True, True])
BOUNDS = {
    "dv": mi.donsker_varadhan_pairs,
    "dv_pooled": mi.donsker_varadhan_pooled,
    "jsd": mi.jensen_shannon_pairs,
    "info_nce": mi.info_nce,
    "info_nce_released": mi.info_nce_released,
    **{m: partial(mi.fenchel_dual, measure=m) for m in ("GAN", "JSD", "KL", "RKL", "H2", "X2")},
}
BOUNDS = {name: jax.jit(bound) for name, bound in BOUNDS.items()}
every_bound = pytest.mark.parametrize("bound", BOUNDS.values(), ids=BOUNDS)


# Golden vectors


@every_precision
def test_pairs_golden(precision):
    context, dtype, tolerance = PRECISIONS[precision]
    golden = vectors.load("fsad_net", "mi_bounds")
    close = partial(vectors.assert_close, rtol=tolerance, atol=tolerance)
    with context():
        for case in ("moderate", "pair", "constant"):
            expected = vectors.part(golden, f"{case}/")
            scores = jnp.asarray(expected["scores"], dtype)
            valid = jnp.ones(len(scores), bool)
            for name, function in (
                ("dv", mi.donsker_varadhan_pairs),
                ("jsd", mi.jensen_shannon_pairs),
                ("infonce", mi.info_nce),
            ):
                if name not in expected:
                    continue
                value, gradient = jax.jit(jax.value_and_grad(function))(scores, valid)
                np.testing.assert_allclose(
                    value, expected[name], rtol=tolerance, atol=tolerance, err_msg=name
                )
                if f"grad_{name}" in expected:
                    close(gradient, expected[f"grad_{name}"])


@every_precision
def test_shifted_pairs_golden(precision):
    context, dtype, tolerance = PRECISIONS[precision]
    golden = vectors.part(vectors.load("fsad_net", "mi_bounds"), "moderate/")
    with context():
        # Rolling the images pairs embedding k with image k + 1: column k of the row after.
        images, real = interpolation.rolled_partners(jnp.asarray(golden["scores"], dtype), ALL)
        joint, marginal = jnp.diag(jnp.asarray(golden["scores"], dtype)), jnp.diag(images)
        assert real.all()
        close = partial(vectors.assert_close, rtol=tolerance, atol=tolerance)
        close(mi.donsker_varadhan(joint, marginal), golden["dv_shifted"])
        close(mi.jensen_shannon(joint, marginal), golden["jsd_shifted"])


@every_precision
def test_local_bounds_golden(precision):
    context, dtype, tolerance = PRECISIONS[precision]
    golden = vectors.part(vectors.load("fsad_net", "mi_bounds"), "local/")
    close = partial(vectors.assert_close, rtol=tolerance, atol=tolerance)
    with context():
        joint, marginal = (jnp.asarray(golden[k], dtype) for k in ("joint", "marginal"))
        close(mi.donsker_varadhan(joint, marginal), golden["dv"])
        close(mi.jensen_shannon(joint, marginal), golden["jsd"])
        pooled = mi.donsker_varadhan(joint.reshape(-1), marginal.reshape(-1))
        close(pooled, golden["dv_pooled"])
        each = [mi.donsker_varadhan(joint[:, i], marginal[:, i]) for i in range(7)]
        close(jnp.stack(each), golden["dv_per_location"])


@pytest.mark.parametrize("measure", ["JSD", "GAN", "KL", "RKL", "H2", "X2", "infonce"])
def test_dot_product_losses_are_those_of_the_release(measure):
    golden = vectors.load("fsad_net", "dim_dot_losses")

    @jax.jit
    @partial(jax.value_and_grad, argnums=(0, 1))
    def loss(local, embedding):
        scores = mi.dot_scores(local, embedding)
        if measure == "infonce":
            return mi.info_nce_released(scores, ALL)
        return mi.fenchel_dual(scores, ALL, measure=measure)

    value, gradients = loss(golden["local"], golden["embedding"])
    close = partial(vectors.assert_close, rtol=2e-4, atol=2e-5)
    close(value, golden[f"loss_{measure}"])
    for name, gradient in zip(("local", "embedding"), gradients, strict=True):
        if f"grad_{name}_{measure}" in golden:
            close(gradient, golden[f"grad_{name}_{measure}"])


def test_dot_product_donsker_varadhan_golden():
    golden = vectors.load("fsad_net", "dim_dot_losses")
    scores = mi.dot_scores(golden["local"], golden["embedding"])
    assert scores.shape == (5, 5, 7)
    close = partial(vectors.assert_close, rtol=2e-5)
    close(-mi.donsker_varadhan_pooled(scores, ALL), golden["loss_dv_pooled"])
    close(-mi.donsker_varadhan_pairs(scores, ALL), golden["loss_dv_per_location"])


# Masks


@every_bound
def test_mask_equals_indexing(bound):
    both = (VALID[:, None] & VALID)[..., None]
    rows = np.flatnonzero(VALID)
    actual = bound(jnp.where(both, SCORES, jnp.nan), VALID)
    expected = bound(SCORES[np.ix_(rows, rows)], jnp.ones(4, bool))
    assert actual.shape == ()
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@every_bound
def test_order_of_the_batch_does_not_matter(bound):
    order = np.array([3, 0, 4, 1, 2])
    shuffled = SCORES[np.ix_(order, order)]
    np.testing.assert_allclose(bound(shuffled, ALL), bound(SCORES, ALL), rtol=1e-5)


@every_bound
def test_one_image_gives_no_bound(bound):
    value, gradient = jax.jit(jax.value_and_grad(bound))(SCORES, jnp.arange(5) == 1)
    np.testing.assert_allclose(value, 0.0, atol=1e-6)
    np.testing.assert_allclose(gradient, jnp.zeros_like(gradient), atol=1e-6)


# Shifted pairs


def test_next_rows_skip_padding_and_close_the_circle():
    values = jnp.array([[0.0], [1.0], [jnp.nan], [3.0], [4.0]])
    rows, real = interpolation.rolled_partners(values, VALID)
    np.testing.assert_array_equal(rows[np.asarray(VALID), 0], [1.0, 3.0, 4.0, 0.0])
    np.testing.assert_array_equal(real, VALID)


def test_a_single_real_row_has_no_successor():
    _, real = interpolation.rolled_partners(jnp.arange(3.0), jnp.array([False, True, False]))
    assert not real.any()


@pytest.mark.parametrize("bound", [mi.donsker_varadhan, mi.jensen_shannon])
def test_rotating_the_batch_changes_no_shifted_bound(bound):
    def of(scores):
        return bound(jnp.diag(scores), jnp.diag(interpolation.rolled_partners(scores, ALL)[0]))

    scores = SCORES[..., 0]
    rotated = jnp.roll(scores, (2, 2), axis=(0, 1))
    np.testing.assert_allclose(of(rotated), of(scores), rtol=1e-5)


@pytest.mark.parametrize(
    "pairs, shifted",
    [
        (mi.donsker_varadhan_pairs, mi.donsker_varadhan),
        (mi.jensen_shannon_pairs, mi.jensen_shannon),
    ],
)
def test_of_two_images_the_shifted_pairs_are_all_pairs(pairs, shifted):
    scores = SCORES[:2, :2]
    joint = jnp.stack([scores[0, 0], scores[1, 1]])
    marginal = jnp.stack([scores[1, 0], scores[0, 1]])
    expected = pairs(scores, jnp.ones(2, bool))
    np.testing.assert_allclose(shifted(joint, marginal), expected, rtol=1e-5)


# Theorems


def test_constant_critics():
    constant = jnp.full((5, 5, 3), 0.8)
    np.testing.assert_allclose(BOUNDS["dv"](constant, ALL), 0.0, atol=1e-6)
    np.testing.assert_allclose(BOUNDS["dv_pooled"](constant, ALL), 0.0, atol=1e-6)
    np.testing.assert_allclose(BOUNDS["info_nce"](constant, ALL), -np.log(5), rtol=1e-5)
    np.testing.assert_allclose(BOUNDS["jsd"](0 * constant, ALL), -2 * np.log(2), rtol=1e-6)
    np.testing.assert_allclose(BOUNDS["JSD"](0 * constant, ALL), 0.0, atol=1e-6)


def test_donsker_varadhan_ignores_a_constant_and_its_gradient_sums_to_zero():
    value, gradient = jax.value_and_grad(BOUNDS["dv"])(SCORES, ALL)
    np.testing.assert_allclose(BOUNDS["dv"](SCORES + 500.0, ALL), value, atol=1e-4)
    diagonal = np.eye(5, dtype=bool)
    np.testing.assert_allclose(gradient[diagonal].sum(), 1.0, rtol=1e-5)
    np.testing.assert_allclose(gradient[~diagonal].sum(), -1.0, rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.1, 1.0, 30.0, 1e4]))
def test_bounds_stay_in_their_ranges(seed, size):
    scores = size * np.random.default_rng(seed).normal(size=(5, 5, 3)).astype(np.float32)
    info_nce = BOUNDS["info_nce"](scores, ALL) + np.log(5)
    assert -1e30 < info_nce <= np.log(5) + 1e-5  # A bound from N pairs cannot exceed log N.
    assert BOUNDS["jsd"](scores, ALL) <= 0
    assert BOUNDS["info_nce_released"](scores, ALL) >= 0
    bounded = 2.0 * np.tanh(scores)
    assert BOUNDS["dv"](bounded, ALL) <= 4.0 + 1e-5  # |T| <= c gives at most 2 c.


def test_one_logarithm_for_all_locations_gives_less():
    # log mean exp >= mean over locations of log mean exp, with equality for equal locations.
    assert BOUNDS["dv_pooled"](SCORES, ALL) < BOUNDS["dv"](SCORES, ALL)
    same = jnp.broadcast_to(SCORES[..., :1], SCORES.shape)
    pooled, mean = BOUNDS["dv_pooled"](same, ALL), BOUNDS["dv"](same, ALL)
    np.testing.assert_allclose(pooled, mean, rtol=1e-5)


def test_perfect_critic_reaches_log_n():
    scores = jnp.broadcast_to(100.0 * jnp.eye(5)[..., None], (5, 5, 3))
    np.testing.assert_allclose(BOUNDS["info_nce"](scores, ALL), 0.0, atol=1e-6)


def test_jsd_forms_differ_by_two_log_two():
    expected = 2 * np.log(2) + BOUNDS["jsd"](SCORES, ALL)
    np.testing.assert_allclose(-BOUNDS["JSD"](SCORES, ALL), expected, rtol=1e-5)


def test_the_two_published_forms_of_kl_differ_by_a_shift_of_the_critic():
    # E_marginal[exp T] - E_joint[T + 1], as in DIM at commit 91f46d3.
    diagonal = np.eye(5, dtype=bool)
    expected = np.exp(SCORES[~diagonal]).mean() - (SCORES[diagonal] + 1.0).mean()
    np.testing.assert_allclose(BOUNDS["KL"](SCORES + 1.0, ALL), expected, rtol=1e-5)


def test_best_critic_of_correlated_gaussians_nears_their_information():
    # log p(x, y) / (p(x) p(y)) of unit Gaussians with correlation r; information -log(1 - r²) / 2.
    r, (x, noise) = 0.8, np.random.default_rng(3).normal(size=(2, 4000))
    y = r * x + np.sqrt(1 - r * r) * noise

    def critic(x, y):
        quadratic = (r * r * (x * x + y * y) - 2 * r * x * y) / (2 * (1 - r * r))
        return jnp.asarray(-0.5 * np.log(1 - r * r) - quadratic, jnp.float32)

    truth = -0.5 * np.log(1 - r * r)
    actual = mi.donsker_varadhan(critic(x, y), critic(np.roll(x, -1), y))
    np.testing.assert_allclose(actual, truth, atol=0.06)
    golden = vectors.load("fsad_net", "mi_bounds")
    np.testing.assert_allclose(golden["gaussian/true_mi"], truth, rtol=1e-6)


@pytest.mark.parametrize(
    "bound",
    [
        mi.donsker_varadhan_pairs,
        mi.donsker_varadhan_pooled,
        mi.jensen_shannon_pairs,
        mi.info_nce,
        mi.info_nce_released,
        mi.fenchel_dual,
    ],
)
def test_all_rows_are_real_by_default(bound):
    np.testing.assert_array_equal(bound(SCORES), bound(SCORES, ALL))
