import contextlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors

from jaxad.losses import reconstruction

PRECISIONS = {  # Context, type, tolerance of float64 golden vectors.
    "float32": (contextlib.nullcontext, jnp.float32, 2e-5),
    "float64": (partial(jax.enable_x64, True), jnp.float64, 1e-9),
}
every_precision = pytest.mark.parametrize("precision", PRECISIONS)
RNG = np.random.default_rng(0)
IMAGES, OTHERS = jnp.asarray(RNG.normal(size=(2, 3, 4, 2, 3)), jnp.float32)
LATENTS, OTHER_LATENTS = jnp.asarray(RNG.normal(size=(2, 3, 5)), jnp.float32)
PER_IMAGE = [
    reconstruction.squared_error_sum,
    reconstruction.squared_error_mean,
    reconstruction.error_norm,
]
MAPS = [
    reconstruction.squared_error_map,
    reconstruction.absolute_error_map,
    reconstruction.error_norm_map,
]


@every_precision
def test_adgan_scores_golden(precision):
    context, dtype, tolerance = PRECISIONS[precision]
    golden = vectors.part(vectors.load("adgan", "losses"), "score/")
    close = partial(vectors.assert_close, rtol=tolerance, atol=tolerance)
    with context():
        pair = [jnp.asarray(golden[k], dtype) for k in ("image", "reconstruction")]
        close(reconstruction.squared_error_sum(*pair), golden["sum"])
        close(reconstruction.squared_error_mean(*pair), golden["mean"])
        close(reconstruction.squared_error_map(*pair), golden["map"])
    assert golden["sum"][0] == 0.0  # A perfect reconstruction.


@every_precision
def test_cycle_golden(precision):
    context, dtype, tolerance = PRECISIONS[precision]
    golden = vectors.part(vectors.load("adgan", "losses"), "moderate/")
    close = partial(vectors.assert_close, rtol=tolerance, atol=tolerance)
    with context():
        z, z_hat = (jnp.asarray(golden[k], dtype) for k in ("z", "z_hat"))
        beta = jnp.asarray(golden["beta"], dtype)

        @jax.value_and_grad
        def cycle(z_hat):
            return beta * jnp.mean(reconstruction.squared_error_sum(z, z_hat))

        value, gradient = cycle(z_hat)
        close(value, golden["cycle"])
        close(gradient, golden["grad_cycle_z_hat"])
        mean = beta * jnp.mean(reconstruction.squared_error_mean(z, z_hat))
        close(mean, golden["cycle_mean"])


@every_precision
def test_vae_golden(precision):
    context, dtype, tolerance = PRECISIONS[precision]
    golden = vectors.part(vectors.load("adgan", "baselines"), "vae/")
    close = partial(vectors.assert_close, rtol=tolerance, atol=tolerance)
    with context():
        mean, log_variance, image, decoded = (
            jnp.asarray(golden[k], dtype)
            for k in ("mean", "log_variance", "image", "reconstruction")
        )
        kl = jax.jit(reconstruction.gaussian_kl)(mean, log_variance)
        error = reconstruction.squared_error_sum(image, decoded)
        close(kl, golden["kl"])
        close(error, golden["reconstruction_error"])
        close(jnp.mean(error + kl), golden["loss"])
        mean_kl = jax.jit(jax.grad(lambda *a: jnp.mean(reconstruction.gaussian_kl(*a)), (0, 1)))
        gradients = mean_kl(mean, log_variance)
        close(gradients[0], golden["grad_mean"])
        close(gradients[1], golden["grad_log_variance"])


@every_precision
def test_f_anogan_baselines_golden(precision):
    context, dtype, tolerance = PRECISIONS[precision]
    golden = vectors.part(vectors.load("adgan", "baselines"), "f_anogan/")
    close = partial(vectors.assert_close, rtol=tolerance, atol=tolerance)
    with context():
        x, x_hat, phi, phi_hat, z, z_encoded = (
            jnp.asarray(golden[k], dtype)
            for k in (
                "image",
                "reconstruction",
                "features_image",
                "features_reconstruction",
                "z",
                "z_encoded",
            )
        )
        izif = reconstruction.image_and_feature_error(x, x_hat, phi, phi_hat)
        close(reconstruction.squared_error_mean(x, x_hat), golden["izi_score"])
        close(izif, golden["izif_score"])
        close(jnp.mean(izif), golden["izif_loss"])
        close(jnp.mean(reconstruction.squared_error_mean(x, x_hat)), golden["izi_loss"])
        close(jnp.mean(reconstruction.squared_error_mean(z, z_encoded)), golden["ziz_loss"])


