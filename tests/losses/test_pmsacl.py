import contextlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import AXIS, LAYOUTS, spread

from jaxad.losses import contrastive, masked, pmsacl

CASES = ["B2_K2_D5", "B3_K4_D8"]
FORMS = {"": pmsacl.pmsacl, "_positive_at_tau": pmsacl.pmsacl_positive_at_tau}
# τ and α are traced: one compilation for all.
JITTED = {name: jax.jit(function) for name, function in FORMS.items()}
printed, at_tau = JITTED.values()
kappa = jax.jit(pmsacl.kappa)
direction = jax.jit(pmsacl.centred_direction)
add = jax.jit(pmsacl.add_to_centres)
PRECISIONS = {  # Context, type, tolerance of float64 golden vectors.
    "float32": (contextlib.nullcontext, jnp.float32, 2e-6),
    "float64": (partial(jax.enable_x64, True), jnp.float64, 1e-10),
}


def load(case):
    """Golden arrays of a case, its features `[B · K, 2, D]` and their classes."""
    golden = vectors.part(vectors.load("pmsacl", "losses"), f"{case}/")
    images, classes, views, dim = golden["features"].shape
    flat = golden["features"].reshape(images * classes, views, dim)
    return golden, flat, np.tile(np.arange(classes), images)


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


