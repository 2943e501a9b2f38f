import contextlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxad.losses import cross_entropy, prototypes

PRECISIONS = {  # Context, type, share of the largest entry.
    "float32": (contextlib.nullcontext, jnp.float32, 1e-6),
    "float64": (partial(jax.enable_x64, True), jnp.float64, 1e-13),
}
COSINES = jax.jit(prototypes.cosine_similarities, static_argnames="epsilon")
both_precisions = pytest.mark.parametrize("precision", PRECISIONS)


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


# Distances


def test_hand_example():
    # N = 2, prototypes (0, 0) and (2, 0), variances 1 and 4: r = (1, 3) has 1 + 9 and (1 + 9) / 4.
    features, means = jnp.array([[1.0, 3.0]]), jnp.array([[0.0, 0.0], [2.0, 0.0]])
    log_variances = jnp.log(jnp.array([[1.0], [4.0]]))
    actual = prototypes.squared_mahalanobis(features, means, log_variances)
    assert actual.shape == (1, 2)
    np.testing.assert_allclose(actual, [[10.0, 2.5]], rtol=1e-6)
    np.testing.assert_allclose(
        jnp.exp(prototypes.log_posterior(actual))[0, 1], 1 / (1 + np.exp(-7.5)), rtol=1e-6
    )


@both_precisions
@pytest.mark.parametrize("case", ["c0/", "c1/"])
def test_golden_distances_maps_and_scores(case, precision):
    context, dtype, share = PRECISIONS[precision]
    golden = vectors.part(vectors.load("aux_prototypes", "mahalanobis"), case)

    @jax.jit
    def run(features, means, log_variances, labels):
        distances = prototypes.squared_mahalanobis(features, means, log_variances)
        nearest, classes = prototypes.nearest_prototype(distances)
        own = prototypes.label_distances(distances, labels)
        posterior = prototypes.log_posterior(distances)
        return distances, nearest, classes, own, posterior, prototypes.image_sum(nearest)

    with context():
        arrays = [jnp.asarray(golden[name], dtype) for name in ("r", "mu", "log_var")]
        actual = run(*arrays, jnp.asarray(golden["labels"]))
    for name, value in zip(("D", "A", "argmin", "A_gt"), actual, strict=False):
        vectors.assert_close(value, golden[name], rtol=0, atol=share)
    vectors.assert_close(actual[4], golden["log_posterior"], rtol=0, atol=share)
    vectors.assert_close(actual[5], golden["image_score"], rtol=0, atol=share)


def test_no_cancellation_far_from_the_origin():
    offset = 100.0
    features, means = draw(5, 16) + offset, draw(3, 16, seed=1) + offset
    actual = prototypes.squared_euclidean(features, means)
    wide = np.asarray(features, np.float64)[:, None] - np.asarray(means, np.float64)
    np.testing.assert_allclose(actual, np.sum(wide**2, -1), rtol=1e-6)
    assert np.all(prototypes.squared_euclidean(means, means) >= 0)


def test_unit_variances_give_the_euclidean_distance():
    features, means = draw(4, 5), draw(3, 5, seed=1)
    np.testing.assert_allclose(
        prototypes.squared_mahalanobis(features, means, jnp.zeros((3, 1))),
        prototypes.squared_euclidean(features, means),
        rtol=1e-6,
    )


def test_distance_is_invariant_under_a_common_scale_and_permutation():
    features, means, logs = draw(4, 5), draw(3, 5, seed=1), draw(3, 5, seed=2)
    order, factor = np.array([3, 0, 4, 1, 2]), 7.0
    moved = prototypes.squared_mahalanobis(
        factor * features[:, order], factor * means[:, order], logs[:, order] + 2 * np.log(factor)
    )
    expected = prototypes.squared_mahalanobis(features, means, logs)
    np.testing.assert_allclose(moved, expected, rtol=1e-5)


def test_nearest_is_at_most_the_distance_to_any_label():
    distances = jnp.square(draw(6, 4))
    nearest, classes = prototypes.nearest_prototype(distances)
    for label in range(4):
        own = prototypes.label_distances(distances, jnp.full(6, label))
        assert np.all(nearest <= own)
        np.testing.assert_array_equal(nearest == own, classes == label)


def test_of_equal_distances_the_first_class_alone_gets_the_gradient():
    distances = jnp.array([[2.0, 1.0, 1.0]])
    gradient = jax.grad(lambda d: jnp.sum(prototypes.nearest_prototype(d)[0]))(distances)
    np.testing.assert_array_equal(gradient, [[0.0, 1.0, 0.0]])


