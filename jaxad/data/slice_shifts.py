"""Changes of intensity that make other data of slices: another contrast, or an uneven coil.

Neither is a transform that the system makes outliers with (gamma is one). What surrounds the scan
as zeros, such as padding, stays zero.

Source: our stand-ins for the document's third kind of shift, "another condition", where only one
data set is at hand.
"""

from collections.abc import Callable, Mapping

import numpy as np

from jaxad.data import grey_images, photographs

_FIELD = 0.5  # Standard deviation of the logarithm of the bias field.
_CELLS = (3, 3)  # Of its grid, over the slice.


def inverted(image: np.ndarray, _seed: tuple[int, ...]) -> np.ndarray:
    """Dark for bright, as another weighting of the scan would show tissues.

    Args:
        image: float32 `[H, W]` in [0, 1].

    Returns:
        float32 `[H, W]` that spans [0, 1]; 0 outside the box of all values above 0.
    """
    return _inside(image, lambda scan: scan.max() - scan)


def bias_field(image: np.ndarray, seed: tuple[int, ...]) -> np.ndarray:
    """Multiplied by a smooth, strong random field, as near to a surface coil.

    The mean is that of the image again before values above 1 are cut off: otherwise the brightest
    spot would decide how dark all the rest is, and the mean alone would tell shifted slices.

    Args:
        image: float32 `[H, W]` in [0, 1].
        seed: Numbers that decide the field.

    Returns:
        float32 `[H, W]` in [0, 1].
    """
    rng = np.random.default_rng(seed)
    field = photographs.smooth_field(rng, image.shape, _CELLS)
    uneven = image * np.exp(_FIELD * field)
    mean = uneven.mean()
    return np.clip(uneven * (image.mean() / mean if mean > 0 else 1), 0, 1).astype(np.float32)


SHIFTS: Mapping[str, Callable[[np.ndarray, tuple[int, ...]], np.ndarray]] = {
    "bias_field": bias_field,
    "inverted": inverted,
}


def _inside(image: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Applies a function to the box that holds all values above 0; zeros elsewhere."""
    shifted = np.zeros_like(image)
    if image.any():
        box = tuple(
            slice(used[0], used[-1] + 1)
            for used in (np.flatnonzero((image > 0).any(axis=axis)) for axis in (1, 0))
        )
        shifted[box] = function(image[box])
    return grey_images.unit_range(shifted)
