"""Mean field of a dense conditional random field over the pixels of an image.

Every pixel is tied to every other, so that regions, not single pixels, decide on a class. With
K_ij = exp(-½ |f_i - f_j|²), i = j included, D_i = Σ_j K_ij and K̂ = D^-½ K D^-½, the marginals start
as the classifier's probabilities p and become, again and again,

    Q = softmax_c(log clip(p, 1e-5, 1) + weight · K̂ Q)

which is the Potts model. Maps are `[..., H, W, K]`, classes last. Everything is computed exactly.
Of the libraries on the Python package index, pydensecrf 1.0rc3 and SimpleCRF 0.2.1 do not compile
with Python 3.11 and NumPy 2; a fork, pydensecrf2 1.1, does, from C++ sources. It filters on a
permutohedral lattice, which was up to 0.02 (`gaussian`) and 0.11 (`bilateral`) away from the dense
marginals of document 001's golden vectors, against 1e-6 here, and it runs on the host only: it is
no dependency.

Sources: Krähenbühl and Koltun, https://arxiv.org/abs/1210.5644; the forms and constants of the CAOS
benchmark, Hendrycks et al., https://arxiv.org/abs/1911.11132 ("MSP + CRF" of document 001).
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxad.losses import checks, filtering, masked

__all__ = ["MOST_PIXELS", "bilateral", "gaussian", "score"]

MOST_PIXELS = 65_536  # Of an image for `bilateral`, whose work grows with their square.

_LOWEST = 1e-5
_REACH = 6.0  # In standard deviations: a Gaussian has 2e-9 of its weight beyond.
_BLOCK = 2**22  # Entries of the kernel at hand at a time.


def gaussian(
    probabilities: jax.Array, *, sigma: float = 3.0, weight: float = 3.0, iterations: int = 100
) -> jax.Array:
    """Marginals where places alone tie pixels: f = (x, y) / sigma.

    Two filters of `12 · sigma` taps per iteration. With sigma 10 and weight 10 it stands in for
    `bilateral` on images too large for that: probabilities divided by 13 hardly move f, which
    leaves marginals within 5e-3.

    The loop holds a few maps of the size of `probabilities`. Reverse differentiation keeps those of
    every iteration.

    Args:
        probabilities: p in [0, 1], floats `[..., H, W, K]`, else a `TypeError` or a `ValueError`.
        sigma: In pixels, above 0, else a `ValueError`.
        weight: Of the neighbours; 0 leaves clipped and normalised probabilities.
        iterations: At least 1, else a `ValueError`.

    Returns:
        Q, `[..., H, W, K]` in [0, 1], at least float32; sums to 1 over classes.
    """
    _check(probabilities, iterations, sigma=sigma)
    probabilities = masked.widen(probabilities)
    kernel, roots = _separable(probabilities.shape[-3:-1], sigma)
    roots = jnp.asarray(roots, probabilities.dtype)[..., None]

    def spread(marginals):
        filtered = filtering.separable_filter(
            marginals * roots, kernel, axes=(-3, -2), padding="zero"
        )
        return filtered * roots

    return _iterate(probabilities, spread, weight, iterations)


def bilateral(
    probabilities: jax.Array,
    *,
    sigma: float = 10.0,
    class_sigma: float = 13.0,
    weight: float = 10.0,
    iterations: int = 100,
) -> jax.Array:
    """Marginals where places and probabilities tie pixels: f = (x / sigma, y / sigma, p / 13).

    All pairs of pixels, N² of them, in each iteration; images of a batch one after the other. The
    kernel is made anew in blocks of at most 16 MiB and never held whole, nor kept for derivatives.
    For larger images see `gaussian`.

    Args:
        probabilities: p in [0, 1], floats `[..., H, W, K]`, else a `TypeError` or a `ValueError`;
            of at most `MOST_PIXELS` pixels per image, else a `ValueError`.
        sigma: In pixels, above 0, else a `ValueError`.
        class_sigma: What probabilities are divided by, above 0, else a `ValueError`.
        weight: Of the neighbours; 0 leaves clipped and normalised probabilities.
        iterations: At least 1, else a `ValueError`.

    Returns:
        Q, `[..., H, W, K]` in [0, 1], at least float32; sums to 1 over classes.
    """
    _check(probabilities, iterations, sigma=sigma, class_sigma=class_sigma)
    probabilities = masked.widen(probabilities)
    *outer, height, width, classes = probabilities.shape
    if height * width > MOST_PIXELS:
        raise ValueError(
            f"probabilities: expected at most {MOST_PIXELS} pixels per image, got "
            f"{height} x {width}."
        )

    places = jnp.stack(jnp.mgrid[:height, :width], axis=-1).reshape(-1, 2)
    places = places.astype(probabilities.dtype)

    def one(image):
        features = jnp.concatenate([places, image], axis=-1)
        multiply = functools.partial(_multiply, features, sigma, class_sigma)
        roots = jax.lax.rsqrt(multiply(jnp.ones((height * width, 1), image.dtype)))
        return _iterate(image, lambda q: multiply(q * roots) * roots, weight, iterations)

    images = probabilities.reshape(-1, height * width, classes)
    return jax.lax.map(one, images).reshape(*outer, height, width, classes)


def score(marginals: jax.Array) -> jax.Array:
    """1 - max_k Q_k, as the sum of the others: it keeps its digits where Q rounds to 1.

    Args:
        marginals: Q, floats `[..., K]` of sum 1, else a `TypeError`.

    Returns:
        `[...]` in [0, 1 - 1 / K], at least float32; higher is more anomalous.
    """
    checks.floating("marginals", marginals)
    marginals = masked.widen(marginals)
    largest = jnp.argmax(marginals, axis=-1, keepdims=True) == jnp.arange(marginals.shape[-1])
    return jnp.sum(jnp.where(largest, 0.0, marginals), axis=-1)


def _iterate(
    probabilities: jax.Array, spread: Callable, weight: float, iterations: int
) -> jax.Array:
    unary = jnp.log(jnp.clip(probabilities, _LOWEST, 1.0))

    # Checkpointed: the backward pass keeps the marginals of an iteration and nothing else.
    @jax.checkpoint
    def update(marginals):
        return jax.nn.softmax(unary + weight * spread(marginals), axis=-1)

    return jax.lax.fori_loop(0, iterations, lambda _, q: update(q), probabilities)


def _separable(size: tuple[int, int], sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Taps of exp(-k² / (2 sigma²)), and D^-½ `[H, W]`, the product of both axes' own."""
    radius = min(math.ceil(_REACH * sigma), max(size) - 1)
    kernel = np.exp(-0.5 * np.square(np.arange(-radius, radius + 1) / sigma))
    inside = [np.convolve(np.ones(n), kernel)[radius : radius + n] for n in size]
    return kernel, 1.0 / np.sqrt(np.outer(*inside))


