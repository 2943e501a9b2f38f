"""Free energy of logits: the map, its margins, its regularisers and its smoothing.

Conventions of this file:

- Classes are the last axis of logits; an energy map is `[..., H, W]`. A higher energy is more
  anomalous.
- `where`, `inlier` and `outlier` are booleans, or zeros and ones. A pixel in no mask is void. What
  lies outside a mask may be anything, NaN included.
- 16-bit inputs are widened: results are float32 or wider.

Sources: "document" is the thesis 004, whose chapter 11 describes PEBAL; "released" is the code
published with it (github.com/tianyu0207/PEBAL).
"""

import jax
import jax.numpy as jnp

from jaxad.losses import checks, filtering, masked

__all__ = [
    "free_energy",
    "gaussian_smoothing",
    "inlier_margin",
    "margins_released",
    "outlier_margin",
    "smoothness",
    "smoothness_released",
    "sparsity",
    "sparsity_released",
]


def free_energy(logits: jax.Array, *, temperature: float = 1.0) -> jax.Array:
    """-T log sum_k exp(z_k / T): at most -max z, and within T log K of it.

    Adding a constant to all logits of a pixel lowers its energy by that constant.

    Args:
        logits: z, floats `[..., K]`, else a `TypeError`; without an abstention channel.
        temperature: T, above 0, else a `ValueError`.

    Returns:
        Energy `[...]`, at least float32.

    References:
        Document, eq. 11.4, has T = 1; Liu et al., Energy-based Out-of-distribution Detection,
        https://arxiv.org/abs/2010.03759, eq. 4.
    """
    checks.floating("logits", logits)
    if not temperature > 0.0:
        raise ValueError(f"temperature: expected a number above 0, got {temperature}.")
    return -temperature * jax.nn.logsumexp(masked.widen(logits) / temperature, axis=-1)


def gaussian_smoothing(
    values: jax.Array,
    *,
    size: int = 7,
    sigma: float = 1.0,
    dilation: int = 1,
    padding: str = "reflect",
) -> jax.Array:
    """A map filtered with a Gaussian, each map for itself.

    The defaults are those of PEBAL's energy maps. The standardised max logit uses `dilation=6` and
    `padding="edge"`.

    Args:
        values: Floats `[..., H, W]`, else a `TypeError`. For "reflect", sides longer than
            `dilation * (size // 2)`, else a `ValueError`.
        size: Taps per axis, odd, else a `ValueError`.
        sigma: Standard deviation in taps, above 0, else a `ValueError`.
        dilation: Distance of neighbouring taps in pixels.
        padding: "reflect", "edge" or "zero", else a `ValueError`.

    Returns:
        `[..., H, W]`, at least float32.

    References:
        Document, section 11.3.3, for scoring; the released code smooths the penalty of training
        the same way.
    """
    if padding == "valid":
        raise ValueError(f"padding: expected reflect, edge or zero, got {padding!r}.")
    kernel = filtering.gaussian_kernel(size, sigma)
    return filtering.separable_filter(values, kernel, padding=padding, dilation=dilation)


def inlier_margin(
    energy: jax.Array, where: jax.Array | None = None, *, margin: float = -12.0
) -> jax.Array:
    """max(0, E - margin)²: inliers cost nothing from the margin downwards.

    Args:
        energy: E, floats `[...]`, else a `TypeError`.
        where: Inlier pixels; broadcasts to `energy`, else a `ValueError`. All by default.
        margin: The highest energy without cost.

    Returns:
        Loss per pixel `[...]`, not reduced; 0 with zero gradient outside `where`.

    References:
        Document, eq. 11.6.
    """
    energy, where = _selected("energy", energy, where)
    return jnp.where(where, jnp.square(jax.nn.relu(energy - margin)), 0.0)


def outlier_margin(
    energy: jax.Array, where: jax.Array | None = None, *, margin: float = -6.0
) -> jax.Array:
    """max(0, margin - E)²: outliers cost nothing from the margin upwards.

    Args:
        energy: E, floats `[...]`, else a `TypeError`.
        where: Outlier pixels; broadcasts to `energy`, else a `ValueError`. All by default.
        margin: The lowest energy without cost.

    Returns:
        Loss per pixel `[...]`, not reduced; 0 with zero gradient outside `where`.

    References:
        Document, eq. 11.7.
    """
    energy, where = _selected("energy", energy, where)
    return jnp.where(where, jnp.square(jax.nn.relu(margin - energy)), 0.0)


