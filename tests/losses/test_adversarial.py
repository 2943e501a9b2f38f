import contextlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors

from jaxad.losses import adversarial, interpolation, reconstruction

PRECISIONS = {  # Context, type, tolerance of float64 golden vectors.
    "float32": (contextlib.nullcontext, jnp.float32, 2e-5),
    "float64": (partial(jax.enable_x64, True), jnp.float64, 1e-8),
}
every_precision = pytest.mark.parametrize("precision", PRECISIONS)
REAL, FAKE = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 2, 3)), jnp.float32)


def arrays(golden, dtype):
    return {k: jnp.asarray(v, dtype) for k, v in golden.items()}


def points(golden):
    mixed = interpolation.interpolate(golden["real"], golden["fake"], golden["eps"])
    return {"interpolate": mixed, "fake": golden["fake"], "real": golden["real"]}


# Gradient penalty


@every_precision
def test_penalty_of_a_linear_critic_golden(precision):
    context, dtype, tolerance = PRECISIONS[precision]
    with context():
        golden = arrays(vectors.load("adgan", "gradient_penalty"), dtype)
        real, fake = golden["real"], golden["fake"]

        def loss(w):
            def critic(x):
                return x @ w + golden["linear/b"]

            penalty = jnp.mean(adversarial.gradient_penalty(critic, points(golden)["interpolate"]))
            distance = jnp.mean(adversarial.wasserstein_critic(critic(real), critic(fake)))
            return penalty, distance + golden["penalty_weight"] * penalty

        penalty, total = loss(golden["linear/w"])
        gradient = jax.grad(lambda w: loss(w)[0])(golden["linear/w"])
        close = partial(vectors.assert_close, rtol=tolerance, atol=tolerance)
        close(points(golden)["interpolate"], golden["interpolate"])
        close(penalty, golden["linear/penalty"])
        close(total, golden["linear/critic_loss"])
        close(gradient, golden["linear/grad_w"])


def quadratic(parameters, x):
    return 0.5 * jnp.einsum("bi,ij,bj->b", x, parameters["A"], x) + x @ parameters["b"]


def mlp(parameters, x):
    return jnp.tanh(x @ parameters["W"].T + parameters["c"]) @ parameters["v"]


@every_precision
@pytest.mark.parametrize("name, critic", [("quadratic", quadratic), ("mlp", mlp)])
def test_penalty_and_its_second_derivatives_golden(name, critic, precision):
    context, dtype, tolerance = PRECISIONS[precision]
    close = partial(vectors.assert_close, rtol=tolerance, atol=tolerance)
    with context():
        golden = arrays(vectors.load("adgan", "gradient_penalty"), dtype)
        own = vectors.part(golden, f"{name}/")
        parameters = {k: v for k, v in own.items() if "/" not in k and k in "AbWcv"}

        @jax.jit
        @jax.value_and_grad
        def penalty(parameters, at):
            return jnp.mean(adversarial.gradient_penalty(partial(critic, parameters), at))

        for place, at in points(golden).items():
            value, gradient = penalty(parameters, at)
            close(value, own[f"{place}/penalty"])
            for parameter, slope in gradient.items():
                close(slope, own[f"{place}/dpenalty_d{parameter}"])


@every_precision
def test_wasserstein_losses_golden(precision):
    context, dtype, tolerance = PRECISIONS[precision]
    close = partial(vectors.assert_close, rtol=tolerance, atol=tolerance)
    with context():
        golden = arrays(vectors.load("adgan", "gradient_penalty"), dtype)
        own = vectors.part(golden, "mlp/")
        critic = partial(mlp, {k: own[k] for k in "Wcv"})
        at_real, at_fake = critic(golden["real"]), critic(golden["fake"])
        distance = jnp.mean(adversarial.wasserstein_critic(at_real, at_fake))
        penalty = adversarial.gradient_penalty(critic, points(golden)["interpolate"])
        close(distance, own["wasserstein"])
        close(distance + 10.0 * jnp.mean(penalty), own["critic_loss"])
        close(jnp.mean(adversarial.wasserstein_generator(at_fake)), own["generator_loss"])


