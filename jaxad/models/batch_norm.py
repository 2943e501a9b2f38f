"""Batch normalisation with the statistics of PyTorch, over real entries only, over all devices."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class BatchNorm(nn.Module):
    """Normalises each channel over all other axes, then scales and shifts it.

    As in PyTorch, and unlike `flax.linen.BatchNorm`, the running variance is that of an unbiased
    estimate (factor n / (n - 1), n counted over all devices), while the batch itself is normalised
    by the biased one. The variance is summed from differences to the mean, which keeps its digits
    where the mean is large.

    Attributes:
        momentum: Share of the running statistics that a step keeps (1 - PyTorch's `momentum`).
        epsilon: Added to the variance.
        scale_init: Of the scale; ones by default.
        axis_name: Named axis of devices whose sums and counts are added up while training. They may
            hold different numbers of real entries.
        dtype: Of the outputs; parameters and statistics are float32.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    scale_init: nn.initializers.Initializer = nn.initializers.ones_init()
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, inputs: jax.Array, where: jax.Array | None = None, *, train: bool
    ) -> jax.Array:
        """Normalises `[..., C]`.

        Args:
            inputs: `[..., C]`.
            where: Real entries; broadcasts to `[...]`. The others enter no statistic, whatever they
                hold.
            train: Whether to use, and to keep, the statistics of this batch. Collection
                `batch_stats` then changes: `mean` if a single entry is real, `var` (of one:
                undefined) if two are.

        Returns:
            `[..., C]`; entries that are not real are normalised like the others.
        """
        features = inputs.shape[-1:]
        scale = self.param("scale", self.scale_init, features)
        bias = self.param("bias", nn.initializers.zeros_init(), features)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, features)
        running_var = self.variable("batch_stats", "var", jnp.ones, features)
        inputs = inputs.astype(jnp.promote_types(inputs.dtype, jnp.float32))
        if train:
            # Initialisation runs outside the mesh, where the axis has no name.
            axis_name = None if self.is_initializing() else self.axis_name
            mean, var, count = batch_statistics(inputs, where, axis_name=axis_name)
            if not self.is_initializing():
                unbiased = var * count / jnp.maximum(count - 1.0, 1.0)
                running_mean.value = self._blend(running_mean.value, mean, count >= 1)
                running_var.value = self._blend(running_var.value, unbiased, count >= 2)
        else:
            mean, var = running_mean.value, running_var.value
        outputs = (inputs - mean) * (jax.lax.rsqrt(var + self.epsilon) * scale) + bias
        return outputs.astype(self.dtype)

    def _blend(self, running, new, counts):
        blend = self.momentum * running + (1.0 - self.momentum) * jax.lax.stop_gradient(new)
        return jnp.where(counts, blend, running)


def batch_statistics(
    inputs: jax.Array, where: jax.Array | None = None, *, axis_name: str | None = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean and biased variance of each channel over the real entries of all devices.

    Args:
        inputs: `[..., C]`.
        where: Real entries; broadcasts to `[...]`.
        axis_name: Named axis of devices.

    Returns:
        Mean `[C]`, variance `[C]` and the number of real entries, a scalar; zeros if there are
        none.
    """
    where = jnp.ones((), bool) if where is None else jnp.asarray(where).astype(bool)
    where = jnp.broadcast_to(where, inputs.shape[:-1])
    axes = tuple(range(inputs.ndim - 1))

    def total(values):
        sums = jnp.sum(values, axis=axes)
        return sums if axis_name is None else jax.lax.psum(sums, axis_name)

    count = total(where.astype(inputs.dtype))
    divisor = jnp.maximum(count, 1.0)
    inputs = jnp.where(where[..., None], inputs, 0.0)
    mean = total(inputs) / divisor
    # Differences sum to zero, so that the mean in them has no slope: nothing to carry back.
    centre = jax.lax.stop_gradient(mean)
    differences = jnp.where(where[..., None], inputs - centre, 0.0)
    return mean, total(jnp.square(differences)) / divisor, count