def test_a_class_that_is_absent_gets_no_gradient():
    features, labels = draw(2, 3, 4), jnp.array([[0, 2, 2], [0, 0, 2]])

    @jax.jit
    @jax.grad
    def gradient(means):
        distances = prototypes.squared_euclidean(features, means)
        return jnp.sum(prototypes.label_distances(distances, labels))

    actual = gradient(draw(3, 4, seed=1))
    np.testing.assert_array_equal(actual[1], 0.0)
    assert np.all(actual[0] != 0)
    assert np.all(actual[2] != 0)


def test_image_scores_of_masked_maps():
    maps = jnp.array([[[1.0, 2.0, jnp.nan]], [[4.0, 5.0, 7.0]]])
    where = jnp.array([[[True, True, False]], [[False, True, True]]])
    np.testing.assert_allclose(prototypes.image_sum(maps, where), [3.0, 12.0])
    np.testing.assert_allclose(prototypes.image_mean(maps, where), [1.5, 6.0])


# Variances from data


@both_precisions
@pytest.mark.parametrize("case", ["c0/", "c1/"])
def test_golden_variances(case, precision):
    context, dtype, share = PRECISIONS[precision]
    golden = vectors.part(vectors.load("aux_prototypes", "variance_init"), case)
    with context():
        features, means = (jnp.asarray(golden[name], dtype) for name in ("r", "mu"))
        labels = jnp.asarray(golden["labels"])
        variances = jax.jit(prototypes.data_variances)(features, means, labels)
        vectors.assert_close(variances, golden["var"], rtol=0, atol=share)
        distances = prototypes.squared_mahalanobis(features, means, jnp.log(variances)[:, None])
        own = np.asarray(prototypes.label_distances(distances, labels))
    present = [k for k in range(4) if np.any(golden["labels"] == k)]
    means_over_n = [own[golden["labels"] == k].mean() / means.shape[1] for k in present]
    np.testing.assert_allclose(means_over_n, 1.0, rtol=1e-5)
    np.testing.assert_allclose(golden["mean_A_over_N"][present], 1.0, rtol=1e-6)


def test_variances_of_void_and_of_perfect_pixels_have_a_logarithm():
    means = draw(3, 4)
    features = jnp.broadcast_to(means[0], (2, 5, 4)).at[0, 1].set(jnp.nan)
    labels = jnp.zeros((2, 5), int)
    real = jnp.ones((2, 5), bool).at[0, 1].set(False)
    run = jax.jit(prototypes.data_variances)
    variances = run(features, means, labels, real)
    expected = np.mean((np.asarray(means[0]) - np.asarray(means[1:])) ** 2, -1)  # Absent classes.
    np.testing.assert_allclose(variances, [1e-12, *expected], rtol=1e-6)
    none = run(features, means, labels, jnp.zeros((2, 5), bool))
    np.testing.assert_array_equal(none, 1.0)


# Cosine classifier


def channels_last(array):
    return jnp.asarray(np.moveaxis(array, 1, -1))


def weights(array):
    return jnp.asarray(array[:, :, 0, 0])


def test_golden_cosine_classifier_loss_and_gradients():
    golden = vectors.load("pans", "cosine_classifier")
    target = jnp.asarray(golden["target"])
    names = ("x", "x_deepsup", "w", "w_deepsup")
    inputs = {n: (channels_last if n[0] == "x" else weights)(golden[n]) for n in names}

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def run(inputs):
        logits = prototypes.cosine_logits(inputs["x"], inputs["w"])
        second = prototypes.cosine_logits(inputs["x_deepsup"], inputs["w_deepsup"])
        real = target != 255
        loss = cross_entropy.deeply_supervised_cross_entropy(logits, second, target, real)
        main = cross_entropy.mean_cross_entropy(logits, target, real)
        score = prototypes.cosine_anomaly(logits / 10.0)
        return loss, (logits, second, main, score)

    (loss, (logits, second, main, score)), gradients = run(inputs)
    vectors.assert_close(logits, channels_last(golden["logits"]), rtol=0, atol=1e-6)
    vectors.assert_close(second, channels_last(golden["logits_deepsup"]), rtol=0, atol=1e-6)
    np.testing.assert_allclose(main, golden["loss_main"], rtol=1e-6)
    np.testing.assert_allclose(loss - main, golden["loss_deepsup_weighted"], rtol=1e-6)
    np.testing.assert_allclose(loss, golden["loss"], rtol=1e-6)
    np.testing.assert_allclose(score, golden["score_released"], atol=1e-6)
    np.testing.assert_array_equal(np.argmax(logits, -1), golden["prediction"])
    for name in names:
        expected = (channels_last if name[0] == "x" else weights)(golden[f"grad_{name}"])
        # Per vector: the gradients of the pixels scaled by 1e3 and 1e-6 differ by 1e9. Rounding
        # of what is along the vector leaves 2e-6.
        lengths = np.linalg.norm(expected, axis=-1, keepdims=True)
        nonzero = lengths[..., 0] > 0
        error = np.abs(gradients[name] - expected)[nonzero] / lengths[nonzero]
        assert error.max() < 1e-5, name


