"""Adversarial losses: Wasserstein critics, gradient penalty, discriminators, critics that guess.

Conventions of this file:

- Every function gives one value per example `[B]` for the caller to average; weights are the
  caller's too. The critic's loss of WGAN-GP is the mean of `wasserstein_critic` + 10 ·
  `gradient_penalty`.
- Losses are minimised by the player that they name. What a player must not change reaches it
  without gradient: stop it (`jax.lax.stop_gradient`) where one network feeds another.
- Rows of padding must be finite, or the zero gradient of a row that is dropped later turns into NaN
  (`masked.zero_outside` makes them so). Only `gradient_penalty` and `squared_slopes` have a `where`
  of their own, outside which points may hold anything.
- Discriminators give logits u: D = sigmoid(u), of which only log D = -softplus(-u) and
  log(1 - D) = -softplus(u) appear, finite for any u.
- 16-bit inputs are widened.

Sources: "document" is number 004. Its chapter 3 prints the critic's Wasserstein part with the
opposite sign (eq. 3.5), by which critic and generator would want the same; here is the sign of the
work it builds on (github.com/igul222/improved_wgan_training).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxad.losses import checks, masked

__all__ = [
    "discriminator",
    "generator_cooperative",
    "generator_minimax",
    "generator_non_saturating",
    "gradient_penalty",
    "squared_slopes",
    "wasserstein_critic",
    "wasserstein_generator",
]


def wasserstein_critic(real_values: jax.Array, fake_values: jax.Array) -> jax.Array:
    """D(x^) - D(x): its mean is minus the critic's estimate of the Wasserstein distance.

    Args:
        real_values: Critic of real examples `[B]`.
        fake_values: Critic of generated ones, the shape of `real_values`, else a `ValueError`.

    Returns:
        `[B]`, of the i-th fake against the i-th real example.

    References:
        Document, eq. 3.5, with the sign of the source it cites.
    """
    checks.floating("real_values", real_values)
    checks.floating("fake_values", fake_values)
    checks.shape_equal("fake_values", jnp.shape(fake_values), jnp.shape(real_values))
    return masked.widen(fake_values) - masked.widen(real_values)


def wasserstein_generator(fake_values: jax.Array) -> jax.Array:
    """-D(x^) (document, eq. 3.5).

    Args:
        fake_values: Critic of generated examples `[B]`.

    Returns:
        `[B]`.
    """
    checks.floating("fake_values", fake_values)
    return -masked.widen(fake_values)


def gradient_penalty(
    critic: Callable[[jax.Array], jax.Array],
    points: jax.Array,
    where: jax.Array | None = None,
) -> jax.Array:
    """(||grad D(x)|| - 1)² at each point, the norm over all entries of an example.

    Points are real and generated examples mixed by `interpolation.interpolate`, with shares from
    `interpolation.draw_shares(keys, high=1.0)`, or either themselves. The norm of a zero gradient
    has zero derivative: a constant critic costs 1.

    Args:
        critic: D, of a batch `[B, ...]` to `[B]`, else a `ValueError`. It is called on batches of
            one, under `vmap`: a critic that mixes examples does not see the others here.
        points: Floats `[B, ...]`, else a `TypeError`; constants as a rule.
        where: Real examples; broadcasts to `[B]`, else a `ValueError`. All by default.

    Returns:
        `[B]`; 0 with zero gradient outside `where`. Differentiable in what the critic closes over.

    References:
        Document, eq. 3.5; https://arxiv.org/abs/1704.00028, eq. 3.
    """
    slopes, where = _slopes(critic, points, where)
    norms = masked.norm(slopes, True, axis=tuple(range(1, slopes.ndim)))
    return jnp.where(where, jnp.square(norms - 1.0), 0.0)


def squared_slopes(
    critic: Callable[[jax.Array], jax.Array],
    points: jax.Array,
    where: jax.Array | None = None,
) -> jax.Array:
    """||grad D(x)||² at each point: the pieces of the R1 penalty of a discriminator.

    DIM adds half the mean over draws from the prior and half the mean over embeddings.

    Args:
        critic: D, of a batch `[B, ...]` to `[B]`, else a `ValueError`: logits, as a rule. It is
            called on batches of one, under `vmap`.
        points: Floats `[B, ...]`, else a `TypeError`; constants as a rule.
        where: Real examples; broadcasts to `[B]`, else a `ValueError`. All by default.

    Returns:
        `[B]`; 0 with zero gradient outside `where`. Differentiable in what the critic closes over.

    References:
        https://arxiv.org/abs/1801.04406 (R1); github.com/rdevon/DIM.
    """
    slopes, where = _slopes(critic, points, where)
    squares = jnp.sum(jnp.square(slopes), axis=tuple(range(1, slopes.ndim)))
    return jnp.where(where, squares, 0.0)


def discriminator(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """-log D(real) - log(1 - D(fake)); 2 log 2 for a discriminator that cannot tell.

    Half of it is the mean of two binary cross-entropies.

    Args:
        real_logits: u of what is to be called real `[B]`: images, or draws from a prior.
        fake_logits: u of what is generated or encoded, the shape of `real_logits`, else a
            `ValueError`.

    Returns:
        `[B]`, at least 0.

    References:
        Document, eq. 3.6, which prints the negative (what is maximised), and eq. 10.3.
    """
    checks.floating("real_logits", real_logits)
    checks.floating("fake_logits", fake_logits)
    checks.shape_equal("fake_logits", jnp.shape(fake_logits), jnp.shape(real_logits))
    return generator_non_saturating(real_logits) + generator_cooperative(fake_logits)


def generator_minimax(fake_logits: jax.Array) -> jax.Array:
    """log(1 - D(fake)): the game's own loss; its gradient vanishes where the fake is found out.

    Args:
        fake_logits: u of what is generated or encoded `[B]`.

    Returns:
        `[B]`, at most 0.

    References:
        Document, eqs. 3.6 and 10.3.
    """
    return -generator_cooperative(fake_logits)


def generator_non_saturating(fake_logits: jax.Array) -> jax.Array:
    """-log D(fake): the cross-entropy with "real"; its gradient is largest where found out.

    Args:
        fake_logits: u of what is generated or encoded `[B]`.

    Returns:
        `[B]`, at least 0.
    """
    checks.floating("fake_logits", fake_logits)
    return jax.nn.softplus(-masked.widen(fake_logits))


def generator_cooperative(fake_logits: jax.Array) -> jax.Array:
    """-log(1 - D(fake)): helps the discriminator; what one loss for both players comes to.

    For comparison with released code that minimises a single sum; it matches no prior.

    Args:
        fake_logits: u of what is generated or encoded `[B]`.

    Returns:
        `[B]`, at least 0.

    References:
        github.com/DuaneNielsen/DeepInfomaxPytorch, its prior term.
    """
    checks.floating("fake_logits", fake_logits)
    return jax.nn.softplus(masked.widen(fake_logits))


def _slopes(critic, points, where):
    """The critic's gradient at each point `[B, ...]`, and which points are real `[B]`."""
    checks.floating("points", points)
    where = masked.as_mask(where, jnp.shape(points)[:1])
    column = where.reshape(where.shape + (1,) * (jnp.ndim(points) - 1))
    points, column = masked.zero_outside(points, column)
    # A critic may be singular at 0 (a norm, say), and 0 times an infinite slope is NaN: padding
    # becomes a copy of the first real point. Without any, zeros are all there is.
    points = jnp.where(column, points, jax.lax.stop_gradient(points[jnp.argmax(where)]))

    def value(point):
        values = critic(point[None])
        checks.shape_equal("critic", jnp.shape(values), (1,))
        return values[0]

    return jax.vmap(jax.grad(value))(points), where
