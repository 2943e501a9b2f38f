from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.spatial
import vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import AXIS, LAYOUTS, spread

from jaxad.losses import moments, position_gaussians

FILES = ("gaussian", "few_images", "large_offset")
every_file = pytest.mark.parametrize("file", FILES)
add = jax.jit(moments.add)
finish = jax.jit(position_gaussians.finish)
covariance = jax.jit(position_gaussians.covariance)
mahalanobis = jax.jit(position_gaussians.mahalanobis)
concatenate = jax.jit(position_gaussians.concatenate_layers)
upsample_maps = jax.jit(position_gaussians.upsample_maps, static_argnums=1)
smooth_maps = jax.jit(position_gaussians.smooth_maps, static_argnames="sigma")


def features(golden, split):
    layers = [golden[f"{split}_layer{i}"] for i in (1, 2, 3)]
    return concatenate(layers, golden["channel_indices"].astype(np.int32))


def gathered(x, size=8):
    state = moments.zero_full(x.shape[1:])
    for start in range(0, len(x), size):
        state = add(state, x[start : start + size])
    return state


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# Golden vectors: tolerances are of the largest entry, as stated


@every_file
def test_golden_fit(file):
    golden = vectors.load("padim", file)
    state = gathered(features(golden, "train"))
    vectors.assert_close(state.mean, golden["mean"], rtol=0, atol=3e-7)  # Stated: 1e-4 absolute.
    vectors.assert_close(covariance(state), golden["covariance"], rtol=0, atol=1e-6)  # 1e-5.


@every_file
def test_golden_distances_and_maps(file):
    golden = vectors.load("padim", file)
    gaussians = finish(gathered(features(golden, "train")))
    distances = mahalanobis(features(golden, "test"), gaussians)
    close = partial(vectors.assert_close, rtol=0, atol=5e-5)  # Stated: 1e-4.
    close(distances, golden["mahalanobis"])
    close(position_gaussians.image_score(distances), golden["image_score_paper"])
    upsampled = upsample_maps(distances, (64, 64))
    close(upsampled, golden["map_upsampled"])
    smoothed = smooth_maps(upsampled, sigma=float(golden["sigma"]))
    close(smoothed, golden["map_smoothed"])
    close(position_gaussians.image_score(smoothed), golden["image_score_smoothed"])
    scaled = jax.jit(position_gaussians.min_max_released)(smoothed)
    close(position_gaussians.image_score(scaled), golden["image_score_released"])


# Fit


def test_statistics_of_each_position_are_those_of_numpy():
    x = draw(9, 2, 3, 4)
    actual = covariance(gathered(x, size=4), epsilon=0.5)
    for i, j in np.ndindex(2, 3):
        expected = np.cov(x[:, i, j], rowvar=False) + 0.5 * np.eye(4)
        np.testing.assert_allclose(actual[i, j], expected, rtol=1e-5, atol=1e-6)


def test_factor_times_its_transpose_is_the_covariance():
    state = gathered(draw(3, 2, 5))  # Fewer images than features.
    factor = finish(state).cholesky
    assert np.isfinite(factor).all()
    product = factor @ jnp.swapaxes(factor, -1, -2)
    np.testing.assert_allclose(product, covariance(state), rtol=1e-5, atol=1e-6)


def test_a_position_that_never_varies_divides_by_root_epsilon():
    x = np.broadcast_to(draw(1, 1, 3), (6, 1, 3))
    step = np.array([3.0, 0.0, 4.0], np.float32)
    actual = mahalanobis(x[:1] + step, finish(gathered(x)))
    np.testing.assert_allclose(actual, [[5.0 / np.sqrt(0.01)]], rtol=1e-4)


def test_diagonal_fit_is_the_diagonal_of_the_full_one():
    x = draw(7, 2, 3)
    full = covariance(gathered(x))
    diagonal = position_gaussians.finish_diagonal(add(moments.zero_diagonal((2, 3)), x))
    expected = np.einsum("...dd->...d", full)
    np.testing.assert_allclose(diagonal.variance, expected, rtol=1e-5)


def test_indefinite_covariance_is_named_with_its_position():
    matrices = np.broadcast_to(np.eye(2, dtype=np.float32), (2, 3, 2, 2)).copy()
    matrices[1, 2] = [[1.0, 2.0], [2.0, 1.0]]  # Eigenvalues 3 and -1.
    state = moments.zero_full((2, 3, 2))._replace(count=jnp.int32(2), scatter=matrices)
    gaussians = finish(state, epsilon=0.0)
    with pytest.raises(ValueError, match=r"got 1 that.*position \(1, 2\).*eigenvalue is -1\b"):
        position_gaussians.check_positive_definite(gaussians, covariance(state, epsilon=0.0))
    position_gaussians.check_positive_definite(finish(gathered(draw(5, 2, 3))), matrices)


