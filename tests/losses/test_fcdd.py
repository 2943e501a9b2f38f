import contextlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors

from jaxad.losses import fcdd, prototypes

PRECISIONS = {
    "float32": (contextlib.nullcontext, jnp.float32, 2e-6),
    "float64": (partial(jax.enable_x64, True), jnp.float64, 1e-12),
}
LOSS_AND_GRADIENT = jax.jit(jax.value_and_grad(fcdd.fcdd))
BATCH_MEAN = jax.jit(jax.value_and_grad(fcdd.batch_mean_released))
TERMS = jax.jit(fcdd.image_terms)


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", ["c0/", "c1/", "c2/"])
def test_golden_loss(case, precision):
    context, dtype, share = PRECISIONS[precision]
    golden = vectors.part(vectors.load("aux_prototypes", "fcdd_loss"), case)
    normal = golden["e_in"].shape[0]
    with context():
        outputs = jnp.asarray(np.concatenate([golden["e_in"], golden["e_out"]]), dtype)
        labels = jnp.arange(outputs.shape[0]) >= normal
        valid = jnp.ones(labels.shape, bool)
        maps = fcdd.pseudo_huber(outputs)
        scores = prototypes.image_sum(maps)
        terms = TERMS(outputs, labels)
        value, gradient = LOSS_AND_GRADIENT(outputs, labels, valid)
        batch_mean, _ = BATCH_MEAN(outputs, labels, valid)
    for i, suffix in enumerate(("in", "out")):
        own = slice(normal) if i == 0 else slice(normal, None)
        # The vectors are rounded where their own square root cancels: by 1e-13 of the largest.
        vectors.assert_close(maps[own], golden[f"F_{suffix}"], rtol=share, atol=1e-13)
        vectors.assert_close(scores[own], golden[f"score_{suffix}_L1"], rtol=share, atol=1e-13)
        vectors.assert_close(terms[own], golden[f"per_{suffix}"], rtol=share, atol=1e-13)
        vectors.assert_close(gradient[own], golden[f"g_e_{suffix}"], rtol=5 * share, atol=share)
    np.testing.assert_allclose(value, golden["loss_eq3"], rtol=share)
    np.testing.assert_allclose(batch_mean, golden["loss_batch_mean"], rtol=share)


def reference_net():
    return vectors.load("aux_prototypes", "fcdd_reference_net")


def test_golden_released_network_loss():
    golden = reference_net()
    labels = jnp.asarray(golden["labels"])
    value, gradient = BATCH_MEAN(jnp.asarray(golden["out_train"][:, 0]), labels, labels >= 0)
    np.testing.assert_allclose(value, golden["loss_train"], rtol=1e-6)
    vectors.assert_close(gradient, golden["g_out_train"][:, 0], rtol=1e-5)


def upsample(golden, score_map):
    _, stride, field, start = golden["reception_n_j_r_s"]
    options = dict(stride=int(stride), field=int(field), start=float(start))
    return fcdd.receptive_upsample(score_map, (28, 28), std=float(golden["gauss_std"]), **options)


def test_golden_released_network_scores_and_upsampling():
    golden = reference_net()
    maps = fcdd.pseudo_huber(jnp.asarray(golden["out_eval"][:, 0]))
    vectors.assert_close(maps, golden["anomaly_map_eval"][:, 0], rtol=1e-5)
    vectors.assert_close(prototypes.image_mean(maps), golden["score_eval_mean"], rtol=1e-6)
    vectors.assert_close(upsample(golden, maps), golden["upsampled_eval"][:, 0], rtol=1e-5)


def test_golden_released_pixel_loss():
    golden = reference_net()
    masks = jnp.asarray(golden["gtmap"][:, 0])

    @jax.jit
    @jax.value_and_grad
    def run(outputs):
        maps = upsample(golden, fcdd.pseudo_huber(outputs))
        return jnp.mean(fcdd.pixel_terms_released(maps, masks))

    value, gradient = run(jnp.asarray(golden["out_train"][:, 0]))
    np.testing.assert_allclose(value, golden["loss_gtmap"], rtol=1e-6)
    vectors.assert_close(gradient, golden["g_out_gtmap"][:, 0], rtol=1e-5)


