import contextlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors

from jaxad.losses import distillation, entropy

PRECISIONS = {  # Context, type, tolerance of float64 golden vectors.
    "float32": (contextlib.nullcontext, jnp.float32, 2e-5),
    "float64": (partial(jax.enable_x64, True), jnp.float64, 1e-9),
}
RNG = np.random.default_rng(0)
LOGITS = jnp.asarray(RNG.uniform(-1.0, 1.0, (3, 4, 5)), jnp.float32)  # [B, V, K]
TEACHER = jnp.asarray(RNG.dirichlet(np.ones(5), (3, 2)), jnp.float32)  # [B, G, K]


def by_image(end_to_end, images):
    """`[views · B, K]` as released to `[B, views, K]`."""
    return end_to_end.reshape(-1, images, end_to_end.shape[-1]).swapaxes(0, 1)


# Positive views


@pytest.mark.parametrize("call", [0, 1, 2])
def test_positive_loss_center_and_gradient_are_those_of_the_release(call):
    golden = vectors.load("self_distillation", "dino_loss")
    center = golden[f"center_before{call}"][0]
    tau_t = golden["temp_schedule"][golden["epochs"][call]]
    teacher = by_image(golden[f"teacher{call}"], 3)
    targets = distillation.teacher_probabilities(teacher, center, temperature=tau_t)

    @jax.jit
    @jax.value_and_grad
    def loss(student):
        return jnp.mean(distillation.positive_views_mean(student, targets, temperature=0.1))

    value, gradient = loss(by_image(golden[f"student{call}"], 3))
    following = distillation.update_center(center, teacher)
    close = partial(vectors.assert_close, rtol=1e-4, atol=1e-5)
    close(targets, by_image(golden[f"teacher_prob{call}"], 3))
    close(value, golden[f"loss{call}"])
    close(gradient, by_image(golden[f"g_student{call}"], 3))
    close(following, golden[f"center_after{call}"][0])


def test_sum_runs_over_pairs_of_different_views():
    # Written out: views 1, 2, 3 against the teacher's view 0, and 0, 2, 3 against its view 1.
    log_shares = jax.nn.log_softmax(LOGITS / 0.1)
    pairs = [(0, 1), (0, 2), (0, 3), (1, 0), (1, 2), (1, 3)]
    expected = sum(-jnp.sum(TEACHER[:, g] * log_shares[:, v], axis=-1) for g, v in pairs)
    actual = distillation.positive_views(LOGITS, TEACHER)
    assert actual.shape == (3,)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    mean = distillation.positive_views_mean(LOGITS, TEACHER)
    np.testing.assert_allclose(mean, expected / 6, rtol=1e-5)


def test_pairs_of_the_same_view_are_zero_and_the_others_not():
    pairs = distillation.pair_cross_entropy(LOGITS, TEACHER)
    assert pairs.shape == (3, 2, 4)
    np.testing.assert_array_equal(np.asarray(pairs == 0).any(0), np.eye(2, 4, dtype=bool))


def test_swapping_the_global_views_changes_nothing():
    swapped = jnp.array([1, 0, 2, 3])
    np.testing.assert_allclose(
        distillation.positive_views(LOGITS[:, swapped], TEACHER[:, ::-1]),
        distillation.positive_views(LOGITS, TEACHER),
        rtol=1e-6,
    )


def test_equal_views_and_temperatures_give_the_entropy():
    logits = jnp.broadcast_to(LOGITS[:, :1], (3, 3, 5))
    targets = distillation.teacher_probabilities(logits, jnp.zeros(5), temperature=0.2)
    actual = distillation.positive_views_mean(logits, targets, temperature=0.2)
    np.testing.assert_allclose(actual, entropy.entropy(logits[:, 0] / 0.2), rtol=1e-5)


def test_smallest_positive_loss_of_cosine_logits():
    # One logit of 1, all others -1, and a target on it: log(1 + (K - 1) e^(-2 / tau)).
    with jax.enable_x64(True):  # 1 + 8e-6 has two digits of the 8 in float32.
        own = jnp.arange(4096) == 7
        logits = jnp.tile(jnp.where(own, 1.0, -1.0), (1, 2, 1))
        actual = distillation.positive_views(logits, own.astype(float)[None, None])
        np.testing.assert_allclose(actual, [np.log1p(4095 * np.exp(-20.0))], rtol=1e-6)


def test_gradient_of_a_pair_is_the_difference_of_probabilities():
    # One teacher's and two student's views: d/dz of view 1 is (p_s - p_t) / tau, of view 0 zero.
    gradient = jax.grad(lambda z: distillation.positive_views(z, TEACHER[:, :1])[0])(LOGITS[:, :2])
    expected = (jax.nn.softmax(LOGITS[0, 1] / 0.1) - TEACHER[0, 0]) / 0.1
    np.testing.assert_allclose(gradient[0], [jnp.zeros(5), expected], atol=1e-5)
    np.testing.assert_array_equal(gradient[1:], 0.0)