# Distance


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999))
def test_distance_is_that_of_scipy(seed):
    x, tests = draw(9, 2, 3, seed=seed), draw(4, 2, 3, seed=seed + 1) * 3
    state = gathered(x, size=9)
    actual = mahalanobis(tests, finish(state))
    assert actual.shape == (4, 2)
    inverse = np.linalg.inv(np.asarray(covariance(state), np.float64))
    mean = x.astype(np.float64).mean(axis=0)
    for b, p in np.ndindex(4, 2):
        expected = scipy.spatial.distance.mahalanobis(tests[b, p], mean[p], inverse[p])
        np.testing.assert_allclose(actual[b, p], expected, rtol=1e-4)


def test_distances_of_the_fitted_images_sum_to_the_degrees_of_freedom():
    # Without ε, Σ_i M_i² = tr(Σ⁻¹ (N - 1) Σ) = D (N - 1); ε makes it smaller.
    x = draw(12, 2, 3)
    state = gathered(x, size=6)
    exact = mahalanobis(x, finish(state, epsilon=0.0))
    np.testing.assert_allclose(jnp.sum(exact**2, axis=0), [3 * 11.0] * 2, rtol=1e-4)
    assert (jnp.sum(mahalanobis(x, finish(state)) ** 2, axis=0) < 33.0).all()


def test_distance_without_epsilon_does_not_see_linear_maps_of_the_features():
    x, tests, mix = draw(12, 1, 3), draw(2, 1, 3, seed=1), draw(3, 3, seed=2) + 2 * np.eye(3)
    mix = mix.astype(np.float32)
    plain = mahalanobis(tests, finish(gathered(x), epsilon=0.0))
    mixed = mahalanobis(tests @ mix + 5.0, finish(gathered(x @ mix + 5.0), epsilon=0.0))
    np.testing.assert_allclose(mixed, plain, rtol=1e-3)


def test_distance_is_zero_at_the_mean_with_zero_gradient():
    gaussians = finish(gathered(draw(6, 2, 3)))
    value, gradient = jax.value_and_grad(lambda x: mahalanobis(x, gaussians).sum())(
        gaussians.mean[None]
    )
    assert float(value) == 0.0
    np.testing.assert_array_equal(gradient, np.zeros((1, 2, 3)))


