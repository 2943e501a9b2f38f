from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors

from jaxad.losses import cross_entropy, inclusion, inclusion_exposure, prototypes

INLIERS = jax.jit(inclusion_exposure.inlier_terms, static_argnums=1)
OUTLIERS = jax.jit(inclusion_exposure.outlier_terms, static_argnums=1)
MEAN_LOGS = jax.jit(inclusion_exposure.inlier_terms_mean_log, static_argnums=1)
EXPOSURE = jax.jit(inclusion_exposure.outlier_exposure, static_argnums=3)
EXPOSURE_AND_SLOPES = jax.jit(
    jax.value_and_grad(inclusion_exposure.outlier_exposure), static_argnums=3
)


def draw(*shape, seed=0):
    """Distances around N = 4."""
    return jnp.asarray(np.random.default_rng(seed).uniform(0.5, 9.0, shape), jnp.float32)


def head(parameters, features, activation):
    outputs = features @ parameters["W"] + parameters["b"]
    return jax.nn.relu(outputs) if activation == "relu" else outputs


@pytest.mark.parametrize("case", ["c0/", "c1/", "c2/", "c3/"])
def test_golden_terms_and_gradients(case):
    golden = vectors.part(vectors.load("aux_prototypes", "outlier_exposure"), case)
    dimension, activation = golden["mu"].shape[1], str(golden["activation"])
    labels = jnp.asarray(golden["labels"])
    parameters = {name: jnp.asarray(golden[name]) for name in ("W", "b", "mu", "log_var")}

    @jax.jit
    @partial(jax.value_and_grad, argnums=(0, 1, 2), has_aux=True)
    def run(parameters, shift, shift_out):
        def distances(features, shift):
            embedded = head(parameters, features, activation) + shift
            return prototypes.squared_mahalanobis(embedded, parameters["mu"], parameters["log_var"])

        own = prototypes.label_distances(distances(golden["f_in"], shift), labels)
        nearest, _ = prototypes.nearest_prototype(distances(golden["f_out"], shift_out))
        inliers = inclusion_exposure.inlier_terms(own, dimension)
        outliers = inclusion_exposure.outlier_terms(nearest, dimension)
        both, kinds = (
            jnp.concatenate([own, nearest]),
            jnp.repeat(
                jnp.arange(2),
                jnp.array([own.shape[0], nearest.shape[0]]),
                total_repeat_length=own.shape[0] + nearest.shape[0],
            ),
        )
        loss = inclusion_exposure.outlier_exposure(both, kinds, kinds >= 0, dimension)
        mean_logs = inclusion_exposure.inlier_terms_mean_log(own, dimension)
        return loss, (own, nearest, inliers, outliers, mean_logs)

    zeros = [jnp.zeros(golden[name].shape) for name in ("r", "r_out")]
    (loss, terms), (gradient, *of_features) = run(parameters, *zeros)
    names = ("A_gt", "A_out", "term_in", "term_out", "term_in_mean_log")
    for name, value in zip(names, terms, strict=True):
        vectors.assert_close(value, golden[name], rtol=2e-5)
    np.testing.assert_allclose(loss, golden["loss"], rtol=2e-5)
    for name, value in [
        *((f"g_{n}", g) for n, g in gradient.items()),
        *zip(("g_r", "g_r_out"), of_features, strict=True),
    ]:
        expected = np.where(np.abs(golden[name]) > 1e-30, golden[name], 0.0)  # 1e-86 in case 2.
        vectors.assert_close(value, expected, rtol=2e-3, atol=2e-5)


def test_golden_total_loss():
    golden = vectors.load("aux_prototypes", "total_loss")
    dimension, weight = int(golden["N"]), float(golden["lam"])
    kinds = jnp.array([0, 0, 1, 1])

    @jax.jit
    @jax.value_and_grad
    def run(distances):
        exposure = inclusion_exposure.outlier_exposure(distances, kinds, kinds >= 0, dimension)
        return (
            cross_entropy.mean_cross_entropy(golden["logits"], golden["labels"]) + weight * exposure
        )

    value, gradient = run(jnp.concatenate([golden["A_gt"], golden["A_out"]]))
    np.testing.assert_allclose(value, golden["total"], rtol=1e-6)
    vectors.assert_close(gradient[:2], golden["g_A_gt"], rtol=1e-4)
    vectors.assert_close(gradient[2:], golden["g_A_out"], rtol=1e-4)
    exposure = EXPOSURE(jnp.concatenate([golden["A_gt"], golden["A_out"]]), kinds, kinds >= 0, 256)
    np.testing.assert_allclose(exposure, golden["out_loss"], rtol=1e-5)


def test_hand_example_of_one_pixel():
    # N = 2, D = 1: P_I = exp(-1/2), so an inlier costs 1/2, an outlier -log(1 - 0.60653).
    distances = jnp.ones((1, 1, 1))
    np.testing.assert_allclose(INLIERS(distances, 2), [0.5], rtol=1e-6)
    np.testing.assert_allclose(OUTLIERS(distances, 2), [0.93275], rtol=1e-5)