def test_f_anogan_golden():
    golden = vectors.load("f_anogan", "losses")
    x, x_hat = golden["real"], golden["reconstruction"]
    phi, phi_hat = golden["features_real"], golden["features_reconstruction"]
    z, z_hat = golden["z"], golden["z_of_reconstruction"]
    close = partial(vectors.assert_close, rtol=1e-5)
    mean = reconstruction.squared_error_mean
    close(jnp.mean(mean(x, x_hat)), golden["izi"])
    close(jnp.mean(mean(z, z_hat)), golden["ziz"])
    close(jnp.mean(mean(phi, phi_hat)), golden["feature_residual"])
    close(mean(z, z_hat), golden["score_z_distance"])
    for kappa in (1.0, 0.5):
        thesis = reconstruction.image_and_latent_norm(x, x_hat, z, z_hat, kappa=kappa)
        original = reconstruction.image_and_feature_error(x, x_hat, phi, phi_hat, kappa=kappa)
        close(thesis, golden[f"score_thesis_kappa{kappa}"])
        close(original, golden[f"score_original_kappa{kappa}"])
    close(reconstruction.error_norm_map(x, x_hat), golden["pixel_map_thesis"])
    close(reconstruction.absolute_error_map(x, x_hat), golden["pixel_map_absolute_mean"])


def test_izif_gradient_golden():
    # The gradient also flows through the critic's features: tanh of a linear layer.
    golden = vectors.load("f_anogan", "losses")
    weight, bias = golden["toy_critic/a.weight"], golden["toy_critic/a.bias"]

    def features(x):
        return jnp.tanh(jnp.moveaxis(x, -1, 1).reshape(len(x), -1) @ weight.T + bias)

    @jax.value_and_grad
    def izif(x_hat):
        x = golden["real"]
        return jnp.mean(
            reconstruction.image_and_feature_error(x, x_hat, features(x), features(x_hat))
        )

    value, gradient = izif(jnp.asarray(golden["reconstruction"]))
    vectors.assert_close(value, golden["izif_kappa1"], rtol=1e-5)
    vectors.assert_close(gradient, golden["izif_kappa1_grad_reconstruction"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("function", PER_IMAGE + MAPS)
def test_a_perfect_reconstruction_scores_zero_with_zero_gradient(function):
    value, gradient = jax.value_and_grad(lambda x: jnp.sum(function(IMAGES, x)))(IMAGES)
    assert value == 0.0
    np.testing.assert_array_equal(gradient, 0.0)


def test_per_image_errors_agree():
    total, mean, norm = (function(IMAGES, OTHERS) for function in PER_IMAGE)
    assert total.shape == (3,)
    np.testing.assert_allclose(mean, total / 24, rtol=1e-6)
    np.testing.assert_allclose(norm, jnp.sqrt(total), rtol=1e-6)


def test_maps_add_up_to_the_scores():
    squares, absolute, norms = (function(IMAGES, OTHERS) for function in MAPS)
    total = reconstruction.squared_error_sum(IMAGES, OTHERS)
    assert squares.shape == absolute.shape == norms.shape == (3, 4, 2)
    np.testing.assert_allclose(3 * squares.sum((1, 2)), total, rtol=1e-5)
    np.testing.assert_allclose(jnp.square(norms).sum((1, 2)), total, rtol=1e-5)
    np.testing.assert_allclose(absolute, jnp.abs(IMAGES - OTHERS).mean(-1), rtol=1e-6)


def test_kappa_weighs_the_second_residual_alone():
    given = IMAGES, OTHERS, LATENTS, OTHER_LATENTS
    for function, single in (
        (reconstruction.image_and_feature_error, reconstruction.squared_error_mean),
        (reconstruction.image_and_latent_norm, reconstruction.error_norm),
    ):
        first, second = single(IMAGES, OTHERS), single(LATENTS, OTHER_LATENTS)
        np.testing.assert_allclose(function(*given, kappa=0.0), first, rtol=1e-6)
        np.testing.assert_allclose(function(*given, kappa=3.0), first + 3 * second, rtol=1e-6)


def test_gaussian_kl_in_closed_form():
    # m = 2, s² = 1: m² / 2. m = 0, s² = 4: (4 - 1 - log 4) / 2. Standard: 0, as a minimum.
    mean = jnp.array([[2.0], [0.0], [0.0]])
    log_variance = jnp.log(jnp.array([[1.0], [4.0], [1.0]]))
    actual = reconstruction.gaussian_kl(mean, log_variance)
    np.testing.assert_allclose(actual, [2.0, (3.0 - np.log(4.0)) / 2, 0.0], rtol=1e-6)
    assert (reconstruction.gaussian_kl(LATENTS, OTHER_LATENTS) > 0).all()


def test_gaussian_kl_near_the_prior_keeps_its_digits():
    # (e^v - 1 - v) / 2 = v² / 4 + ..., lost where e^v - 1 is taken as a difference.
    actual = reconstruction.gaussian_kl(jnp.zeros((1, 1)), jnp.full((1, 1), 1e-2))
    np.testing.assert_allclose(actual, [(np.expm1(1e-2) - 1e-2) / 2], rtol=1e-4)


def test_huge_variances_are_pushed_down():
    gradient = jax.grad(lambda v: reconstruction.gaussian_kl(jnp.zeros((1, 1)), v)[0])
    assert 1.0 < gradient(jnp.full((1, 1), 1e4))[0, 0] < np.inf