@pytest.mark.parametrize("mixing", ["per_image", "per_channel"])
def test_f_anogan_critic_loss_golden(mixing):
    golden = vectors.load("f_anogan", "losses")
    real, fake = jnp.asarray(golden["real"]), jnp.asarray(golden["fake"])
    if mixing == "per_image":
        at = interpolation.interpolate(real, fake, golden["alpha_per_image"])
    else:  # As the port mixes: the penalty takes any points.
        share = golden["alpha_per_channel_released_port"][:, None, None]
        at = share * real + (1.0 - share) * fake

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def loss(parameters):
        def critic(x):
            flat = jnp.moveaxis(x, -1, 1).reshape(len(x), -1)
            hidden = jnp.tanh(flat @ parameters["a.weight"].T + parameters["a.bias"])
            return hidden @ parameters["b.weight"][0] + parameters["b.bias"][0]

        penalty = jnp.mean(adversarial.gradient_penalty(critic, at))
        distance = jnp.mean(adversarial.wasserstein_critic(critic(real), critic(fake)))
        generator = jnp.mean(adversarial.wasserstein_generator(critic(fake)))
        return distance + 10.0 * penalty, (penalty, generator)

    (value, (penalty, generator)), gradient = loss(vectors.part(golden, "toy_critic/"))
    close = partial(vectors.assert_close, rtol=1e-5, atol=1e-5)
    close(value, golden[f"critic_loss_{mixing}"])
    close(penalty, golden[f"penalty_{mixing}"])
    close(generator, golden["generator_loss"])
    for name, slope in gradient.items():
        if name != "b.bias":  # It cancels but for rounding.
            close(slope, golden[f"critic_loss_{mixing}_grad/{name}"])


@pytest.mark.parametrize("length", [0.25, 1.0, 3.0])
def test_penalty_of_a_linear_critic_depends_on_its_slope_alone(length):
    slope = length * jnp.ones(6) / jnp.sqrt(6.0)
    penalty = adversarial.gradient_penalty(lambda x: x.reshape(-1, 6) @ slope + 7.0, REAL)
    assert penalty.shape == (5,)
    np.testing.assert_allclose(penalty, np.full(5, (length - 1) ** 2), atol=1e-6)


def test_unit_slope_has_no_penalty_gradient():
    def penalty(w):
        return jnp.sum(adversarial.gradient_penalty(lambda x: x.reshape(-1, 6) @ w, REAL))

    np.testing.assert_allclose(jax.grad(penalty)(jnp.eye(6)[2]), jnp.zeros(6), atol=1e-6)


def test_constant_critic_costs_one_with_zero_gradient():
    def penalty(w):
        return jnp.sum(adversarial.gradient_penalty(lambda x: x.reshape(-1, 6) @ w, REAL))

    value, gradient = jax.value_and_grad(penalty)(jnp.zeros(6))
    assert value == 5.0
    np.testing.assert_array_equal(gradient, jnp.zeros(6))


def test_penalty_is_of_each_example_alone():
    # A critic that subtracts the batch's mean: alone with itself, an example gets a flat critic.
    def mixing(x):
        values = jnp.sum(jnp.square(x), axis=(1, 2))
        return values - jnp.mean(values)

    np.testing.assert_array_equal(adversarial.gradient_penalty(mixing, REAL), jnp.ones(5))


def test_padding_is_kept_from_the_critic():
    valid = jnp.array([True, False, True, True, False])
    holes = jnp.where(valid[:, None, None], REAL, jnp.nan)

    def penalty(w, at, where):
        return adversarial.gradient_penalty(lambda x: jnp.sin(x.reshape(-1, 6)) @ w, at, where)

    w = jnp.arange(6.0)
    actual = penalty(w, holes, valid)
    np.testing.assert_allclose(actual, jnp.where(valid, penalty(w, REAL, None), 0.0), rtol=1e-6)
    assert np.isfinite(jax.grad(lambda w: jnp.sum(penalty(w, holes, valid)))(w)).all()


