"""`jaxad.losses.pebal`: whole objectives against the document's equations and the release."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors

from jaxad.losses import abstention, energy, pebal

CASES = ["mixed", "no_outlier", "small_penalty", "large_logits"]
TERMS = dict(
    inlier_abstention="pal_in",
    outlier_abstention="pal_out",
    inlier_margin="ebm_in",
    outlier_margin="ebm_out",
    smoothness="smooth",
    sparsity="sparse",
)


def golden(case):
    arrays = vectors.part(vectors.load("pebal", "losses"), f"{case}/")
    logits = jnp.moveaxis(arrays["logits"], 1, -1)
    return arrays, (logits, arrays["target"], arrays["target"] < 19, arrays["target"] == 254)


def differentiated(function, **options):
    def run(logits, labels, inlier, outlier):
        terms = function(logits, labels, inlier, outlier, **options)
        return terms.total, terms

    return jax.jit(jax.value_and_grad(run, has_aux=True))


MEAN, RELEASED = differentiated(pebal.pebal), differentiated(pebal.pebal_released)


@pytest.mark.parametrize("case", CASES)
def test_document_means_and_their_gradient_in_float64(case):
    with jax.enable_x64(True):
        arrays, (logits, *rest) = golden(case)
        (total, terms), gradient = MEAN(logits.astype(jnp.float64), *rest)
        for ours, theirs in TERMS.items():
            vectors.assert_close(getattr(terms, ours), arrays[f"paper/mean_{theirs}"], rtol=1e-6)
        vectors.assert_close(total, arrays["paper/total_mean"], rtol=1e-6)
        gradient = jnp.moveaxis(gradient, -1, 1)
        vectors.assert_close(gradient, arrays["paper/grad_total_mean"], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_document_means_and_their_gradient_in_float32(case):
    arrays, given = golden(case)
    (total, _), gradient = MEAN(*given)
    vectors.assert_close(total, arrays["paper/total_mean"], rtol=1e-5)
    gradient = jnp.moveaxis(gradient, -1, 1)
    vectors.assert_close(gradient, arrays["paper/grad_total_mean"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_document_sums(case):
    with jax.enable_x64(True):
        arrays, (logits, *rest) = golden(case)
        terms = jax.jit(pebal.pebal_sum)(logits.astype(jnp.float64), *rest)
        for ours, theirs in TERMS.items():
            vectors.assert_close(getattr(terms, ours), arrays[f"paper/sum_{theirs}"], rtol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_released_terms_and_gradient(case):
    arrays, given = golden(case)
    (total, terms), gradient = RELEASED(*given)
    tolerance = 1e-4 if case == "large_logits" else 1e-5
    released = vectors.part(arrays, "released/")
    of_energy = terms.margins + 3e-6 * terms.smoothness + 5e-4 * terms.sparsity
    vectors.assert_close(of_energy, released["energy_loss"], rtol=tolerance)
    # An image set that is empty is NaN or absent in the release; it costs nothing here.
    expected = [np.nan_to_num(released["gambler_inlier_images"])]
    expected.append(released.get("gambler_outlier_images", np.float32(0.0)))
    vectors.assert_close(terms.clean_images, expected[0], rtol=tolerance)
    vectors.assert_close(terms.mixed_images, expected[1], rtol=tolerance)
    vectors.assert_close(total, released["total"], rtol=tolerance)
    gradient = jnp.moveaxis(gradient, -1, 1)
    vectors.assert_close(gradient, released["grad_total"], rtol=0, atol=tolerance)


@pytest.mark.parametrize("case", CASES)
def test_released_penalty_is_smoothed(case):
    arrays, (logits, *_) = golden(case)
    e = energy.free_energy(logits[..., :-1])
    smoothed = energy.gaussian_smoothing(abstention.energy_penalty(e))
    vectors.assert_close(smoothed, arrays["released/penalty_blurred"], rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("function", [pebal.pebal, pebal.pebal_sum, pebal.pebal_released])
def test_a_penalty_of_the_caller_replaces_the_default(function):
    _, (logits, *rest) = golden("mixed")
    e = energy.free_energy(logits[..., :-1])
    penalty = abstention.energy_penalty(e)
    if function is pebal.pebal_released:
        penalty = energy.gaussian_smoothing(penalty)
    default = jax.jit(function)(logits, *rest)
    given = jax.jit(function)(logits, *rest, penalty=jax.lax.stop_gradient(penalty))
    np.testing.assert_allclose(given.total, default.total, rtol=1e-6)


def test_a_stopped_penalty_changes_the_gradient_by_its_own_part_alone():
    _, (logits, *rest) = golden("mixed")

    def total(logits, penalised):
        penalty = abstention.energy_penalty(energy.free_energy(penalised[..., :-1]))
        return pebal.pebal(logits, *rest, penalty=penalty).total

    stopped, through = jax.jit(jax.grad(total, (0, 1)))(logits, logits)
    whole = MEAN(logits, *rest)[1]
    assert np.abs(through).max() > 1e-5
    np.testing.assert_allclose(stopped + through, whole, atol=1e-6)


@pytest.mark.parametrize("run", [MEAN, RELEASED])
def test_batch_of_void_alone_has_no_label_loss(run):
    _, (logits, labels, *_) = golden("mixed")
    none = np.zeros(labels.shape, bool)
    (total, terms), gradient = run(logits, labels, none, none)
    regularised = (
        5e-4 * terms.smoothness + 3e-6 * terms.sparsity
        if run is MEAN
        else 0.1 * 3e-6 * terms.smoothness
    )
    np.testing.assert_allclose(total, regularised, rtol=1e-6)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("run", [MEAN, RELEASED])
def test_saturated_logits_give_finite_gradients(run):
    _, (logits, *rest) = golden("mixed")
    (total, _), gradient = run(1e4 * jnp.sign(logits), *rest)
    assert np.isfinite(total)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("function", [pebal.pebal, pebal.pebal_sum, pebal.pebal_released])
def test_padded_rows_change_nothing(function):
    _, (logits, labels, inlier, outlier) = golden("mixed")
    padded = [
        jnp.concatenate([x, jnp.full_like(x[:2], fill)])
        for x, fill in [(logits, jnp.nan), (labels, 255), (inlier, True), (outlier, True)]
    ]

    @jax.jit
    @jax.value_and_grad
    def run(logits, *rest, valid):
        return function(logits, *rest, valid=valid).total

    actual, gradient = run(*padded, valid=jnp.array([1, 1, 1, 0, 0]))
    expected = jax.jit(function)(logits, labels, inlier, outlier).total
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    np.testing.assert_array_equal(gradient[3:], 0.0)


def test_repeating_the_batch_leaves_the_means():
    _, given = golden("mixed")
    once, twice = MEAN(*given), MEAN(*(jnp.concatenate([x, x]) for x in given))
    for a, b in zip(once[0][1], twice[0][1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_released_groups_weigh_their_images_apart():
    # Without the grouping, the mean over all inliers would weigh the images by their pixels.
    logits = np.random.default_rng(0).normal(size=(2, 4, 5, 4)).astype(np.float32)
    labels = np.zeros((2, 4, 5), int)
    outlier = np.zeros((2, 4, 5), bool)
    outlier[1, :2] = True
    penalty = jnp.full((2, 4, 5), 2.0)
    run = jax.jit(pebal.pebal_released)
    terms = run(logits, labels, ~outlier, outlier, penalty=penalty)
    each = abstention.abstention_loss(logits, labels, penalty)
    suppressed = abstention.class_suppression_released(logits, penalty)
    np.testing.assert_allclose(terms.clean_images, jnp.mean(each[0]), rtol=1e-5)
    expected = jnp.mean(each[1, 2:]) + 0.1 * jnp.mean(suppressed[1, :2])
    np.testing.assert_allclose(terms.mixed_images, expected, rtol=1e-5)


def test_a_pixel_in_both_masks_is_an_outlier():
    _, (logits, labels, inlier, outlier) = golden("mixed")
    apart = MEAN(logits, labels, inlier, outlier)[0][0]
    both = MEAN(logits, labels, inlier | outlier, outlier)[0][0]
    assert apart == both
