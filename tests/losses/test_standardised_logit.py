"""`jaxad.losses.standardised_logit`: statistics by predicted class, boundary suppression."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors

from jaxad.losses import posthoc
from jaxad.losses import standardised_logit as sml


def golden():
    arrays = vectors.load("pebal", "posthoc")
    return (
        arrays,
        jnp.moveaxis(arrays["logits"], 1, -1),
        jnp.moveaxis(arrays["train_logits"], 1, -1),
    )


def fitted(*batches, classes):
    sums = sml.zero(classes)
    for batch in batches:
        sums = jax.jit(sml.add)(sums, batch)
    return sml.finish(sums)


def test_statistics_of_uneven_batches_equal_the_golden_ones():
    arrays, _, train = golden()
    statistics = fitted(train[:1], train[1:], classes=7)
    vectors.assert_close(statistics.mean, arrays["sml_mean"], rtol=1e-5)
    vectors.assert_close(statistics.variance, arrays["sml_var"], rtol=1e-5)
    assert statistics.count.sum() == train[..., 0].size


def test_standardised_score_equals_the_released_one():
    arrays, logits, _ = golden()
    count = jnp.ones(7)
    statistics = sml.MaxLogitStatistics(arrays["sml_mean"], arrays["sml_var"], count)
    actual = sml.standardised_max_logit(logits, statistics)
    vectors.assert_close(actual, arrays["sml"], rtol=1e-5)
    np.testing.assert_array_equal(jnp.argmax(logits, -1), arrays["prediction"])


def test_boundary_equals_the_released_one():
    arrays, _, _ = golden()
    actual = jax.jit(sml.boundary)(arrays["prediction"])
    np.testing.assert_array_equal(actual, arrays["boundary_mask"])


@pytest.mark.parametrize(
    "name, width, iterations, dilation",
    [("bs4_ds", 4, 4, 6), ("bs8_ds", 8, 4, 6), ("dil2", 4, 2, 2)],
)
def test_refined_scores_equal_the_released_ones(name, width, iterations, dilation):
    arrays, _, _ = golden()
    options = dict(width=width, iterations=iterations, dilation=dilation)
    actual = jax.jit(partial(sml.refine, **options))(arrays["sml"], arrays["prediction"])
    vectors.assert_close(actual, arrays[f"sml_{name}"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name, width, iterations", [("bs4_only", 4, 4), ("bs0_1", 0, 1)])
def test_suppressed_scores_equal_the_released_ones(name, width, iterations):
    arrays, _, _ = golden()
    run = jax.jit(partial(sml.suppress_boundary, width=width, iterations=iterations))
    actual = run(arrays["sml"], arrays["prediction"])
    vectors.assert_close(actual, arrays[f"sml_{name}"], rtol=0, atol=1e-5)


def test_pixels_further_than_three_steps_from_a_boundary_keep_their_score():
    arrays, _, _ = golden()
    actual = sml.suppress_boundary(arrays["sml"], arrays["prediction"], width=4, iterations=4)
    outside = arrays["boundary_mask_r3"] == 0
    assert outside.any()
    np.testing.assert_array_equal(actual[outside], arrays["sml"][outside])


def test_suppression_by_hand():
    # Classes 0 | 1 between the third and the fourth of six columns: both are boundary. In one
    # iteration of radius 0, each becomes the mean of its outer neighbours.
    classes = jnp.array([[0, 0, 0, 1, 1, 1]] * 3)
    scores = jnp.array([[1.0, 2.0, 9.0, 9.0, 4.0, 5.0]] * 3)
    actual = sml.suppress_boundary(scores, classes, width=0, iterations=1)
    np.testing.assert_allclose(actual, [[1.0, 2.0, 2.0, 4.0, 4.0, 5.0]] * 3, rtol=1e-6)


def test_one_class_has_no_boundary():
    classes, scores = jnp.zeros((4, 5), int), jnp.arange(20.0).reshape(4, 5)
    assert not sml.boundary(classes).any()
    np.testing.assert_array_equal(sml.suppress_boundary(scores, classes), scores)


def test_a_map_that_is_all_boundary_keeps_its_scores():
    classes = jnp.indices((4, 6)).sum(0) % 2
    scores = jnp.arange(24.0).reshape(4, 6)
    assert sml.boundary(classes).all()
    np.testing.assert_array_equal(sml.suppress_boundary(scores, classes), scores)


def test_merging_equals_adding():
    z = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    apart = sml.merge(sml.add(sml.zero(3), z[:7]), sml.add(sml.zero(3), z[7:]))
    for actual, expected in zip(apart, sml.add(sml.zero(3), z), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_merging_with_nothing_changes_nothing():
    sums = sml.add(sml.zero(3), np.random.default_rng(1).normal(size=(9, 3)).astype(np.float32))
    for merged in (sml.merge(sums, sml.zero(3)), sml.merge(sml.zero(3), sums)):
        for actual, expected in zip(merged, sums, strict=True):
            np.testing.assert_array_equal(actual, expected)


def test_variance_survives_a_large_mean():
    # A sum of squares in float32 would have nothing left: 1e5² + 1.
    rng = np.random.default_rng(2)
    values = 1e5 + rng.normal(size=(2000,))
    logits = np.stack([values, np.zeros(2000)], axis=-1).astype(np.float32)
    statistics = fitted(logits[:500], logits[500:600], logits[600:], classes=2)
    exact = logits[:, 0].astype(np.float64)
    np.testing.assert_allclose(statistics.variance[0], exact.var(ddof=1), rtol=1e-3)
    np.testing.assert_allclose(statistics.mean[0], exact.mean(), rtol=1e-7)


def test_classes_with_fewer_than_two_pixels_have_variance_one():
    statistics = fitted(jnp.array([[5.0, 0.0, 0.0]]), classes=3)
    np.testing.assert_array_equal(statistics.mean, [5.0, 0.0, 0.0])
    np.testing.assert_array_equal(statistics.variance, [1.0, 1.0, 1.0])
    np.testing.assert_array_equal(statistics.count, [1.0, 0.0, 0.0])


def test_masked_pixels_do_not_count():
    z = np.random.default_rng(3).normal(size=(2, 6, 3)).astype(np.float32)
    where = np.array([[1, 1, 0, 1, 0, 1], [0, 0, 1, 1, 1, 1]], bool)
    spoilt = np.where(where[..., None], z, np.nan)
    actual = sml.add(sml.zero(3), spoilt, where)
    for a, b in zip(actual, sml.add(sml.zero(3), z[where]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_unit_statistics_give_the_max_logit():
    z = np.random.default_rng(4).normal(size=(5, 3)).astype(np.float32)
    statistics = sml.finish(sml.zero(3))
    actual = sml.standardised_max_logit(z, statistics)
    np.testing.assert_allclose(actual, posthoc.max_logit(z), rtol=1e-6)