def _multiply(features, sigma, class_sigma, values):
    """K v, a block of rows of K at a time.

    Args:
        features: Places and probabilities `[N, 2 + K]`. In one array, so that differentiation,
            which computes ahead what does not depend on its arguments, keeps no places apart N².
        sigma: What places are divided by.
        class_sigma: What probabilities are divided by.
        values: v `[N, M]`.

    Returns:
        `[N, M]`.
    """
    y, x, probabilities = features[:, 0], features[:, 1], features[:, 2:]
    lengths = jnp.sum(jnp.square(probabilities), axis=-1)

    # Checkpointed: the backward pass makes a block anew instead of keeping all of them.
    @jax.checkpoint
    def row(own):
        # Places by themselves, as they are the large numbers: in |f_i|² + |f_j|² - 2 f_i · f_j of
        # whole features they would cancel. Squares of probabilities are at most 2.
        places = (jnp.square(y - own[0]) + jnp.square(x - own[1])) / sigma**2
        products = jnp.matmul(probabilities, own[2:], precision="highest")
        squares = lengths + jnp.sum(jnp.square(own[2:])) - 2.0 * products
        apart = jnp.maximum(squares, 0.0) / class_sigma**2
        return jnp.matmul(jnp.exp(-0.5 * (places + apart)), values, precision="highest")

    count = max(1, min(len(features), _BLOCK // len(features)))
    return jax.lax.map(row, features, batch_size=count)


def _check(probabilities, iterations, **widths):
    checks.floating("probabilities", probabilities)
    if jnp.ndim(probabilities) < 3:
        raise ValueError(
            f"probabilities: expected axes [..., H, W, K], got {jnp.shape(probabilities)}."
        )
    if 0 in jnp.shape(probabilities)[-3:]:
        raise ValueError(
            f"probabilities: expected pixels and classes, got {jnp.shape(probabilities)}."
        )
    checks.positive_integer("iterations", iterations)
    for name, width in widths.items():
        if not width > 0.0:
            raise ValueError(f"{name}: expected a number above 0, got {width}.")
