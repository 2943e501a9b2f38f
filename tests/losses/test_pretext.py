import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors

from jaxad.losses import pretext

SIZES = ("image_size", "patch_size")
aligned = jax.jit(pretext.augmentation_classification)
tiled = jax.jit(pretext.augmentation_classification_released)
sample = jax.jit(pretext.sample_neighbours, static_argnames=SIZES)
sample_released = jax.jit(pretext.sample_neighbours_released, static_argnames=SIZES)


def keys(n, seed=0):
    return jax.random.split(jax.random.key(seed), n)


# Augmentation classification


def test_golden_augmentation_classification_of_a_model():
    golden = vectors.part(vectors.load("ccd", "heads_and_model"), "model/train/")
    logits = golden["logits"].reshape(3, 2, 4)
    labels = golden["labels_per_item"]
    right, released = aligned(logits, labels), tiled(logits, labels)
    assert right.shape == released.shape == (3, 2)
    vectors.assert_close(jnp.mean(right), golden["classification_aligned"], rtol=1e-6)
    vectors.assert_close(
        jnp.mean(released), golden["classification_released_misaligned"], rtol=1e-6
    )


@pytest.mark.parametrize("case", ["B2_K2_D5", "B3_K4_D8"])
def test_golden_augmentation_classification_of_classes(case):
    golden = vectors.part(vectors.load("pmsacl", "losses"), f"{case}/")
    logits = golden["augmentation_logits"]
    images, classes, views, _ = logits.shape
    each = aligned(logits.reshape(-1, views, classes), np.tile(np.arange(classes), images))
    vectors.assert_close(jnp.mean(each), golden["augmentation_loss"], rtol=1e-6)


def test_each_view_is_taught_its_item():
    # Confident logits (log 3 against 0 of two classes): -log(3/4) where right, -log(1/4) elsewhere.
    logits = jnp.log(3.0) * jax.nn.one_hot(jnp.array([[0, 1], [1, 1]]), 2)
    actual = aligned(logits, jnp.array([0, 1]))
    right, wrong = np.log(4 / 3), np.log(4.0)
    np.testing.assert_allclose(actual, [[right, wrong], [right, right]], rtol=1e-6)


def test_released_labels_are_tiled_over_interleaved_rows():
    # Items 0, 1, 2 with labels 5, 6, 7: rows are taught 5 6 | 7 5 | 6 7.
    taught = np.array([[5, 6], [7, 5], [6, 7]])
    logits = 50.0 * jax.nn.one_hot(taught, 8)
    actual = tiled(logits, jnp.array([5, 6, 7]))
    np.testing.assert_allclose(actual, np.zeros((3, 2)), atol=1e-6)


def test_forms_agree_for_one_item_and_for_equal_labels():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 4)), jnp.float32)
    for rows, labels in ((1, [2]), (3, [1, 1, 1])):
        np.testing.assert_array_equal(
            aligned(logits[:rows], jnp.array(labels)), tiled(logits[:rows], jnp.array(labels))
        )


def test_indifferent_logits_cost_the_logarithm_of_the_classes():
    each = aligned(jnp.zeros((2, 2, 4)), jnp.array([3, 0]))
    np.testing.assert_allclose(each, np.full((2, 2), np.log(4.0)), rtol=1e-6)
    each = pretext.patch_position(jnp.zeros((3, 8)), jnp.array([0, 4, 7]))
    np.testing.assert_allclose(each, np.full(3, np.log(8.0)), rtol=1e-6)


# Position