def test_one_gaussian_for_all_positions():
    x = draw(6, 2, 3, 4)
    shared = finish(gathered(x.reshape(-1, 4), size=36))
    actual = mahalanobis(x, shared)
    factors = jnp.broadcast_to(shared.cholesky, (2, 3, 4, 4))
    means = jnp.broadcast_to(shared.mean, (2, 3, 4))
    expected = mahalanobis(x, position_gaussians.Gaussians(means, factors))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_diagonal_distance_is_the_full_one_of_a_diagonal_matrix():
    mean, variance, x = draw(2, 3), np.square(draw(2, 3, seed=1)) + 0.1, draw(4, 2, 3, seed=2)
    diagonal = position_gaussians.DiagonalGaussians(mean, variance)
    factors = np.sqrt(variance)[..., None] * np.eye(3, dtype=np.float32)
    full = position_gaussians.Gaussians(mean, factors)
    actual = position_gaussians.mahalanobis_diagonal(x, diagonal)
    np.testing.assert_allclose(actual, mahalanobis(x, full), rtol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fit_on_devices_equals_the_fit_on_one(layout):
    x = draw(16, 2, 3) + 300.0
    where = np.arange(16) % 8 < 5

    def run(rows):
        return moments.add(moments.zero_full((2, 3)), *rows, axis_name=AXIS)

    state = spread(layout, run, (jnp.asarray(x), jnp.asarray(where)))
    expected = finish(gathered(x[where], size=5))
    vectors.assert_close(finish(state).cholesky, expected.cholesky, rtol=1e-4, atol=1e-5)


# Layers


def test_coarse_cells_are_repeated_where_sizes_divide():
    coarse = draw(2, 2, 3, 2)
    actual = position_gaussians.concatenate_layers([np.zeros((2, 4, 9, 1), np.float32), coarse])
    np.testing.assert_array_equal(actual[..., 1:], coarse.repeat(2, axis=1).repeat(3, axis=2))


def test_other_ratios_take_the_floor():
    # ⌊i · 3 / 5⌋ for i = 0..4.
    coarse = jnp.arange(3.0).reshape(1, 3, 1, 1)
    actual = position_gaussians.concatenate_layers([jnp.zeros((1, 5, 1, 1)), coarse])
    np.testing.assert_array_equal(actual[0, :, 0, 1], [0, 0, 1, 1, 2])


def test_layers_are_concatenated_in_order_and_channels_taken_in_theirs():
    layers = [draw(2, 4, 4, 2), draw(2, 2, 2, 3, seed=1)]
    every = position_gaussians.concatenate_layers(layers)
    assert every.shape == (2, 4, 4, 5)
    np.testing.assert_array_equal(every[..., :2], layers[0])
    some = position_gaussians.concatenate_layers(layers, jnp.array([4, 0]))
    np.testing.assert_array_equal(some, every[..., jnp.array([4, 0])])


def test_channels_are_distinct_and_belong_to_the_key():
    draws = [
        position_gaussians.draw_channels(jax.random.key(s), total=9, kept=5) for s in (0, 0, 1)
    ]
    np.testing.assert_array_equal(draws[0], draws[1])
    for channels in draws:
        assert channels.shape == (5,)
        assert len(set(channels.tolist())) == 5
        assert set(channels.tolist()) <= set(range(9))
    every = position_gaussians.draw_channels(jax.random.key(0), total=4, kept=4)
    np.testing.assert_array_equal(every, range(4))


# Maps


@pytest.mark.parametrize("shape, sigma", [((1, 3, 5), 4.0), ((2, 20, 17), 1.5), ((1, 40, 33), 4.0)])
def test_smoothing_is_scipy_s_gaussian_filter(shape, sigma):
    maps = draw(*shape)
    expected = [scipy.ndimage.gaussian_filter(m.astype(np.float64), sigma) for m in maps]
    actual = smooth_maps(maps, sigma=sigma)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_smoothing_and_upsampling_keep_a_flat_map():
    flat = position_gaussians.upsample_maps(jnp.full((1, 3, 4), 2.5), (9, 16))
    smooth = position_gaussians.smooth_maps(flat)
    np.testing.assert_allclose(smooth, np.full((1, 9, 16), 2.5), rtol=1e-6)


def test_upsampling_by_hand():
    # Pixel centers 0.25, 0.75, 1.25, 1.75 between values 0 at 0.5 and 4 at 1.5.
    actual = position_gaussians.upsample_maps(jnp.array([[[0.0, 4.0]]]), (1, 4))
    np.testing.assert_allclose(actual, [[[0.0, 1.0, 3.0, 4.0]]])


def test_score_moves_with_the_anomaly_and_counts_real_pixels_only():
    maps = np.zeros((2, 3, 4), np.float32)
    maps[0, 2, 1], maps[1, 0, 0], maps[1, 1, 1] = 5.0, 7.0, np.nan
    where = np.isfinite(maps)
    np.testing.assert_array_equal(position_gaussians.image_score(maps, where), [5.0, 7.0])
    rolled = np.roll(maps[:1], (1, 2), axis=(1, 2))
    np.testing.assert_array_equal(position_gaussians.image_score(rolled), [5.0])


def test_negative_maps_have_negative_scores():
    actual = position_gaussians.image_score(jnp.array([[[-3.0, -1.0]]]), jnp.array([[[1, 0]]]))
    np.testing.assert_array_equal(actual, [-3.0])


def test_min_max_spans_all_images_and_keeps_their_order():
    maps = jnp.array([[[1.0, 3.0]], [[2.0, 5.0]]])
    actual = position_gaussians.min_max_released(maps)
    np.testing.assert_allclose(actual, [[[0.0, 0.5]], [[0.25, 1.0]]])


def test_min_max_of_equal_maps_is_zero():
    actual = position_gaussians.min_max_released(jnp.full((2, 1, 3), 4.0))
    np.testing.assert_array_equal(actual, np.zeros((2, 1, 3)))


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_rows_for_a_covariance_are_refused(rows):
    gathered = moments.zero_full((2, 3))
    if rows:
        gathered = moments.add(gathered, jnp.ones((rows, 2, 3)))
    with pytest.raises(ValueError, match=f"moments: expected at least 2 rows .*, got {rows}."):
        position_gaussians.check_rows(gathered)


def test_two_rows_are_enough_for_a_covariance():
    gathered = moments.add(moments.zero_full((2, 3)), jnp.ones((2, 2, 3)))
    assert position_gaussians.check_rows(gathered) is None