# Golden vectors


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("case", CASES)
def test_golden_loss_and_gradient(case, alpha, form, precision):
    golden, features, classes = load(case)
    expected = vectors.part(golden, f"alpha{alpha}{form}/")
    context, dtype, tolerance = PRECISIONS[precision]

    def loss(features, centres):
        each = FORMS[form](
            features, classes, centres, temperature=float(golden["tau"]), alpha=alpha
        )
        return jnp.mean(each), each

    with context():
        run = jax.jit(jax.value_and_grad(loss, has_aux=True))
        (value, each), gradient = run(
            jnp.asarray(features, dtype), jnp.asarray(golden["centres"], dtype)
        )
    each, gradient = (
        np.asarray(x).reshape(*golden["features"].shape[:2], 2, -1) for x in (each, gradient)
    )
    vectors.assert_close(each[..., 0], expected["per_anchor"], rtol=tolerance, atol=tolerance)
    vectors.assert_close(value, expected["loss"], rtol=tolerance)
    vectors.assert_close(gradient, expected["grad_features"], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", CASES)
def test_golden_centred_direction(case):
    golden, features, classes = load(case)
    actual = direction(features, classes, golden["centres"])
    vectors.assert_close(
        actual.reshape(golden["features"].shape), golden["centred_normalised"], rtol=1e-5
    )


@pytest.mark.parametrize("case", CASES)
def test_golden_multi_centring(case):
    golden, features, classes = load(case)
    loss = lambda x: jnp.mean(pmsacl.multi_centring(x, classes, golden["centres"]))  # noqa: E731
    value, gradient = jax.jit(jax.value_and_grad(loss))(jnp.asarray(features))
    vectors.assert_close(value, golden["multi_centring"], rtol=1e-6)
    gradient = gradient.reshape(golden["features"].shape)
    vectors.assert_close(gradient, golden["multi_centring_grad"], rtol=1e-6)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_golden_kappa(case, alpha):
    golden, _, _ = load(case)
    classes = np.arange(len(golden["centres"]))
    actual = pmsacl.kappa(classes, classes, temperature=float(golden["tau"]), alpha=alpha)
    vectors.assert_close(actual, golden[f"alpha{alpha}/kappa"], rtol=1e-6)


@pytest.mark.parametrize(
    "name, function, alpha",
    [
        ("loss_alpha2", printed, 2.0),
        ("loss_alpha2_positive_at_tau", at_tau, 2.0),
        ("loss_alpha1", printed, 1.0),
    ],
)
def test_golden_tight_clusters(name, function, alpha):
    golden, features, classes = load("tight")
    each = function(
        features, classes, golden["centres"], temperature=float(golden["tau"]), alpha=alpha
    )
    vectors.assert_close(jnp.mean(each), golden[name], rtol=1e-5)


def test_golden_centres_of_uneven_batches():
    golden = vectors.part(vectors.load("pmsacl", "losses"), "centres/")
    total = pmsacl.zero_centres(*golden["expected"].shape)
    stops = np.cumsum(golden["batch_sizes"])
    for batch in np.split(golden["features"], stops[:-1]):  # [b, K, D]
        classes = np.tile(np.arange(batch.shape[1]), len(batch))
        total = add(total, batch.reshape(-1, batch.shape[-1]), classes)
    vectors.assert_close(pmsacl.finish_centres(total), golden["expected"], rtol=1e-6)


# κ and α


def test_kappa_row_by_hand():
    # Rows (image, class, view) 000, 001, 010, 011, 100, ...: their classes.
    classes = jnp.array([0, 0, 1, 1, 0, 0, 1, 1])
    row = kappa(classes[:1], classes, temperature=0.5, alpha=4.0)
    # 1 / τ = 2, a fourth of it within the class.
    np.testing.assert_allclose(row, [[0.5, 0.5, 2, 2, 0.5, 0.5, 2, 2]], rtol=1e-6)


def test_alpha_one_and_zero_centres_give_nt_xent_of_unit_features():
    features, classes = draw(5, 2, 4), jnp.array([0, 1, 1, 2, 0])
    unit = features / jnp.linalg.norm(features, axis=-1, keepdims=True)
    expected = jax.jit(contrastive.nt_xent)(unit)
    for function in JITTED.values():
        actual = function(features, classes, jnp.zeros((3, 4)), alpha=1.0)
        np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_large_alpha_counts_the_rows_of_the_class():
    features, classes, centres = draw(4, 2, 4), jnp.array([0, 1, 0, 1]), draw(2, 4, seed=1)
    actual = printed(features, classes, centres, temperature=0.5, alpha=1e8)
    f = np.asarray(direction(features, classes, centres), np.float64).reshape(8, 4)
    s, of_row = f @ f.T / 0.5, np.repeat(classes, 2)
    other = of_row[:, None] != of_row
    # exp(0) for each of the three other rows of the class.
    expected = np.log(3 + np.sum(np.exp(s) * other, axis=1)) - s[np.arange(8), np.arange(8) ^ 1]
    np.testing.assert_allclose(actual.reshape(-1), expected, rtol=1e-5)


def test_one_class_is_nt_xent_with_two_temperatures():
    features, centre = draw(3, 2, 4), jnp.zeros((1, 4))
    actual = printed(features, jnp.zeros(3, int), centre, temperature=0.2, alpha=3.0)
    unit = direction(features, jnp.zeros(3, int), centre)
    positive = jnp.sum(unit[:, 0] * unit[:, 1], axis=-1)[:, None]
    softened = jax.jit(contrastive.nt_xent)(unit, temperature=0.6)
    np.testing.assert_allclose(actual, softened + positive / 0.6 - positive / 0.2, atol=1e-5)


def test_alpha_weakens_the_repulsion_within_a_class():
    # Directions of a class are alike (similarity in (0.9, 1)), those of the two classes opposite:
    # a same-class negative q repels with κ exp(κ s_q) / Σ, which falls as κ does.
    base = jnp.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])[jnp.array([0, 0, 1, 1])]
    features = base[:, None] + 0.1 * draw(4, 2, 3)
    classes, centres = jnp.array([0, 0, 1, 1]), jnp.zeros((2, 3))

    def repulsion(alpha):
        """Of row 2 (item 1, view 0) on row 0, along the similarity."""
        f = direction(features, classes, centres).reshape(8, 3)
        scale = kappa(jnp.zeros(1, int), jnp.repeat(classes, 2), alpha=alpha)[0]
        logits = jnp.where(jnp.arange(8) == 0, -jnp.inf, scale * (f @ f[0]))
        return scale[2] * jax.nn.softmax(logits)[2]

    strengths = np.array([repulsion(alpha) for alpha in (0.5, 1.0, 2.0, 4.0, 8.0)])
    losses = np.array(
        [
            jnp.mean(printed(features, classes, centres, alpha=alpha))
            for alpha in (0.5, 1.0, 2.0, 4.0, 8.0)
        ]
    )
    assert np.all(np.diff(strengths) < 0)
    assert np.all(np.diff(losses) < 0)