def test_teacher_gets_no_gradient():
    def loss(teacher, center):
        targets = distillation.teacher_probabilities(teacher, center, temperature=0.05)
        return jnp.sum(distillation.positive_views(LOGITS, targets))

    for gradient in jax.grad(loss, (0, 1))(LOGITS[:, :2], jnp.zeros(5)):
        np.testing.assert_array_equal(gradient, 0.0)
    through = jax.grad(lambda p: jnp.sum(distillation.positive_views(LOGITS, p)))(TEACHER)
    np.testing.assert_array_equal(through, 0.0)


def test_only_the_difference_of_teacher_and_center_counts():
    shift = jnp.array([3.0, -1.0, 0.5, 2.0, 7.0])
    probabilities = partial(distillation.teacher_probabilities, temperature=0.1)
    np.testing.assert_allclose(
        probabilities(LOGITS + shift, shift), probabilities(LOGITS, jnp.zeros(5)), atol=1e-5
    )


def test_colder_teachers_are_sharper():
    entropies = [
        entropy.entropy_of_probabilities(
            distillation.teacher_probabilities(LOGITS, jnp.zeros(5), temperature=tau)
        )
        for tau in (1.0, 0.1, 0.01)
    ]
    assert (entropies[0] > entropies[1]).all()
    assert (entropies[1] > entropies[2]).all()


# Negative views


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", ["c0", "c1", "c2", "c3"])
def test_negative_loss_golden(case, precision):
    context, dtype, tolerance = PRECISIONS[precision]
    golden = vectors.part(vectors.load("self_distillation", "negative_loss"), f"{case}/")
    close = partial(vectors.assert_close, rtol=tolerance, atol=tolerance)
    with context():
        logits = jnp.asarray(golden["logits"], dtype).swapaxes(0, 1)
        for function, reduction in (
            (distillation.negative_views_mean, "mean"),
            (distillation.negative_views, "sum"),
        ):
            value, gradient = jax.jit(jax.value_and_grad(lambda z, f=function: jnp.mean(f(z))))(
                logits
            )
            close(value, golden[f"loss_{reduction}"])
            expected = golden[f"grad_{reduction}"].swapaxes(0, 1)
            atol = tolerance * max(np.abs(expected).max(), 1e-2)  # Case 3 has no gradient.
            np.testing.assert_allclose(gradient, expected, rtol=0, atol=atol)
        close(entropy.uniform_cross_entropy(logits / 0.1), golden["per_view"].T)


def test_negative_loss_lies_between_its_bounds():
    # |z| <= 1 and tau = 0.1: at most the mean of K logits, one of which is 20 above the others.
    one_hot = jnp.where(jnp.arange(4096) == 0, 1.0, -1.0)[None, None]
    highest = distillation.negative_views(one_hot)
    lowest = distillation.negative_views(0.3 * jnp.ones((1, 1, 4096)))
    np.testing.assert_allclose(highest, [19.99513], rtol=1e-6)
    np.testing.assert_allclose(lowest, [np.log(4096)], rtol=1e-6)


def test_uniform_logits_are_the_minimum():
    constant = jnp.full((1, 2, 5), 0.4)
    gradient = jax.grad(lambda z: distillation.negative_views(z)[0])(constant)
    np.testing.assert_allclose(gradient, jnp.zeros_like(constant), atol=1e-6)
    least = distillation.negative_views(constant)
    assert (distillation.negative_views(LOGITS[:, :2]) > least).all()


def test_negative_loss_ignores_shifts_and_order_of_classes():
    expected = distillation.negative_views(LOGITS)
    shifted = distillation.negative_views(LOGITS[..., ::-1] + 2.0)
    np.testing.assert_allclose(shifted, expected, rtol=1e-5)


def test_no_negative_images_cost_nothing():
    assert distillation.negative_views(jnp.zeros((0, 9, 5))).shape == (0,)


# State


def test_center_moves_to_the_mean_of_the_real_images():
    logits = jnp.array([[[1.0, 3.0]], [[jnp.nan, 9.0]], [[3.0, -1.0]]])
    actual = distillation.update_center(
        jnp.array([10.0, 0.0]), logits, jnp.array([True, False, True]), momentum=0.75
    )
    np.testing.assert_allclose(actual, [0.75 * 10 + 0.25 * 2, 0.25 * 1], rtol=1e-6)
    assert actual.dtype == jnp.float32


