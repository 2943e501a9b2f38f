"""Fields of `config.stages.<name>.optimizer` become the update rule and schedule they name."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxad.errors import InputError
from jaxad.training import optimizers

PARAMS = jnp.array([2.0, -1.0, 0.5])
GRADIENT = jnp.array([0.5, 0.25, -1.0])
DECAY, RATE, B1, B2, EPS = 0.1, 0.01, 0.9, 0.999, 1e-8


def step(fields, params=PARAMS, gradient=GRADIENT):
    """The change of the parameters by the first step."""
    tx = optimizers.build(fields, 10)
    return tx.update(gradient, tx.init(params), params)[0]


def rates(total, **fields):
    """Learning rates of steps 0 … total: those of SGD on a gradient of -1."""
    tx = optimizers.build({"name": "sgd", **fields}, total)

    def one(state, _):
        update, state = tx.update(jnp.array(-1.0), state)
        return state, update

    return np.asarray(jax.lax.scan(one, tx.init(jnp.array(0.0)), length=total + 1)[1])


def test_weight_decay_of_adam_is_added_to_the_gradient():
    g = np.asarray(GRADIENT + DECAY * PARAMS, np.float64)
    # Of the first step, the corrected moments are g and g^2: (1 - b) g / (1 - b).
    mean, square = (1 - B1) * g / (1 - B1), (1 - B2) * g**2 / (1 - B2)
    expected = -RATE * mean / (np.sqrt(square) + EPS)
    fields = dict(name="adam", learning_rate=RATE, weight_decay=DECAY, b1=B1, b2=B2, eps=EPS)
    np.testing.assert_allclose(step(fields), expected, rtol=1e-5)


def test_second_step_of_adam_with_weight_decay():
    """Signs alone decide the first step: the second tells coupled from decoupled in its size."""
    tx = optimizers.build(dict(name="adam", learning_rate=RATE, weight_decay=DECAY), 10)
    params, state = PARAMS, tx.init(PARAMS)
    expected, m, v = np.asarray(PARAMS, np.float64), 0.0, 0.0
    for t, gradient in enumerate([GRADIENT, -2 * GRADIENT], 1):
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        g = np.asarray(gradient, np.float64) + DECAY * expected
        m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g**2
        expected = expected - RATE * (m / (1 - B1**t)) / (np.sqrt(v / (1 - B2**t)) + EPS)
    np.testing.assert_allclose(params, expected, rtol=1e-5)


def test_weight_decay_of_adamw_is_decoupled():
    g = np.asarray(GRADIENT, np.float64)
    expected = -RATE * (g / (np.abs(g) + EPS) + DECAY * np.asarray(PARAMS))
    actual = step(dict(name="adamw", learning_rate=RATE, weight_decay=DECAY, eps=EPS))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_adamw_decays_only_if_asked():
    actual = step(dict(name="adamw", learning_rate=RATE), gradient=jnp.zeros(3))
    np.testing.assert_array_equal(actual, np.zeros(3))


def test_weight_decay_of_sgd_is_added_to_the_gradient():
    actual = step(dict(name="sgd", learning_rate=RATE, weight_decay=DECAY))
    np.testing.assert_allclose(actual, -RATE * (GRADIENT + DECAY * PARAMS), rtol=1e-6)


def test_weight_decay_of_lars_is_counted_once():
    """LARS scales the decayed gradient by eta |w| / |g + decay w|: You et al. 2017, algorithm 1."""
    eta, w, g = 0.001, np.asarray(PARAMS, np.float64), np.asarray(GRADIENT, np.float64)
    decayed = g + DECAY * w
    expected = -RATE * eta * np.linalg.norm(w) / np.linalg.norm(decayed) * decayed
    actual = step(dict(name="lars", learning_rate=RATE, weight_decay=DECAY))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_adagrad_of_the_original_deepmil():
    """The accumulator starts at 0: the first step is the sign of the gradient."""
    fields = dict(name="adagrad", learning_rate=RATE, initial_accumulator_value=0.0, eps=EPS)
    np.testing.assert_allclose(step(fields), -RATE * np.sign(GRADIENT), rtol=1e-5)


@pytest.mark.parametrize("name", sorted(optimizers.OPTIMIZERS))
def test_every_optimizer_goes_downhill(name):
    change = step(dict(name=name, learning_rate=RATE))
    assert change.shape == PARAMS.shape
    assert float(jnp.sum(change * GRADIENT)) < 0


def test_further_fields_reach_the_optimizer():
    """With Nesterov momentum m, the first step is (1 + m) times the gradient."""
    actual = step(dict(name="sgd", learning_rate=RATE, momentum=0.5, nesterov=True))
    np.testing.assert_allclose(actual, -RATE * 1.5 * GRADIENT, rtol=1e-6)


# Schedules. The last step has number total - 1, and so stays above the end of a decay.


def test_constant_is_the_default():
    np.testing.assert_allclose(rates(8, learning_rate=0.4), np.full(9, 0.4), rtol=1e-6)


def test_cosine():
    expected = 0.4 * (1 + np.cos(np.pi * np.arange(9) / 8)) / 2
    actual = rates(8, learning_rate=0.4, schedule="cosine")
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-7)


def test_cosine_restarts_of_document_000():
    """150 steps: cycles of 10, 20, 40 and 80, each from the peak down to zero."""
    fields = dict(schedule="cosine_restarts", cycles=4, cycle_factor=2.0)
    actual = rates(150, learning_rate=0.4, **fields)[:150]
    np.testing.assert_allclose(np.flatnonzero(np.isclose(actual, 0.4)), [0, 10, 30, 70])
    for start, length in ((0, 10), (10, 20), (30, 40), (70, 80)):
        expected = 0.4 * (1 + np.cos(np.pi * np.arange(length) / length)) / 2
        np.testing.assert_allclose(actual[start : start + length], expected, rtol=1e-4, atol=1e-6)


def test_cosine_restarts_of_one_cycle_are_cosine():
    plain = rates(8, learning_rate=0.4, schedule="cosine")
    once = rates(8, learning_rate=0.4, schedule="cosine_restarts", cycles=1)
    np.testing.assert_allclose(once, plain, rtol=1e-6)


def test_a_stage_shorter_than_its_cycles_has_finite_rates():
    assert np.isfinite(rates(2, learning_rate=0.4, schedule="cosine_restarts")).all()


@pytest.mark.parametrize("wrong", [dict(cycles=0), dict(cycle_factor=0.0)])
def test_cycles_out_of_range(wrong):
    fields = dict(name="sgd", learning_rate=0.1, schedule="cosine_restarts", **wrong)
    with pytest.raises(InputError, match="at least one cycle and a factor above 0"):
        optimizers.build(fields, 10)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_undecayed_parameters_do_not_decay(name):
    params = {"kernel": PARAMS, "inner": {"prototypes": PARAMS}}
    fields = dict(name=name, learning_rate=RATE, weight_decay=DECAY)
    gradient = jax.tree.map(lambda _: jnp.zeros(3), params)
    everywhere = step(fields, params, gradient)
    partly = step(fields | {"undecayed": ["prototypes"]}, params, gradient)
    np.testing.assert_array_equal(partly["inner"]["prototypes"], np.zeros(3))
    np.testing.assert_array_equal(partly["kernel"], everywhere["kernel"])
    assert np.any(everywhere["inner"]["prototypes"])


def test_undecayed_names_that_no_parameter_has():
    fields = dict(name="adamw", learning_rate=RATE, weight_decay=DECAY, undecayed=["centre"])
    with pytest.raises(InputError, match=r"no parameter is named 'centre'.*kernel"):
        step(fields, {"kernel": PARAMS}, {"kernel": GRADIENT})


def test_linear():
    actual = rates(8, learning_rate=0.4, schedule="linear")
    np.testing.assert_allclose(actual[[0, 4, 8]], [0.4, 0.2, 0.0], atol=1e-7)


@pytest.mark.parametrize("fields, power", [({}, 0.9), ({"power": 2.0}, 2.0)])
def test_polynomial(fields, power):
    actual = rates(8, learning_rate=0.4, schedule="polynomial", **fields)
    expected = 0.4 * (1 - np.arange(9) / 8) ** power
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("schedule", sorted(optimizers.SCHEDULES))
def test_warmup_rises_from_zero_to_the_peak(schedule):
    actual = rates(12, learning_rate=0.4, schedule=schedule, warmup_steps=4)
    np.testing.assert_allclose(actual[:5], [0.0, 0.1, 0.2, 0.3, 0.4], rtol=1e-5)


def test_decay_after_a_warmup_ends_with_the_stage():
    actual = rates(12, learning_rate=0.4, schedule="linear", warmup_steps=4)
    np.testing.assert_allclose(actual[[8, 12]], [0.2, 0.0], atol=1e-7)


@pytest.mark.parametrize("schedule", sorted(optimizers.SCHEDULES))
def test_stage_without_steps_builds(schedule):
    fields = dict(name="sgd", learning_rate=0.4, schedule=schedule, warmup_steps=3)
    assert optimizers.build(fields, 0).init(PARAMS) is not None


# Clipping.


@pytest.mark.parametrize("norm, scale", [(0.5, 0.1), (5.0, 1.0), (50.0, 1.0)])
def test_clip_norm_bounds_the_global_norm(norm, scale):
    gradient = {"a": jnp.array([3.0]), "b": jnp.array([[0.0, 4.0]])}  # Norm 5 over both.
    fields = dict(name="sgd", learning_rate=1.0, clip_norm=norm)
    actual = step(fields, jax.tree.map(jnp.zeros_like, gradient), gradient)
    for name in gradient:
        np.testing.assert_allclose(actual[name], -scale * gradient[name], rtol=1e-6)


def test_gradient_is_clipped_before_weight_decay_is_added():
    fields = dict(name="sgd", learning_rate=1.0, clip_norm=0.5, weight_decay=DECAY)
    clipped = GRADIENT * 0.5 / jnp.linalg.norm(GRADIENT)
    np.testing.assert_allclose(step(fields), -(clipped + DECAY * PARAMS), rtol=1e-5)


# Errors.


def adam(**fields):
    return dict(name="adam", learning_rate=RATE, **fields)


@pytest.mark.parametrize(
    "fields, message",
    [
        (dict(name="adamm", learning_rate=RATE), r"optimizer.name='adamm' .*'adagrad', 'adam',"),
        (dict(learning_rate=RATE), r"optimizer.name=None .*'adam'"),
        (dict(name="adam"), r"optimizer.learning_rate=None; expected a number"),
        (dict(name="adam", learning_rate=-1.0), r"learning_rate=-1.0; expected .*at least 0"),
        (dict(name="adam", learning_rate="fast"), r"learning_rate='fast'; expected a number"),
        (adam(schedule="cosin"), r"optimizer.schedule='cosin' .*'constant', 'cosine',"),
        (adam(momentum=0.9), r"'adam' has no field \['momentum'\]; expected \[.*'b1', 'b2'"),
        (adam(power=2.0), r"'adam' has no field \['power'\]"),
    ],
)
def test_mistake_names_the_field_and_what_is_known(fields, message):
    with pytest.raises(InputError, match=message):
        optimizers.build(fields, 10)


@pytest.mark.parametrize(
    "typo, meant",
    [("warmup_step", "warmup_steps"), ("clip", "clip_norm"), ("weight_decays", "weight_decay")],
)
def test_list_of_known_fields_has_the_common_ones(typo, meant):
    with pytest.raises(InputError, match=f"{typo}.*expected .*'{meant}'"):
        optimizers.build(adam(**{typo: 1}), 10)


def test_learning_rate_that_is_no_number_is_refused():
    with pytest.raises(InputError, match=r"learning_rate=nan; expected a number"):
        optimizers.build(dict(name="adam", learning_rate=float("nan")), 10)


def test_fields_are_left_as_they_are():
    fields = adam(schedule="cosine", warmup_steps=2, clip_norm=1.0, weight_decay=0.1)
    before = dict(fields)
    optimizers.build(fields, 10)
    assert fields == before
