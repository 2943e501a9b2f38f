"""Noise, colours, blur, gamma and the weak views: what changes values."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.augment import blur, color, intensity, multi_crop, noise, precision, simclr

RNG = np.random.default_rng(0)
IMAGES = jnp.asarray(RNG.random((4, 8, 6, 3)), jnp.float32)
NOTHING = dict(area=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0, blur=0.0)


def keys(count=4, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def jittered(operation, value):
    """`color.jitter` of one operation: the others change nothing."""
    factors = np.array([1.0, 1.0, 1.0, 0.0])
    factors[operation] = value
    order = np.roll(np.arange(4), -operation)
    return color.jitter(IMAGES, jnp.tile(factors, (4, 1)), jnp.tile(order, (4, 1)))


def luminance(x):
    return np.asarray(x) @ np.array([0.2989, 0.587, 0.114])


@pytest.mark.parametrize("operation, value", [(0, 1.3), (1, 0.6), (2, 1.4)])
def test_brightness_contrast_and_saturation_blend(operation, value):
    x, grey = np.asarray(IMAGES), luminance(IMAGES)[..., None]
    base = [np.zeros_like(grey), grey.mean((1, 2, 3), keepdims=True), grey][operation]
    expected = np.clip(value * x + (1 - value) * base, 0, 1)
    np.testing.assert_allclose(jittered(operation, value), expected, atol=2e-6)


def test_hue_turns_as_in_the_standard_library():
    def turn(pixel):
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        return colorsys.hsv_to_rgb((h + 0.2) % 1.0, s, v)

    expected = np.apply_along_axis(lambda p: np.array(turn(p)), -1, np.asarray(IMAGES, np.float64))
    np.testing.assert_allclose(jittered(3, 0.2), expected, atol=2e-6)


def test_order_matters_and_is_kept():
    factors = jnp.tile(jnp.array([2.0, 0.5, 1.0, 0.0]), (4, 1))
    brighter_first = color.jitter(IMAGES, factors, jnp.tile(jnp.array([0, 1, 2, 3]), (4, 1)))
    other = color.jitter(IMAGES, factors, jnp.tile(jnp.array([1, 0, 2, 3]), (4, 1)))
    bright = np.clip(2 * np.asarray(IMAGES), 0, 1)
    mean = luminance(bright).mean((1, 2))[:, None, None, None]
    np.testing.assert_allclose(brighter_first, 0.5 * bright + 0.5 * mean, atol=2e-6)
    assert np.abs(other - brighter_first).max() > 0.1


def test_images_of_one_channel_have_no_saturation_and_no_hue():
    factors = jnp.tile(jnp.array([1.0, 1.0, 1.7, 0.4]), (4, 1))
    actual = color.jitter(IMAGES[..., :1], factors, jnp.tile(jnp.arange(4), (4, 1)))
    np.testing.assert_allclose(actual, IMAGES[..., :1], atol=1e-7)


def test_drawn_factors_keep_to_their_bounds():
    factors, order = color.draw_jitter(keys(400), brightness=1.5, hue=0.1)
    low, high = np.array([0.0, 0.6, 0.6, -0.1]), np.array([2.5, 1.4, 1.4, 0.1])
    assert (factors >= low).all()
    assert (factors <= high).all()
    assert (factors.max(0) - factors.min(0) > 0.9 * (high - low)).all()
    assert len(np.unique(order, axis=0)) == 24


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_random_jitter_of_certain_probability(probability):
    images, (applied, *_) = color.random_jitter(keys(), IMAGES, probability=probability)
    assert (applied == bool(probability)).all()
    assert ((images == IMAGES).all((1, 2, 3)) == (not probability)).all()


def test_solarisation_inverts_bright_values():
    images = jnp.array([0.0, 0.5, 0.6, 1.0]).reshape(1, 1, 4, 1)
    actual = color.solarize(images)
    np.testing.assert_allclose(actual[0, 0, :, 0], [0.0, 0.5, 0.4, 0.0], atol=1e-7)


def test_normalised_images_have_the_stated_mean():
    images = jnp.broadcast_to(jnp.array(color.IMAGENET_MEAN), (1, 2, 2, 3))
    np.testing.assert_allclose(color.normalize(images), np.zeros((1, 2, 2, 3)), atol=1e-6)


def test_blur_keeps_constants_and_weighs_by_the_gaussian():
    spot = jnp.zeros((2, 9, 9, 1)).at[:, 4, 4].set(1.0)
    blurred = blur.gaussian_blur(spot, jnp.array([0.0, 1.0]), kernel_size=5)
    weights = np.exp(-(np.arange(-2, 3) ** 2) / 2)
    weights /= weights.sum()
    np.testing.assert_array_equal(blurred[0], spot[0])
    np.testing.assert_allclose(blurred[1, 2:7, 2:7, 0], np.outer(weights, weights), atol=1e-7)
    flat = blur.gaussian_blur(jnp.full((1, 3, 3, 1), 0.7), jnp.array([2.0]), kernel_size=9)
    np.testing.assert_allclose(flat, np.full((1, 3, 3, 1), 0.7), rtol=1e-6)


def test_a_blurred_image_keeps_to_its_own_range():
    images = jnp.asarray(RNG.choice([0.1, 0.3, 0.7, 1.0], (64, 1, 1, 3)), jnp.float32)
    images = jnp.broadcast_to(images, (64, 9, 9, 3))
    sigma = jnp.linspace(0.3, 3.0, 64)
    blurred = jax.jit(lambda x, s: blur.gaussian_blur(x, s, kernel_size=7))(images, sigma)
    assert (blurred >= images.min((1, 2, 3), keepdims=True)).all()
    assert (blurred <= images.max((1, 2, 3), keepdims=True)).all()


def test_bounds_change_values_and_not_the_gradient():
    values = jnp.array([-1e-7, 0.0, 0.5, 1.0, 1.0000001])
    bound = lambda x: precision.bounded(x, 0.0, 1.0)  # noqa: E731
    np.testing.assert_array_equal(bound(values), np.array([0, 0, 0.5, 1, 1], np.float32))
    np.testing.assert_array_equal(jax.grad(lambda x: bound(x).sum())(values), np.ones(5))


@pytest.mark.parametrize(
    "function",
    [
        lambda: blur.gaussian_blur(IMAGES, jnp.ones(4), kernel_size=3),
        lambda: color.to_grey(IMAGES),
        lambda: jittered(1, 0.5),
    ],
)
def test_products_do_not_round_the_image_on_accelerators(function):
    text = str(jax.make_jaxpr(function)())
    assert "HIGHEST" in text
    assert "precision=None" not in text


def test_noise_of_probability_zero_changes_nothing():
    images, sigma = noise.random_noise(keys(), IMAGES, probability=0.0)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(sigma, np.zeros(4))


def test_noise_classes():
    # Stretched: (x - 0.2) / 0.6. Noise 1 · sqrt(0.25) = 0.5.
    x = np.full((4, 1, 3, 1), [[0.2], [0.5], [0.8]])
    uniforms = np.full((4, 1, 3, 1), [[0.01], [0.07], [0.5]])
    actual = noise.corrupt(
        jnp.asarray(x), jnp.arange(4), jnp.ones(x.shape), uniforms, variance=0.25, amount=0.1
    )[:, 0, :, 0]
    np.testing.assert_allclose(actual[0], [0.2, 0.5, 0.8], rtol=1e-6)
    np.testing.assert_allclose(actual[1], [0.5, 1.0, 1.0], rtol=1e-6)
    np.testing.assert_allclose(actual[2], [0.0, 0.75, 1.0], atol=1e-6)
    np.testing.assert_allclose(actual[3], [0.0, 1.0, 1.0], atol=1e-6)


def test_an_image_of_one_value_is_not_stretched():
    flat = jnp.full((1, 2, 2, 1), 0.4)
    actual = noise.corrupt(flat, jnp.array([1]), jnp.zeros(flat.shape), jnp.ones(flat.shape))
    np.testing.assert_allclose(actual, flat)


def test_gamma_has_no_infinite_slope_at_zero_and_keeps_signs():
    images = jnp.array([-0.25, 0.0, 0.25]).reshape(1, 1, 3, 1)
    logs = jnp.log(jnp.array([0.5]))
    run = lambda x: intensity.adjust_gamma(x, logs)  # noqa: E731
    np.testing.assert_allclose(run(images)[0, 0, :, 0], [-0.5, 0.0, 0.5], rtol=1e-6)
    slope = jax.grad(lambda x: run(x).sum())(images)[0, 0, :, 0]
    np.testing.assert_allclose(slope, [1.0, 0.0, 1.0], rtol=1e-6)  # 0.5 · 0.25^-0.5.


# Weak views


def test_a_view_of_which_nothing_happens_is_the_image():
    aspect = (6 / 8, 6 / 8)
    views, drawn = simclr.random_view(keys(), IMAGES, aspect=aspect, **NOTHING)
    np.testing.assert_array_equal(drawn.boxes, np.tile([0, 0, 8, 6], (4, 1)))
    np.testing.assert_allclose(views, IMAGES, atol=1e-6)


def test_views_are_what_was_drawn_stay_in_range_and_differ():
    images = jnp.round(IMAGES)  # Values 0 and 1: every overshoot shows.
    views, drawn = simclr.random_views(keys(), images, size=(5, 7), method="bicubic", solarize=0.5)
    assert views.shape == (4, 2, 5, 7, 3)
    assert views.min() >= 0.0
    assert views.max() <= 1.0
    assert (np.abs(views[:, 0] - views[:, 1]).max((1, 2, 3)) > 1e-2).all()
    one = jax.tree.map(lambda x: x[:, 1], drawn)
    again = simclr.apply_view(images, one, size=(5, 7), kernel_size=1, method="bicubic")
    np.testing.assert_allclose(again, views[:, 1], atol=1e-6)


def test_a_view_does_not_hang_on_the_rest_of_the_batch():
    views, _ = simclr.random_view(keys(), IMAGES, kernel_size=3)
    alone, _ = simclr.random_view(keys()[1:2], IMAGES[1:2], kernel_size=3)
    np.testing.assert_allclose(alone[0], views[1], atol=1e-6)


def test_multi_crop_shapes_and_probabilities_per_view():
    # A bright flat image: only solarisation, of the second global view alone, makes it dark.
    images = jnp.full((4, 8, 8, 3), 0.9)
    global_views, local_views = multi_crop.random_crops(
        keys(),
        images,
        global_size=(8, 8),
        local_size=(4, 4),
        local_views=3,
        global_solarize=(0.0, 1.0),
        jitter=0.0,
        grey=0.0,
        kernel_size=3,
    )
    assert global_views.shape == (4, 2, 8, 8, 3)
    assert local_views.shape == (4, 3, 4, 4, 3)
    np.testing.assert_allclose(global_views[:, 0], np.full((4, 8, 8, 3), 0.9), atol=2e-5)
    np.testing.assert_allclose(global_views[:, 1], np.full((4, 8, 8, 3), 0.1), atol=2e-5)
    np.testing.assert_allclose(local_views, np.full((4, 3, 4, 4, 3), 0.9), atol=2e-5)