def test_golden_position_head():
    golden = vectors.part(vectors.load("ccd", "heads_and_model"), "position/")
    state = vectors.part(golden, "state/")

    def loss(h1, h2):
        x = h1 - h2
        for name in ("fc1", "fc2"):
            x = jax.nn.leaky_relu(x @ state[f"{name}.weight"].T + state[f"{name}.bias"], 0.1)
        logits = pretext.normalized_linear_released(x, state["fc3.weight"].T, state["fc3.bias"])
        return jnp.mean(pretext.patch_position(logits, golden["labels"])), logits

    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (value, logits), (grad_h1, grad_h2) = run(golden["h1"], golden["h2"])
    vectors.assert_close(logits, golden["logits"], rtol=1e-5)
    vectors.assert_close(value, golden["loss"], rtol=1e-6)
    vectors.assert_close(grad_h1, golden["grad_h1"], rtol=1e-5)
    vectors.assert_close(grad_h2, golden["grad_h2"], rtol=1e-5)


def test_golden_short_position_head():
    everything = vectors.load("ccd", "heads_and_model")
    golden = vectors.part(everything, "position_short/")
    state = vectors.part(golden, "state/")
    x = everything["position/h1"] - everything["position/h2"]
    x = jax.nn.relu(x @ state["0.weight"].T + state["0.bias"])
    logits = pretext.normalized_linear_released(x, state["2.weight"].T, state["2.bias"])
    vectors.assert_close(logits, golden["logits"], rtol=1e-5)


# Normalised linear map


def test_golden_normalized_linear():
    golden = vectors.part(vectors.load("ccd", "heads_and_model"), "normalized_linear/")
    labels = golden["labels"][:, None]

    def loss(x, kernel, bias):
        logits = pretext.normalized_linear_released(x, kernel, bias)
        each = pretext.augmentation_classification(logits[:, None], labels[:, 0])
        return jnp.mean(each), logits

    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
    (value, logits), gradients = run(golden["x"], golden["weight"].T, golden["bias"])
    vectors.assert_close(logits, golden["y"], rtol=1e-5)
    vectors.assert_close(value, golden["cross_entropy"], rtol=1e-6)
    vectors.assert_close(gradients[0], golden["grad_x"], rtol=1e-5)
    np.testing.assert_array_equal(gradients[1], np.zeros_like(golden["weight"].T))
    vectors.assert_close(gradients[2], golden["grad_bias"], rtol=1e-5)


def test_norm_runs_over_the_outputs_of_each_input():
    kernel = jnp.array([[3.0, 4.0], [0.0, -2.0]])
    actual = pretext.normalized_linear(jnp.eye(2), kernel, jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(actual, [[1.6, 0.8], [1.0, -1.0]], rtol=1e-6)


def test_gradient_of_the_kernel_is_orthogonal_to_it_or_none():
    rng = np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((5, 3), (3, 4)))

    def gradient(function):
        return jax.grad(lambda k: jnp.sum(jnp.sin(function(x, k, jnp.zeros(4)))))(kernel)

    flowing = gradient(pretext.normalized_linear)
    assert np.max(np.abs(flowing)) > 0.1
    np.testing.assert_allclose(jnp.sum(flowing * kernel, axis=-1), np.zeros(3), atol=1e-5)
    np.testing.assert_array_equal(gradient(pretext.normalized_linear_released), np.zeros((3, 4)))


# Neighbours


def test_golden_positions():
    golden = vectors.load("ccd", "positions")
    columns = dict(zip(golden["columns"].tolist(), golden["rows"].T, strict=True))
    inside = 0
    for size in np.unique(golden["rows"][:, :3], axis=0):
        of_size = np.all(golden["rows"][:, :3] == size, axis=1)
        c = {name: values[of_size] for name, values in columns.items()}
        first, jitter = np.stack([c["h1"], c["w1"]], 1), np.stack([c["dh"], c["dw"]], 1)
        height, width, patch = (int(x) for x in size)
        expected = np.stack([c["h2"], c["w2"]], 1)
        clipped = pretext.neighbour_corner_released(
            first, c["label"], jitter, image_size=(height, width), patch_size=patch
        )
        np.testing.assert_array_equal(clipped, expected)
        free = pretext.neighbour_corner(first, c["label"], jitter, patch_size=patch)
        fits = np.all((free >= 0) & (free <= np.array([height, width]) - patch), axis=1)
        np.testing.assert_array_equal(np.asarray(free)[fits], expected[fits])
        inside += fits.sum()
    assert inside > 50


