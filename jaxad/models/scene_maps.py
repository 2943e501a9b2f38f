"""What every segmentation network returns."""

from typing import NamedTuple

import jax


class SceneMaps(NamedTuple):
    """Maps of a batch of images at the strides of a network: not yet enlarged to the image size.

    Attributes:
        logits: One per class, `[B, h, w, C]`, float32.
        features: What the last classifier reads, `[B, h, w, D]`, in the type of the computation.
        auxiliary: Logits of the branch for deep supervision, `[B, h', w', C]`, float32; None
            outside training or where the network has no such branch.
        encoder: Output of the encoder, `[B, h'', w'', c]`, in the type of the computation; None
            where the network does not offer it.
    """

    logits: jax.Array
    features: jax.Array
    auxiliary: jax.Array | None = None
    encoder: jax.Array | None = None