def test_kappa_goes_by_class_not_by_place():
    features, classes, centres = draw(5, 2, 4), jnp.array([0, 2, 1, 2, 0]), draw(3, 4, seed=1)
    order = np.array([3, 0, 4, 1, 2])
    for function in JITTED.values():
        expected = function(features, classes, centres)[order]
        actual = function(features[order], classes[order], centres)
        np.testing.assert_allclose(actual, expected, rtol=5e-6, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.3, 5.0))
def test_positive_at_tau_is_never_negative(seed, alpha):
    features = 0.2 * draw(4, 2, 3, seed=seed) + draw(4, 1, 3, seed=seed + 1)
    each = at_tau(features, jnp.array([0, 1, 1, 0]), jnp.zeros((2, 3)), alpha=alpha)
    assert each.shape == (4, 2)
    assert np.all(each >= -1e-6)


def test_printed_loss_of_one_item_is_the_gap_of_its_two_temperatures():
    # Alone, the denominator is the positive's own term: s / (α τ) - s / τ with s = 1.
    features = jnp.ones((1, 2, 3))
    each = printed(features, jnp.array([0]), jnp.zeros((1, 3)), temperature=0.2, alpha=2.0)
    np.testing.assert_allclose(each, [[-2.5, -2.5]], rtol=1e-6)


# Centring


def test_moving_features_and_centres_together_changes_nothing():
    features, classes, centres = draw(4, 2, 3), jnp.array([0, 1, 1, 0]), draw(2, 3, seed=1)
    shift = jnp.array([3.0, -1.0, 2.0])
    for function in (jax.jit(pmsacl.multi_centring), *JITTED.values()):
        expected = function(features, classes, centres)
        actual = function(features + shift, classes, centres + shift)
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_contrast_does_not_pull_towards_the_centre(form):
    features, classes, centres = draw(4, 2, 3), jnp.array([0, 1, 1, 0]), draw(2, 3, seed=1)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(FORMS[form](x, classes, centres))))(features)
    radial = jnp.sum(gradient * (features - centres[classes][:, None]), axis=-1)
    np.testing.assert_allclose(radial, np.zeros((4, 2)), atol=1e-5)


def test_each_row_is_centred_by_its_own_class():
    features = jnp.array([[3.0, 4.0], [3.0, 4.0]])
    actual = direction(features, jnp.array([0, 1]), jnp.array([[0.0, 0.0], [3.0, 1.0]]))
    np.testing.assert_allclose(actual, [[0.6, 0.8], [0.0, 1.0]], rtol=1e-6)


def test_direction_at_the_centre_is_zero_with_zero_gradient():
    of = lambda x: pmsacl.centred_direction(x, jnp.array([0]), jnp.ones((1, 3)))  # noqa: E731
    value, pullback = jax.vjp(jax.jit(of), jnp.ones((1, 3)))
    np.testing.assert_array_equal(value, np.zeros((1, 3)))
    np.testing.assert_array_equal(pullback(jnp.ones((1, 3)))[0], np.zeros((1, 3)))


def test_direction_shortens_below_the_floor():
    actual = pmsacl.centred_direction(
        jnp.array([[0.0, 0.25]]), jnp.array([0]), jnp.zeros((1, 2)), floor=0.5
    )
    np.testing.assert_allclose(actual, [[0.0, 0.5]])


def test_multi_centring_by_hand():
    features = jnp.array([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [jnp.nan, 1.0]]])
    actual = pmsacl.multi_centring(
        features, jnp.array([1, 0]), jnp.array([[9.0, 9.0], [1.0, 1.0]]), jnp.array([True, False])
    )
    # (0, 1) and (2, 3) from the centre (1, 1).
    np.testing.assert_allclose(actual, [[1.0, 13.0], [0.0, 0.0]])


# Padding and devices