def test_golden_scores():
    golden = vectors.load("pans", "scores")
    cosines = channels_last(golden["cosine"])
    actual = jax.jit(prototypes.cosine_anomaly)(cosines)
    np.testing.assert_allclose(actual, golden["pans"], atol=1e-7)
    actual = jax.jit(prototypes.cosine_softmax_anomaly)(cosines)
    np.testing.assert_allclose(actual, golden["cosine_softmax"], atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9))
def test_length_of_features_and_prototypes_does_not_matter(first, second):
    features, means = draw(4, 6), draw(3, 6, seed=1)
    expected = COSINES(features, means)
    actual = COSINES(first * features, second * means)
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_lengths_neither_over_nor_underflow():
    features, means = draw(4, 6), draw(3, 6, seed=1)
    expected = COSINES(features, means)
    for factor in (1e30, 1e-30):  # Squares would be inf and 0.
        actual = COSINES(factor * features, means, epsilon=1e-36)
        np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_scores_of_a_prototype_and_of_its_opposite():
    means = jnp.eye(3, 5)
    features = jnp.stack([7.0 * means[1], -means[0] - means[1] - means[2]])
    scores = prototypes.cosine_anomaly(COSINES(features, means))
    # The opposite of all three has cosine -1 / sqrt(3) to each.
    np.testing.assert_allclose(scores, [0.0, (1 + 1 / np.sqrt(3)) / 2], atol=1e-6)
    alone = COSINES(-means[:1], means[:1])
    np.testing.assert_allclose(prototypes.cosine_anomaly(alone), [1.0])


def test_score_is_in_the_unit_interval_and_ranks_as_the_largest_cosine():
    cosines = COSINES(draw(50, 4), draw(3, 4, seed=1))
    scores = prototypes.cosine_anomaly(cosines)
    assert scores.shape == (50,)
    assert np.all((scores >= 0) & (scores <= 1))
    np.testing.assert_array_equal(np.argsort(scores), np.argsort(-np.max(cosines, -1)))


def test_gradient_is_orthogonal_to_the_feature():
    features, means = draw(5, 6), draw(3, 6, seed=1)
    run = jax.jit(jax.grad(lambda x: jnp.sum(prototypes.cosine_logits(x, means)[:, 0])))
    gradient = run(features)
    np.testing.assert_allclose(jnp.sum(gradient * features, -1), 0.0, atol=2e-6)
    assert np.all(np.linalg.norm(gradient, axis=-1) > 0.1)


def test_zero_vectors_have_zero_logits_and_zero_gradient():
    features, means = draw(2, 6).at[0].set(0.0), draw(3, 6, seed=1).at[1].set(0.0)

    @jax.jit
    @partial(jax.grad, argnums=(0, 1), has_aux=True)
    def run(features, means):
        logits = prototypes.cosine_logits(features, means)
        return jnp.sum(jnp.square(logits) + logits), logits

    (of_features, of_means), logits = run(features, means)
    np.testing.assert_array_equal(logits[0], 0.0)
    np.testing.assert_array_equal(logits[:, 1], 0.0)
    np.testing.assert_array_equal(of_features[0], 0.0)
    np.testing.assert_array_equal(of_means[1], 0.0)
    assert np.any(of_features[1] != 0)
    assert np.any(of_means[0] != 0)


def test_below_epsilon_the_value_shrinks_and_the_gradient_is_zero():
    feature, means = jnp.array([[3e-13, 4e-13]]), jnp.array([[1.0, 0.0]])  # Length 5e-13.
    run = partial(prototypes.cosine_similarities, epsilon=1e-12)
    value, gradient = jax.jit(jax.value_and_grad(lambda x: run(x, means)[0, 0]))(feature)
    np.testing.assert_allclose(value, 0.3, rtol=1e-6)  # 3e-13 / 1e-12.
    np.testing.assert_array_equal(gradient, 0.0)


def test_confident_pixels_keep_their_order():
    # The other two shares are about 2 exp(-20): 1 - max would round to a multiple of 6e-8.
    cosines = jnp.array([[1.0, -1.0, -1.0], [0.99, -1.0, -1.0]])
    scores = prototypes.cosine_softmax_anomaly(cosines)
    np.testing.assert_allclose(scores, 2 * np.exp([-20.0, -19.9]), rtol=1e-5)
