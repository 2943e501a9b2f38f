"""RTFM's network: multi-scale temporal features, their magnitudes, and a snippet classifier.

Source: document 004, section 8.3.2 (eq. 8.5, 8.6) and 8.4.2; the `released` forms are those of
github.com/tianyu0207/RTFM. Sequences are `[..., T, D]`: each crop of a video is one of its own.
`where` marks real snippets; what stands at the others changes nothing at the real ones, so that a
video padded to a longer T gets the scores it gets alone.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxad.models.batch_norm import BatchNorm
from jaxad.models.example_dropout import ExampleDropout
from jaxad.models.temporal_convolution import TemporalConvolution, dot_general_of_rows

FORMS = ("paper", "released")
ATTENTION_SCALES = ("length", "none")
_DILATIONS = (1, 2, 4)
_GLOROT = nn.initializers.glorot_uniform()


def attend(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """(query @ keyᵀ) @ value, multiplied in the cheaper order: there is no softmax between.

    Args:
        query: `[..., T, C]`.
        key: `[..., T, C]`.
        value: `[..., T, F]`.

    Returns:
        `[..., T, F]`; for T beyond C no `[T, T]` map is held.
    """
    if query.shape[-2] <= query.shape[-1]:
        return (query @ jnp.swapaxes(key, -1, -2)) @ value
    return query @ (jnp.swapaxes(key, -1, -2) @ value)


class TemporalSelfAttention(nn.Module):
    """Attention over all snippets with a skip connection (TSA, eq. 8.6); the identity at first.

    The norm behind the output convolution, whose scale starts at zero, is the released code's. The
    text names no norm anywhere, but cannot do without this one: the attention is cubic in its
    input, and a loss that rewards large features drives it off (frame AUC on `digit_reels` after
    400 steps at margin 100, one seed: 0.79 with the norm, 0.28 without).

    Attributes:
        form: "paper": as wide as its input. "released": half as wide.
        attention_scale: "length" divides the attention map by the number of real snippets, "none"
            does not, as in the document; then the map grows with the length of a video.
        axis_name: Named axis of devices for batch norm.
        dtype: Of the computation.
    """

    form: str = "paper"
    attention_scale: str = "length"
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: jax.Array, where: jax.Array, *, train: bool) -> jax.Array:
        """Maps `[..., T, H]` to the same shape; `where` broadcasts to `[..., T]`."""
        features = inputs.shape[-1]
        width = features // 2 if self.form == "released" else features

        def dense(name):
            return _dense(width, self.dtype, name)(inputs)

        query, key, value = dense("query"), dense("key"), dense("value")
        # Biases make padding non-zero; both factors of the sum over snippets must be zero there.
        key = jnp.where(where[..., None], key, 0.0)
        value = jnp.where(where[..., None], value, 0.0)
        if self.attention_scale == "length":
            length = jnp.maximum(jnp.sum(where, axis=-1, dtype=jnp.float32), 1.0)
            key = (key / length[..., None, None]).astype(self.dtype)
        attended = attend(query, key, value)
        output = _dense(features, self.dtype, "output")
        norm = BatchNorm(
            scale_init=nn.initializers.zeros_init(),
            axis_name=self.axis_name,
            dtype=self.dtype,
            name="output_norm",
        )
        outputs = norm(output(attended), where, train=train)
        return outputs + inputs


class MultiScaleTemporalNetwork(nn.Module):
    """Pyramid of dilated convolutions beside self-attention over time (MTN), X = s(F).

    Three dilated convolutions (PDC) and the attention (TSA) give D / 4 channels each, X is their
    concatenation plus F. Every convolution is followed by ReLU and batch norm, in this order, the
    one in front of the attention by ReLU alone.

    For ablations a missing branch keeps its channels and loses its sight of other snippets: without
    `pdc` the three convolutions are 1 x 1, without `tsa` its 1 x 1 input convolution remains.
    Without both, one 1 x 1 convolution from D to D takes the place of all, in either form, as in
    the first row of table 8.5.

    Attributes:
        form: "paper", or "released": a further convolution of kernel 3 mixes the concatenation, and
            the attention is `TemporalSelfAttention`'s released one.
        attention_scale: See `TemporalSelfAttention`.
        pdc: Whether the convolutions of the pyramid see neighbours.
        tsa: Whether there is attention.
        axis_name: Named axis of devices for batch norm.
        dtype: Of the computation; outputs are at least float32.
    """

    form: str = "paper"
    attention_scale: str = "length"
    pdc: bool = True
    tsa: bool = True
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, features: jax.Array, where: jax.Array, *, train: bool
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps F to X.

        Args:
            features: F `[..., T, D]` with D a multiple of 4, else a `ValueError`.
            where: Real snippets; broadcasts to `[..., T]`.
            train: Whether batch norm uses the statistics of this batch.

        Returns:
            X `[..., T, D]`, zero at padding, and each branch `[..., T, D / 4]` by name.
        """
        dim = features.shape[-1]
        if dim % 4:
            raise ValueError(
                f"features: expected [..., T, D] with D % 4 == 0, got {features.shape}."
            )
        where = jnp.broadcast_to(where, features.shape[:-1])

        def real(x):
            return jnp.where(where[..., None], x, 0.0)

        def block(name, x, width, size, dilation=1, use_bias=True):
            convolution = TemporalConvolution(
                width, size, dilation, use_bias, dtype=self.dtype, name=name
            )
            norm = BatchNorm(axis_name=self.axis_name, dtype=self.dtype, name=f"{name}_norm")
            # Zero again behind each norm: the next convolution looks across the end of the video.
            return real(norm(nn.relu(convolution(x)), where, train=train))

        features = real(features)
        inputs = features.astype(self.dtype)
        if not (self.pdc or self.tsa):
            mixed, out = block("pointwise", inputs, dim, 1), {}
        else:
            size = 3 if self.pdc else 1
            out = {
                f"pdc{i}": block(f"pdc{i}", inputs, dim // 4, size, dilation)
                for i, dilation in enumerate(_DILATIONS, start=1)
            }
            projection = TemporalConvolution(
                dim // 4, 1, use_bias=False, dtype=self.dtype, name="tsa_input"
            )
            out["tsa_input"] = last = nn.relu(projection(inputs))
            if self.tsa:
                attention = TemporalSelfAttention(
                    self.form, self.attention_scale, self.axis_name, self.dtype, name="tsa"
                )
                out["tsa"] = last = real(attention(last, where, train=train))
            mixed = jnp.concatenate([out["pdc1"], out["pdc2"], out["pdc3"], last], axis=-1)
            if self.form == "released":
                mixed = block("fuse", mixed, dim, 3, use_bias=False)
        # The skip keeps the features' own precision, whatever the branches were computed in.
        return mixed + features.astype(jnp.promote_types(features.dtype, jnp.float32)), out


class SnippetClassifier(nn.Module):
    """Dense layers with ReLU and dropout, a last one to a single logit per snippet.

    Attributes:
        hidden: Widths of the layers before the last.
        dropout: Rate behind each of them.
        axis_name: Named axis of devices for dropout; the first axis of the inputs is the batch.
        dtype: Of the computation.
    """

    hidden: Sequence[int] = (512, 128)
    dropout: float = 0.7
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, features: jax.Array, *, train: bool) -> jax.Array:
        """Maps `[B, ..., D]` to logits `[B, ...]`, at least float32."""
        x = features.astype(self.dtype)
        for i, width in enumerate(self.hidden, start=1):
            x = _dense(width, self.dtype, f"dense{i}")(x)
            x = ExampleDropout(self.dropout, self.axis_name)(nn.relu(x), train=train)
        logits = nn.Dense(1, kernel_init=_GLOROT, dtype=self.dtype, name="logit")(x)[..., 0]
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