@pytest.mark.parametrize("form", FORMS)
def test_padding_changes_neither_value_nor_gradient(form):
    features, classes, centres = draw(5, 2, 3), jnp.array([1, 0, 0, 2, 1]), draw(3, 3, seed=1)
    real = jnp.array([0, 1, 4])
    valid = jnp.zeros(5, bool).at[real].set(True)
    padded = jnp.where(valid[:, None, None], features, jnp.inf)
    void = jnp.where(valid, classes, -1)

    def weighted(x, classes, valid, weights):
        each = FORMS[form](x, classes, centres, valid)
        return jnp.sum(each.T @ weights), each

    weights = jnp.array([1.0, 2.0, -3.0, 0.5, 1.5])
    run = jax.jit(jax.grad(weighted, has_aux=True))
    gradient, each = run(padded, void, valid, weights)
    inner_gradient, inner = run(features[real], classes[real], None, weights[real])
    np.testing.assert_allclose(each[real], inner, rtol=5e-6)
    np.testing.assert_array_equal(each[~valid], np.zeros((2, 2)))
    np.testing.assert_allclose(gradient[real], inner_gradient, atol=1e-5)
    np.testing.assert_array_equal(gradient[~valid], np.zeros((2, 2, 3)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_mean_over_eight_devices_is_that_of_one(layout):
    rows = {
        "inputs": draw(16, 2, 4),
        "classes": np.random.default_rng(2).integers(0, 3, 16),
        "valid": (np.arange(16) < 13) & (np.arange(16) != 1),
    }
    weights, centres = jnp.array([0.5, -1.0, 2.0, 1.0]), draw(3, 4, seed=1)

    def loss(weights, rows, axis_name):
        features, valid = rows["inputs"] * weights, rows["valid"]
        losses = [
            function(features, rows["classes"], centres, valid, axis_name=axis_name)
            for function in FORMS.values()
        ]
        return masked.mean(losses[0] - 3.0 * losses[1], valid[:, None], axis_name=axis_name)

    def on_device(rows):
        value, gradient = jax.value_and_grad(loss)(weights, rows, AXIS)
        return value, jax.lax.pmean(gradient, AXIS)

    actual = spread(layout, on_device, rows)
    expected = jax.jit(jax.value_and_grad(partial(loss, axis_name=None)))(weights, rows)
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(actual[1], expected[1], rtol=5e-5, atol=1e-6)


# Centres


def test_centres_of_parts_merge_by_adding():
    features, classes = draw(7, 2, 3), jnp.array([0, 2, 2, 0, 2, 0, 0])
    zero = pmsacl.zero_centres(4, 3)
    whole = add(zero, features, classes)
    parts = [add(zero, features[i], classes[i]) for i in (slice(3), slice(3, 7))]
    merged = jax.tree.map(jnp.add, *parts)
    np.testing.assert_allclose(
        pmsacl.finish_centres(merged), pmsacl.finish_centres(whole), rtol=1e-5
    )


def test_centres_are_the_means_of_real_rows():
    features, valid = draw(5, 2, 3), jnp.array([True, True, False, True, True])
    classes = jnp.array([0, 2, 0, 2, 2])
    padded = jnp.where(valid[:, None, None], features, jnp.nan)
    total = add(pmsacl.zero_centres(3, 3), padded, classes, valid)
    expected = [features[0].mean(0), np.zeros(3), features[np.array([1, 3, 4])].mean((0, 1))]
    np.testing.assert_allclose(pmsacl.finish_centres(total), np.stack(expected), rtol=1e-5)
    np.testing.assert_array_equal(total.counts, [2, 0, 6])


def test_sums_stay_float32_for_16_bit_features():
    total = add(
        pmsacl.zero_centres(1, 1), jnp.full((4096, 1), 1.0, jnp.bfloat16), jnp.zeros(4096, int)
    )
    assert total.sums.dtype == jnp.float32
    np.testing.assert_array_equal(total.sums, [[4096.0]])


@pytest.mark.parametrize("sizes, name", [((0, 3), "classes"), ((3, 0), "dim")])
def test_bad_sizes_of_centres_are_named(sizes, name):
    with pytest.raises(ValueError, match=f"{name}: expected an integer of at least 1, got 0"):
        pmsacl.zero_centres(*sizes)