def test_an_entry_is_spread_over_its_receptive_field():
    maps = jnp.zeros((1, 3, 4)).at[0, 1, 2].set(2.0)
    actual = fcdd.receptive_upsample(maps, (9, 12), stride=3, field=5, start=1.0, std=1.5)
    assert actual.shape == (1, 9, 12)
    # The field of entry (1, 2) has its center at 1 + 3 (1, 2) = (4, 7), where the weight is 1.
    rows, columns = np.mgrid[:9, :12]
    inside = (abs(rows - 4) <= 2) & (abs(columns - 7) <= 2)
    expected = 2 * np.exp(-((rows - 4) ** 2 + (columns - 7) ** 2) / (2 * 1.5**2)) * inside
    np.testing.assert_allclose(actual[0], expected, rtol=1e-5)


def test_closed_form_of_the_map():
    # e = 3/4: sqrt(25/16) - 1 = 1/4; for small e it is e^2 / 2; for large e, |e| - 1.
    actual = fcdd.pseudo_huber(jnp.array([0.0, -0.75, 1e-5, 1e6]))
    np.testing.assert_allclose(actual, [0.0, 0.25, 0.5e-10, 1e6 - 1], rtol=1e-6)


def test_one_pixel_by_hand():
    # F = 1/4: a normal image costs it, an outlier -log(1 - exp(-1/4)).
    terms = TERMS(jnp.full((2, 1, 1), 0.75), jnp.array([0, 1]))
    np.testing.assert_allclose(terms, [0.25, -np.log(1 - np.exp(-0.25))], rtol=1e-6)


def test_equal_halves_make_the_batch_mean_half_of_the_sum_of_means():
    outputs, labels = draw(4, 3, 3), jnp.array([0, 1, 1, 0])
    (loss, gradient), (mean, of_mean) = (
        f(outputs, labels, labels >= 0) for f in (LOSS_AND_GRADIENT, BATCH_MEAN)
    )
    np.testing.assert_allclose(mean, loss / 2, rtol=1e-6)
    np.testing.assert_allclose(of_mean, gradient / 2, rtol=1e-5)


@pytest.mark.parametrize("run", [LOSS_AND_GRADIENT, BATCH_MEAN])
def test_outliers_alone_are_pushed_away(run):
    labels = jnp.ones(3, int)
    outputs = draw(3, 2, 2)
    _, gradient = run(outputs, labels, labels > 0)
    assert np.all(gradient * outputs < 0)  # Descent makes every output larger.


def test_zero_maps_have_a_finite_loss_and_zero_gradient():
    outputs, labels = jnp.zeros((2, 2, 2)), jnp.array([0, 1])
    value, gradient = LOSS_AND_GRADIENT(outputs, labels, labels >= 0)
    np.testing.assert_allclose(value, -np.log(1e-31), rtol=1e-6)  # As the released code has it.
    np.testing.assert_array_equal(gradient, 0.0)


def test_padding_may_hold_nan():
    outputs, labels = draw(4, 2, 3), jnp.array([0, 1, 1, 0])
    valid = jnp.array([True, True, True, False])
    where = jnp.ones((4, 2, 3), bool).at[1, 0].set(False)
    spoilt = jnp.where(where & valid[:, None, None], outputs, jnp.nan)
    value, gradient = jax.jit(jax.value_and_grad(partial(fcdd.fcdd, where=where)))(
        spoilt, labels, valid
    )
    np.testing.assert_array_equal(gradient[3], 0.0)
    assert np.isfinite(gradient).all()
    cropped = [outputs[i, 1:] if i == 1 else outputs[i] for i in range(3)]
    terms = [TERMS(x[None], labels[i : i + 1])[0] for i, x in enumerate(cropped)]
    np.testing.assert_allclose(value, terms[0] + (terms[1] + terms[2]) / 2, rtol=1e-6)


def test_pixel_terms_by_hand():
    # Four pixels: F g sums to 2, F (1 - g) to 1. The second image has no anomalous pixel.
    maps = jnp.array([[[2.0, 0.5], [0.5, 0.0]], [[1.0, 1.0], [1.0, 1.0]]])
    masks = jnp.array([[[1, 0], [0, 0]], [[0, 0], [0, 0]]])
    expected = [0.25 - np.log(1 - np.exp(-0.5)), 1.0]
    np.testing.assert_allclose(fcdd.pixel_terms_released(maps, masks), expected, rtol=1e-6)