def test_golden_directions():
    golden = vectors.load("ccd", "positions")
    np.testing.assert_array_equal(pretext.DIRECTIONS, golden["direction_of_label"])


def test_neighbour_by_hand():
    # Up by 24 + 3, right by 24 + 5.
    actual = pretext.neighbour_corner(
        jnp.array([100, 100]), jnp.array(2), jnp.array([3, 5]), patch_size=32
    )
    np.testing.assert_array_equal(actual, [73, 129])


def test_clipping_can_leave_the_patch_where_it_is():
    clipped = pretext.neighbour_corner_released(
        jnp.array([7, 0]), jnp.array(3), jnp.array([1, 1]), image_size=(64, 64), patch_size=32
    )
    np.testing.assert_array_equal(clipped, [7, 0])


@pytest.mark.parametrize("image_size, patch_size", [((63, 80), 32), ((32, 200), 17)])
def test_sampled_neighbours_fit_and_lie_where_the_label_says(image_size, patch_size):
    first, second, direction = sample(keys(2000), image_size=image_size, patch_size=patch_size)
    assert first.shape == second.shape == (2000, 2)
    for corner in (first, second):
        assert np.all(corner >= 0)
        assert np.all(corner + patch_size <= np.array(image_size))
    step = np.asarray(second - first)
    np.testing.assert_array_equal(np.sign(step), pretext.DIRECTIONS[direction])
    moved = np.abs(step[step != 0])
    lowest, jitters = patch_size * 3 // 4, patch_size // 4
    np.testing.assert_array_equal(np.unique(moved), np.arange(lowest, lowest + jitters))
    assert moved.max() < patch_size


def test_directions_are_drawn_evenly():
    direction = sample(keys(2000), image_size=(63, 80), patch_size=32).direction
    counts = np.bincount(direction, minlength=8)
    # 250 each, with a standard deviation of 15.
    assert np.all(np.abs(counts - 250) < 5 * 15)


def test_patches_reach_every_place_that_fits():
    first, second, direction = sample(keys(4000), image_size=(10, 9), patch_size=4)
    # Patches of 4 step by exactly 3; to the right, column 0 to 2 of the first fit, 3 to 5 for
    # the second; rows 0 to 6 do not move.
    right = np.asarray(direction) == 4
    np.testing.assert_array_equal(np.unique(first[right], axis=0)[:, 1], np.tile([0, 1, 2], 7))
    np.testing.assert_array_equal(np.unique(second[right, 1]), [3, 4, 5])


def test_released_neighbours_are_clipped_from_patches_anywhere():
    first, second, direction = sample_released(keys(2000), image_size=(40, 48), patch_size=32)
    np.testing.assert_array_equal(first.max(0), [8, 16])
    np.testing.assert_array_equal(first.min(0), [0, 0])
    # A step of 24 or more leaves the range on either side: it ends on a border.
    moves = pretext.DIRECTIONS[direction]
    expected = np.where(moves > 0, [8, 16], np.where(moves < 0, 0, first))
    np.testing.assert_array_equal(second, expected)


def test_a_pair_depends_on_its_own_key_alone():
    whole = sample(keys(2000), image_size=(63, 80), patch_size=32)
    part = sample(keys(2000)[2:4], image_size=(63, 80), patch_size=32)
    for a, b in zip(whole, part, strict=True):
        np.testing.assert_array_equal(a[2:4], b)


@pytest.mark.parametrize("draw", [sample, sample_released])
def test_smallest_patches_have_another_for_a_neighbour(draw):
    drawn = draw(keys(64), image_size=(9, 9), patch_size=2)
    moved = np.any(np.asarray(drawn.first) != np.asarray(drawn.second), axis=-1)
    # The released neighbours are clipped to the image, so that at the border some do not move.
    assert np.all(moved) if draw is sample else np.mean(moved) > 0.5