# Discriminators


@every_precision
def test_latent_game_golden(precision):
    context, dtype, tolerance = PRECISIONS[precision]
    close = partial(vectors.assert_close, rtol=tolerance, atol=tolerance)
    with context():
        golden = arrays(vectors.part(vectors.load("adgan", "losses"), "moderate/"), dtype)
        real, fake = golden["latent_logit_real"], golden["latent_logit_fake"]
        value, gradients = jax.value_and_grad(
            lambda *u: jnp.mean(adversarial.discriminator(*u)), (0, 1)
        )(real, fake)
        close(value, golden["latent_discriminator"])
        close(value, -golden["latent_value"])
        close(gradients[0], golden["grad_latent_discriminator_real"])
        close(gradients[1], golden["grad_latent_discriminator_fake"])
        for function, name in (
            (adversarial.generator_minimax, "latent_generator"),
            (adversarial.generator_non_saturating, "latent_generator_nonsaturating"),
        ):
            weighted = jax.value_and_grad(lambda u, f=function: golden["alpha"] * jnp.mean(f(u)))
            value, gradient = weighted(fake)
            close(value, golden[name])
            close(gradient, golden[f"grad_{name}"])
        distance = adversarial.wasserstein_critic(golden["critic_real"], golden["critic_fake"])
        close(jnp.mean(distance), golden["wasserstein_critic"])
        close(-jnp.mean(distance), golden["wasserstein_critic_as_printed"])
        generator = adversarial.wasserstein_generator(golden["critic_fake"])
        close(jnp.mean(generator), golden["visual_generator"])


@every_precision
def test_prior_matching_golden(precision):
    context, dtype, tolerance = PRECISIONS[precision]
    close = partial(vectors.assert_close, rtol=tolerance, atol=tolerance)
    with context():
        golden = arrays(
            vectors.part(vectors.load("fsad_net", "prior_matching"), "moderate/"), dtype
        )
        prior, embedding = golden["logit_prior"], golden["logit_embedding"]
        value, gradients = jax.value_and_grad(
            lambda *u: jnp.mean(adversarial.discriminator(*u)), (0, 1)
        )(prior, embedding)
        close(value, golden["discriminator_loss"])
        close(-value, golden["value"])
        close(gradients[0], golden["grad_discriminator_prior"])
        close(gradients[1], golden["grad_discriminator_embedding"])
        for function, name in (
            (adversarial.generator_minimax, "minimax"),
            (adversarial.generator_non_saturating, "nonsaturating"),
            (adversarial.generator_cooperative, "cooperative"),
        ):
            value, gradient = jax.value_and_grad(lambda u, f=function: jnp.mean(f(u)))(embedding)
            close(value, golden[f"encoder_loss_{name}"])
            close(gradient, golden[f"grad_encoder_{name}"])


@every_precision
def test_ocgan_golden(precision):
    context, dtype, tolerance = PRECISIONS[precision]
    close = partial(vectors.assert_close, rtol=tolerance, atol=tolerance)
    with context():
        golden = arrays(vectors.part(vectors.load("adgan", "baselines"), "ocgan/"), dtype)

        def both(real, fake):  # Half the sum of two cross-entropies.
            return jnp.mean(0.5 * adversarial.discriminator(golden[real], golden[fake]))

        latent = both("latent_logit_uniform", "latent_logit_encoded")
        visual = both("visual_logit_real", "visual_logit_sampled")
        classifier = both("classifier_logit_reconstruction", "classifier_logit_sampled")
        close(latent, golden["latent_discriminator_loss"])
        close(visual, golden["visual_discriminator_loss"])
        close(classifier, golden["classifier_loss"])

        errors = reconstruction.squared_error_mean(golden["image"], golden["reconstruction"])
        close(errors, golden["score"])
        latent, visual = (
            adversarial.generator_non_saturating(golden[name])
            for name in ("latent_logit_encoded", "visual_logit_mined")
        )
        close(jnp.mean(latent + visual + 10.0 * errors), golden["generator_loss_lambda10"])
        released = 10.0 * latent + visual + 250.0 * errors
        close(jnp.mean(released), golden["generator_loss_released"])


