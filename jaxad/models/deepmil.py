"""The snippet network of Sultani et al., https://arxiv.org/abs/1801.04264, and its linear front."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxad.models.example_dropout import ExampleDropout


class DeepMIL(nn.Module):
    """Three dense layers that score each snippet by itself.

    Attributes:
        projection: Whether a 1 x 1 convolution (a dense layer from D to D without activation)
            stands in front, as in the baseline of document 004, table 8.5.
        hidden: Widths of the first layer, followed by ReLU, and of the second, which has no
            activation.
        dropout: Rate behind each of the two.
        axis_name: Named axis of devices for dropout while training.
        dtype: Of the computation; parameters and scores are float32.
    """

    projection: bool = False
    hidden: tuple[int, int] = (512, 32)
    dropout: float = 0.6
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, features: jax.Array, *, train: bool) -> dict[str, jax.Array]:
        """Scores features `[B, N, T, D]`, else a `ValueError`.

        Returns:
            `crop_scores [B, N, T]` in [0, 1] and their mean over crops, `scores [B, T]`.
        """
        if features.ndim != 4:
            raise ValueError(f"features: expected [B, N, T, D], got {features.shape}.")

        def dense(name, width, x):
            init = nn.initializers.glorot_normal()
            return nn.Dense(width, kernel_init=init, dtype=self.dtype, name=name)(x)

        x = features.astype(self.dtype)
        if self.projection:
            x = dense("projection", features.shape[-1], x)
        x = nn.relu(dense("dense1", self.hidden[0], x))
        x = ExampleDropout(self.dropout, self.axis_name)(x, train=train)
        x = dense("dense2", self.hidden[1], x)
        x = ExampleDropout(self.dropout, self.axis_name)(x, train=train)
        logits = dense("logit", 1, x)[..., 0]
        crop_scores = nn.sigmoid(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
        return {"crop_scores": crop_scores, "scores": jnp.mean(crop_scores, axis=1)}
