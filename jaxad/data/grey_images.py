"""Arithmetic of grey images: one channel of three, and the range [0, 1]."""

import numpy as np

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601, as Pillow's "L".


def luminance(images: np.ndarray) -> np.ndarray:
    """One channel of three.

    Args:
        images: uint8 `[..., 3]`, RGB.

    Returns:
        uint8 `[...]`, rounded.
    """
    return np.round(images.astype(np.float32) @ _LUMA).astype(np.uint8)


def unit_range(image: np.ndarray) -> np.ndarray:
    """An image shifted and scaled to span [0, 1].

    Args:
        image: Finite numbers of any shape.

    Returns:
        float32 of that shape; zeros where the image is constant.
    """
    image = image.astype(np.float32)
    low, high = image.min(), image.max()
    return (image - low) / (high - low) if high > low else np.zeros_like(image)