def test_undecided_discriminator_costs_two_log_two():
    actual = adversarial.discriminator(jnp.zeros(3), jnp.zeros(3))
    np.testing.assert_allclose(actual, np.full(3, 2 * np.log(2)), rtol=1e-6)


def test_slopes_of_the_three_generators():
    # -sigmoid(u), sigmoid(u) - 1 and sigmoid(u): the first two raise u, the third lowers it.
    u = jnp.array([-6.0, 0.3, 5.0])
    share = jax.nn.sigmoid(u)
    for function, expected in (
        (adversarial.generator_minimax, -share),
        (adversarial.generator_non_saturating, share - 1.0),
        (adversarial.generator_cooperative, share),
    ):
        np.testing.assert_allclose(jax.vmap(jax.grad(function))(u), expected, rtol=1e-5)


def test_losses_of_extreme_logits_are_linear():
    u = jnp.array([1e4, -1e4])
    np.testing.assert_allclose(adversarial.generator_minimax(u), [-1e4, 0.0])
    np.testing.assert_allclose(adversarial.generator_non_saturating(u), [0.0, 1e4])


# ADGAN's four players


def net(parameters, x):
    hidden = jnp.tanh(x @ parameters["w1"] + parameters["b1"]) @ parameters["w2"]
    return jnp.tanh(hidden + parameters["b2"]) if "b2" in parameters else hidden[:, 0]


@pytest.fixture(scope="module")
def players():
    golden = vectors.load("adgan", "four_players")
    return golden, {p: vectors.part(golden, f"param/{p}.") for p in ("gv", "gl", "dv", "dl")}


def critic_loss(params, golden, fake):
    critic = partial(net, params["dv"])
    at = interpolation.interpolate(golden["image"], fake, golden["eps"])
    penalty = jnp.mean(adversarial.gradient_penalty(critic, at))
    distance = jnp.mean(adversarial.wasserstein_critic(critic(golden["image"]), critic(fake)))
    return distance + golden["penalty_weight"] * penalty, penalty


def joint_losses(params, golden, stop=False):
    fake = net(params["gv"], golden["z"])
    z_hat = net(params["gl"], jax.lax.stop_gradient(fake) if stop else fake)
    visual = jnp.mean(adversarial.wasserstein_generator(net(params["dv"], fake)))
    latent = jnp.mean(adversarial.generator_minimax(net(params["dl"], z_hat)))
    cycle = jnp.mean(reconstruction.squared_error_sum(golden["z"], z_hat))
    return visual, golden["alpha"] * latent, golden["beta"] * cycle


@every_precision
def test_four_players_golden(players, precision):
    context, dtype, tolerance = PRECISIONS[precision]
    tolerance *= 2
    close = partial(vectors.assert_close, rtol=tolerance, atol=tolerance)
    with context():
        golden = arrays(players[0], dtype)
        params = jax.tree.map(lambda x: jnp.asarray(x, dtype), players[1])
        fake = net(params["gv"], golden["z"])
        z_hat = net(params["gl"], fake)
        total, penalty = critic_loss(params, golden, fake)
        visual, latent, cycle = joint_losses(params, golden)
        logits = net(params["dl"], golden["z"]), net(params["dl"], z_hat)
        decoded = net(params["gv"], net(params["gl"], golden["image"]))
        close(total, golden["critic_loss"])
        close(penalty, golden["penalty"])
        close(jnp.mean(adversarial.discriminator(*logits)), golden["latent_discriminator_loss"])
        close(visual, golden["visual_generator_loss"])
        close(latent, golden["latent_generator_loss"])
        close(cycle, golden["cycle_loss"])
        close(reconstruction.squared_error_sum(golden["image"], decoded), golden["score"])