def margins_released(
    energy: jax.Array,
    inlier: jax.Array,
    outlier: jax.Array,
    *,
    margin_in: float = -12.0,
    margin_out: float = -6.0,
    axis_name: str | None = None,
) -> jax.Array:
    """Half the sum of both mean margin losses, or the whole inlier one where no outlier exists.

    Args:
        energy: E, floats `[B, ...]`, else a `TypeError`.
        inlier: Inlier pixels; broadcasts to `energy`, else a `ValueError`.
        outlier: Outlier pixels; broadcasts to `energy`, else a `ValueError`.
        margin_in: The highest energy of an inlier without cost.
        margin_out: The lowest energy of an outlier without cost.
        axis_name: Named axis of devices: the means are over the pixels of all of them.

    Returns:
        Scalar; a mean over no pixels is 0 (the released code returns NaN).

    References:
        Released code, without its factor 0.1.
    """
    each_in = inlier_margin(energy, inlier, margin=margin_in)
    each_out = outlier_margin(energy, outlier, margin=margin_out)
    mean_in = masked.mean(each_in, inlier, axis_name=axis_name)
    mean_out = masked.mean(each_out, outlier, axis_name=axis_name)
    present = masked.count(outlier, each_out, axis_name=axis_name) > 0.0
    return jnp.where(present, 0.5 * (mean_in + mean_out), mean_in)


def smoothness(energy: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """Sum of |E - E_right| + |E - E_below| over a map; last column and row have no such neighbour.

    Args:
        energy: E, floats `[..., H, W]`, else a `TypeError`.
        where: Pixels that count; broadcasts to `energy`, else a `ValueError`. A difference needs
            both its ends. All by default: inliers, outliers and void.

    Returns:
        Sum per map `[...]`.

    References:
        Document, eq. 11.8, first term without its weight.
    """
    return _steps(energy, where, masked.absolute)


def smoothness_released(energy: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """Half the sum of (E - E_right)² + (E - E_below)² over a map.

    The released code adds up the maps of a batch without dividing by their number.

    Args:
        energy: E, floats `[..., H, W]`, else a `TypeError`.
        where: Pixels that count, as for `smoothness`. All by default: inliers, outliers and void.

    Returns:
        Sum per map `[...]`.

    References:
        Released code, without its factor 3e-6.
    """
    return 0.5 * _steps(energy, where, jnp.square)


def sparsity(energy: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """Sum of |E| over a map.

    Args:
        energy: E, floats `[..., H, W]`, else a `TypeError`.
        where: Pixels that count; broadcasts to `energy`, else a `ValueError`. All by default.

    Returns:
        Sum per map `[...]`.

    References:
        Document, eq. 11.8, second term without its weight.
    """
    energy, where = _selected("energy", energy, where)
    _check_map(energy)
    return jnp.sum(masked.absolute(energy), axis=(-2, -1))


def sparsity_released(
    energy: jax.Array, outlier: jax.Array, *, axis_name: str | None = None
) -> jax.Array:
    """Euclidean norm of the energies of all outlier pixels of the batch together.

    Args:
        energy: E, floats `[B, ...]`, else a `TypeError`.
        outlier: Outlier pixels; broadcasts to `energy`, else a `ValueError`.
        axis_name: Named axis of devices: their squares are added up before the root.

    Returns:
        Scalar; 0 with zero gradient without outliers.

    References:
        Released code, without its factor 5e-4.
    """
    return masked.norm(energy, outlier, axis_name=axis_name)


def _steps(energy, where, cost):
    energy, where = _selected("energy", energy, where)
    _check_map(energy)
    right = cost(energy[..., :, 1:] - energy[..., :, :-1])
    below = cost(energy[..., 1:, :] - energy[..., :-1, :])
    both = (-2, -1)
    return masked.total(right, where[..., :, 1:] & where[..., :, :-1], axis=both) + masked.total(
        below, where[..., 1:, :] & where[..., :-1, :], axis=both
    )


def _selected(name, values, where):
    """Values in at least float32, 0 where not selected, and the mask in their shape."""
    checks.floating(name, values)
    return masked.zero_outside(values, where)


def _check_map(energy):
    if energy.ndim < 2:
        raise ValueError(f"energy: expected axes [..., H, W], got {energy.shape}.")