class RTFM(nn.Module):
    """Scores and feature magnitudes of all snippets of videos.

    Attributes:
        form, attention_scale, pdc, tsa: See `MultiScaleTemporalNetwork`.
        hidden: Widths of the classifier's hidden layers.
        feature_dropout: Rate of dropout on X, in front of both magnitudes and classifier.
        classifier_dropout: Rate of dropout inside the classifier.
        axis_name: Named axis of devices for batch norm and dropout while training.
        dtype: Of the computation; parameters, statistics and outputs are float32.
    """

    form: str = "paper"
    attention_scale: str = "length"
    pdc: bool = True
    tsa: bool = True
    hidden: Sequence[int] = (512, 128)
    feature_dropout: float = 0.7
    classifier_dropout: float = 0.7
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, features: jax.Array, where: jax.Array | None = None, *, train: bool
    ) -> dict[str, jax.Array]:
        """Runs the network on every crop by itself; crops are averaged behind sigmoid and norm.

        Args:
            features: `[B, N, T, D]`, else a `ValueError`.
            where: Real snippets `[B, T]`, else a `ValueError`; all by default. None of a padding
                row.
            train: Whether to drop out and to use the batch's statistics.

        Returns:
            `features` X `[B, N, T, D]`; `crop_scores [B, N, T]` in [0, 1]; their mean over crops,
            `scores [B, T]`; `magnitudes [B, T]`, the mean over crops of the norm of X. At padding
            all are zero. Further the branches of the temporal network by name.
        """
        if features.ndim != 4:
            raise ValueError(f"features: expected [B, N, T, D], got {features.shape}.")
        rows, _, length, _ = features.shape
        where = jnp.ones((rows, length), bool) if where is None else where.astype(bool)
        if where.shape != (rows, length):
            raise ValueError(f"where: expected shape {(rows, length)}, got {where.shape}.")
        network = MultiScaleTemporalNetwork(
            self.form,
            self.attention_scale,
            self.pdc,
            self.tsa,
            self.axis_name,
            self.dtype,
            name="temporal_network",
        )
        x, out = network(features, where[:, None], train=train)
        x = ExampleDropout(self.feature_dropout, self.axis_name)(x, train=train)
        classifier = SnippetClassifier(
            self.hidden, self.classifier_dropout, self.axis_name, self.dtype, name="classifier"
        )
        crop_scores = jnp.where(where[:, None], nn.sigmoid(classifier(x, train=train)), 0.0)
        return {
            **out,
            "features": x,
            "crop_scores": crop_scores,
            "scores": jnp.mean(crop_scores, axis=1),
            "magnitudes": jnp.mean(_norm(x), axis=1),
        }


def _norm(x):
    # Zero slope at a zero vector, such as padding, where the root's own slope is infinite.
    squares = jnp.sum(jnp.square(x), axis=-1)
    return jnp.where(squares > 0.0, jnp.sqrt(jnp.where(squares > 0.0, squares, 1.0)), 0.0)


def _dense(features, dtype, name):
    dot = dot_general_of_rows
    return nn.Dense(features, kernel_init=_GLOROT, dot_general=dot, dtype=dtype, name=name)