@pytest.mark.parametrize("update", ["critic", "latent_discriminator", "joint", "joint_stop"])
def test_gradients_of_the_four_players_golden(players, update):
    golden, params = players
    golden = {k: jnp.asarray(v, jnp.float32) for k, v in golden.items()}

    def loss(params):
        fake = jax.lax.stop_gradient(net(params["gv"], golden["z"]))
        z_hat = jax.lax.stop_gradient(net(params["gl"], fake))
        if update == "critic":
            return critic_loss(params, golden, fake)[0]
        if update == "latent_discriminator":
            logits = net(params["dl"], golden["z"]), net(params["dl"], z_hat)
            return jnp.mean(adversarial.discriminator(*logits))
        return sum(joint_losses(params, golden, stop=update == "joint_stop"))

    gradient = jax.jit(jax.grad(loss))(params)
    expected = vectors.part(golden, f"grad_{update}/")
    assert expected
    for name, value in expected.items():
        player, parameter = name.split(".")
        vectors.assert_close(gradient[player][parameter], value, rtol=1e-4, atol=2e-5)


# Slopes


SLOPES = [adversarial.gradient_penalty, adversarial.squared_slopes]


def test_squared_slopes_of_a_quadratic_critic():
    # D(x) = a |x|² has the gradient 2 a x.
    slopes = adversarial.squared_slopes(
        lambda x: 3.0 * jnp.sum(jnp.square(x), axis=-1), jnp.array([[1.0, 2.0], [0.0, 0.5]])
    )
    np.testing.assert_allclose(slopes, [36.0 * 5.0, 36.0 * 0.25], rtol=1e-6)


def test_gradient_penalty_is_that_of_the_root_of_the_squared_slopes():
    def critic(x):
        return jnp.sum(jnp.sin(x), axis=(1, 2))

    slopes = adversarial.squared_slopes(critic, REAL)
    penalty = adversarial.gradient_penalty(critic, REAL)
    np.testing.assert_allclose(penalty, jnp.square(jnp.sqrt(slopes) - 1.0), rtol=1e-5)


def test_half_the_mean_squared_slopes_of_a_linear_discriminator():
    weight = jnp.array([3.0, 4.0])

    def penalty(weight):
        pieces = [adversarial.squared_slopes(lambda z: z @ weight, z) for z in REAL[:2, :, :2]]
        return 0.5 * (jnp.mean(pieces[0]) + jnp.mean(pieces[1]))

    value, gradient = jax.value_and_grad(penalty)(weight)  # ½ (25 + 25), whatever the points.
    np.testing.assert_allclose(value, 25.0, rtol=1e-6)
    np.testing.assert_allclose(gradient, 2.0 * weight, rtol=1e-6)


@pytest.mark.parametrize("penalty", SLOPES)
def test_padding_never_meets_a_critic_that_is_singular_at_zero(penalty):
    points = jnp.array([[jnp.nan, 0.0], [3.0, 4.0], [0.0, 0.0]])
    where = jnp.array([False, True, False])

    def loss(weight):
        values = penalty(lambda x: weight * jnp.sqrt(jnp.sum(x * x, axis=-1)), points, where)
        return jnp.sum(values), values

    (_, values), gradient = jax.value_and_grad(loss, has_aux=True)(2.0)
    expected = 1.0 if penalty is adversarial.gradient_penalty else 4.0  # Slope 2 everywhere.
    np.testing.assert_allclose(values, [0.0, expected, 0.0], rtol=1e-6)
    np.testing.assert_allclose(gradient, 2.0 if expected == 1.0 else 4.0, rtol=1e-6)
