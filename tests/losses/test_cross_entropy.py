import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import vectors

from jaxad.losses import cross_entropy

RNG = np.random.default_rng(0)
LOGITS = jnp.asarray(RNG.normal(size=(2, 3, 4)), jnp.float32)
LABELS = jnp.array([[0, 255, 3], [2, 1, 255]])
REAL = LABELS != 255


def test_two_equal_logits_cost_log_two():
    logits = jnp.array([[[0.0, 0.0], [100.0, 100.0]]])
    actual = cross_entropy.softmax_cross_entropy(logits, jnp.array([[0, 1]]))
    assert actual.shape == (1, 2)
    np.testing.assert_allclose(actual, np.log(2.0), rtol=1e-6)


def test_is_optax_where_no_pixel_is_void():
    labels = jnp.where(REAL, LABELS, 0)
    expected = optax.losses.softmax_cross_entropy_with_integer_labels(LOGITS, labels)
    actual = cross_entropy.softmax_cross_entropy(LOGITS, labels)
    assert actual.shape == (2, 3)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_a_void_pixel_may_hold_anything():
    def loss(logits):
        return cross_entropy.mean_cross_entropy(logits, LABELS, REAL)

    value, gradient = jax.jit(jax.value_and_grad(loss))(jnp.where(REAL[..., None], LOGITS, jnp.nan))
    kept = jax.nn.log_softmax(LOGITS)[np.nonzero(REAL)]
    expected = -np.mean(np.asarray(kept)[np.arange(4), LABELS[REAL]])
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_array_equal(gradient[~REAL], 0.0)
    assert np.all(np.isfinite(gradient))
    assert np.all(np.any(gradient[REAL] != 0, axis=-1))


def test_a_real_label_that_is_no_class_gives_nan_to_its_pixel_alone():
    actual = cross_entropy.softmax_cross_entropy(LOGITS, jnp.where(REAL, LABELS, -1))
    np.testing.assert_array_equal(np.isnan(actual), ~REAL)


def test_saturated_logits():
    logits = jnp.array([[1e4, -1e4]])
    run = jax.jit(jax.value_and_grad(lambda z, y: cross_entropy.mean_cross_entropy(z, y)))
    for label, expected in ((0, 0.0), (1, 2e4)):
        value, gradient = run(logits, jnp.array([label]))
        np.testing.assert_allclose(value, expected)
        assert np.isfinite(gradient).all()


def test_mean_weighs_pixels_not_images():
    logits = jnp.zeros((2, 4, 2)).at[1, 0].set(jnp.array([3.0, 0.0]))
    where = jnp.array([[True] * 4, [True, False, False, False]])
    actual = cross_entropy.mean_cross_entropy(logits, jnp.zeros((2, 4), int), where)
    expected = (4 * np.log(2.0) + np.log1p(np.exp(-3.0))) / 5  # Five pixels, one of image 1.
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_void_batch_is_zero_with_zero_gradient():
    void = jnp.zeros(LABELS.shape, bool)
    value, gradient = jax.value_and_grad(cross_entropy.mean_cross_entropy)(LOGITS, LABELS, void)
    assert value.shape == ()
    assert value == 0.0
    np.testing.assert_array_equal(gradient, 0.0)


def test_golden_segmentation_loss():
    golden = vectors.load("aux_prototypes", "total_loss")
    value, gradient = jax.jit(jax.value_and_grad(cross_entropy.mean_cross_entropy))(
        jnp.asarray(golden["logits"]), jnp.asarray(golden["labels"])
    )
    np.testing.assert_allclose(value, golden["seg_loss"], rtol=1e-6)
    # Of the total loss, in which the segmentation loss has weight 1.
    vectors.assert_close(gradient, golden["g_logits"], rtol=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.4])
def test_deep_supervision_adds_the_weighted_mean_of_the_second_logits(weight):
    second = LOGITS[..., ::-1]
    actual = cross_entropy.deeply_supervised_cross_entropy(
        LOGITS, second, LABELS, REAL, auxiliary_weight=weight
    )
    main, auxiliary = (cross_entropy.mean_cross_entropy(x, LABELS, REAL) for x in (LOGITS, second))
    np.testing.assert_allclose(actual, main + weight * auxiliary, rtol=1e-6)