def test_the_logarithm_is_outside_the_mean():
    # N = 2, D = 2 log 2 and 2 log 3: P_I = 1/2 and 1/3, of mean 5/12.
    distances = 2 * jnp.log(jnp.array([[[2.0, 3.0]]]))
    np.testing.assert_allclose(INLIERS(distances, 2), [-np.log(5 / 12)], rtol=1e-6)
    np.testing.assert_allclose(OUTLIERS(distances, 2), [-np.log(7 / 12)], rtol=1e-6)
    np.testing.assert_allclose(MEAN_LOGS(distances, 2), [np.log(6.0) / 2], rtol=1e-6)


def test_terms_where_probabilities_underflow():
    # N = 256: log(1 - P_I) at D = 140 is -21.826 while float32 has 1 - P_I = 0 there; the slope
    # per pixel is -0.4225 over the number of pixels.
    distances = jnp.full((1, 14, 14), 140.0)
    value, gradient = jax.jit(
        jax.value_and_grad(lambda d: jnp.sum(inclusion_exposure.outlier_terms(d, 256)))
    )(distances)
    np.testing.assert_allclose(value, 21.826, rtol=1e-4)
    np.testing.assert_allclose(jnp.sum(gradient), -0.4225, rtol=1e-3)


@pytest.mark.parametrize("distance", [0.0, 256.0, 1e6, 256e6])
def test_loss_and_gradient_are_finite(distance):
    distances, kinds = jnp.full((2, 2, 3), distance), jnp.array([0, 1])
    value, gradient = EXPOSURE_AND_SLOPES(distances, kinds, kinds >= 0, 256)
    assert np.isfinite(value)
    assert value >= 0
    assert np.isfinite(gradient).all()


def test_gradient_pulls_normal_pixels_in_and_pushes_outliers_out():
    kinds = jnp.array([0, 1, 0])
    _, gradient = EXPOSURE_AND_SLOPES(draw(3, 2, 4), kinds, kinds >= 0, 4)
    assert np.all(gradient[kinds == 0] > 0)
    assert np.all(gradient[kinds == 1] < 0)


def test_mean_of_logarithms_is_at_least_the_logarithm_of_the_mean():
    distances = draw(5, 3, 3)
    assert np.all(MEAN_LOGS(distances, 4) > INLIERS(distances, 4))
    same = jnp.full((1, 3, 3), 5.0)
    np.testing.assert_allclose(MEAN_LOGS(same, 4), INLIERS(same, 4), rtol=1e-6)


def test_far_pixels_of_a_rare_class_are_pulled_in_by_the_mean_of_logarithms_alone():
    # 85 % inside, the rest at 2 N: the share of one far pixel's P_I in the sum is about 1e-18.
    distances = jnp.full((1, 10, 10), 128.0).at[0, :, 0].set(512.0)
    slope, other = (
        jax.jit(jax.grad(lambda d, f=f: jnp.sum(f(d, 256))))(distances)[0, 0, 0]
        for f in (inclusion_exposure.inlier_terms, inclusion_exposure.inlier_terms_mean_log)
    )
    assert 0 < slope < 1e-15
    np.testing.assert_allclose(other, 0.254 / 100, rtol=1e-2)


def test_kinds_are_averaged_apart():
    distances, kinds = draw(5, 2, 3), jnp.array([1, 0, 0, 1, 0])
    expected = np.mean(INLIERS(distances, 4)[kinds == 0]) + np.mean(
        OUTLIERS(distances, 4)[kinds == 1]
    )
    np.testing.assert_allclose(EXPOSURE(distances, kinds, kinds >= 0, 4), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", [0, 1])
def test_a_missing_kind_adds_nothing(kind):
    distances, kinds = draw(3, 2, 3), jnp.full(3, kind)
    terms = (INLIERS, OUTLIERS)[kind](distances, 4)
    value = EXPOSURE(distances, kinds, kinds >= 0, 4)
    np.testing.assert_allclose(value, np.mean(terms), rtol=1e-6)


def test_padding_rows_and_void_pixels_may_hold_nan():
    distances, kinds = draw(4, 2, 3), jnp.array([0, 1, 0, 1])
    valid = jnp.array([True, True, True, False])
    where = jnp.ones((4, 2, 3), bool).at[0, 0, 1].set(False)
    spoilt = jnp.where(where & valid[:, None, None], distances, jnp.nan)
    run = jax.jit(
        jax.value_and_grad(
            lambda d: inclusion_exposure.outlier_exposure(d, kinds, valid, 4, where=where)
        )
    )
    value, gradient = run(spoilt)
    expected, expected_gradient = run(distances)
    assert np.isfinite(value)
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(gradient, expected_gradient)
    np.testing.assert_array_equal(gradient[3], 0.0)


def test_an_empty_mask_gives_zero():
    where = jnp.zeros((3, 2, 3), bool)
    for terms in (INLIERS, OUTLIERS, MEAN_LOGS):
        np.testing.assert_array_equal(terms(draw(3, 2, 3), 4, where), 0.0)


def test_log_mean_exp_makes_terms_of_other_logarithms():
    distances = 256 * jnp.array([[[0.9, 1.0], [1.1, 1.05]]])
    logs = jax.jit(lambda d: inclusion.wilson_hilferty_log_inclusion(d, 256))(distances)
    cheap = -inclusion_exposure.log_mean_exp(logs)
    assert cheap.shape == (1,)
    np.testing.assert_allclose(cheap, INLIERS(distances, 256), rtol=1e-3)