def test_center_stays_without_real_images():
    center = jnp.array([10.0, -2.0])
    actual = distillation.update_center(center, jnp.ones((3, 2, 2)), jnp.zeros(3, bool))
    np.testing.assert_array_equal(actual, center)


def test_ema_keeps_or_copies_at_its_ends():
    average, values = {"w": jnp.array([1.0, -3.0])}, {"w": jnp.array([5.0, 0.5])}
    kept = distillation.ema(average, values, momentum=1.0)
    copied = distillation.ema(average, values, momentum=0.0)
    np.testing.assert_array_equal(kept["w"], average["w"])
    np.testing.assert_array_equal(copied["w"], values["w"])


def test_ema_moves_by_one_minus_momentum_and_copies_counters():
    average = {"w": jnp.array([1.0, -3.0]), "count": jnp.int32(3)}
    values = {"w": jnp.array([5.0, 0.0]), "count": jnp.int32(9)}
    actual = distillation.ema(average, values, momentum=0.75)
    np.testing.assert_allclose(actual["w"], [2.0, -2.25], rtol=1e-6)
    assert actual["count"] == 9
    assert actual["count"].dtype == jnp.int32


# Schedules


@pytest.mark.parametrize("case", ["s0", "s1", "s2", "s3"])
def test_cosine_schedule_golden(case):
    golden = vectors.part(vectors.load("self_distillation", "schedules"), f"{case}/")
    base, final, epochs, per_epoch, warmup, start = golden["args"]
    with jax.enable_x64(True):
        values = distillation.cosine_schedule(
            np.arange(len(golden["values"])),
            base=base,
            final=final,
            steps=int(epochs * per_epoch),
            warmup_steps=int(warmup * per_epoch),
            start=start,
        )
        assert values.dtype == jnp.float64
    np.testing.assert_allclose(values, golden["values"], rtol=1e-12, atol=1e-18)


@pytest.mark.parametrize("case", ["t0", "t1", "t2"])
def test_linear_schedule_golden(case):
    golden = vectors.part(vectors.load("self_distillation", "schedules"), f"{case}/")
    start, end, steps, epochs = golden["args"]
    with jax.enable_x64(True):
        values = distillation.linear_schedule(
            np.arange(int(epochs)), start=start, end=end, steps=int(steps)
        )
    np.testing.assert_allclose(values, golden["values"], rtol=1e-12)


def test_schedules_stay_at_their_end_and_may_be_traced():
    cosine = partial(distillation.cosine_schedule, base=0.5, final=0.1, steps=9, warmup_steps=1)
    linear = partial(distillation.linear_schedule, start=0.5, end=0.1, steps=9)
    np.testing.assert_allclose(jax.jit(cosine)(100), 0.1, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(linear)(100), 0.1, rtol=1e-6)
    assert cosine(0) == 0.0  # A warm-up of one step has only its start.


# Occupied soft classes


@pytest.mark.parametrize("case", ["c0", "c1", "c2"])
def test_occupied_dimensions_golden(case):
    golden = vectors.part(vectors.load("self_distillation", "occupied"), f"{case}/")
    shares = distillation.teacher_probabilities(
        golden["teacher_logits"], golden["center"], temperature=golden["tau_t"]
    )
    assert distillation.occupied_dimensions(shares) == golden["occupied"]
    vectors.assert_close(shares.mean(0), golden["mean_prob"], rtol=1e-4, atol=1e-5)
    mean = jnp.asarray(golden["mean_prob"], jnp.float32)[None]
    assert distillation.occupied_dimensions(mean) == golden["occupied"]


def test_one_class_occupies_one_dimension_and_the_uniform_none():
    one_hot = jnp.tile(jnp.eye(7)[2], (5, 1))
    uniform = jax.nn.softmax(jnp.zeros((1000, 7)))
    assert distillation.occupied_dimensions(one_hot) == 1
    assert distillation.occupied_dimensions(uniform) == 0
    assert distillation.occupied_dimensions(one_hot, jnp.zeros(5, bool)) == 0


@pytest.mark.parametrize(
    ("warmup_steps", "expected"),
    [(0, [2.0]), (1, [0.5, 2.0]), (2, [0.5, 2.0, 2.0]), (3, [0.5, 1.25, 2.0, 2.0])],
)
def test_first_steps_of_a_warm_up(warmup_steps, expected):
    values = distillation.cosine_schedule(
        jnp.arange(9), base=2.0, final=1.0, steps=8, warmup_steps=warmup_steps, start=0.5
    )
    np.testing.assert_allclose(values[: len(expected)], expected, rtol=1e-6)
    np.testing.assert_allclose(values[8], 1.0, rtol=1e-6)
