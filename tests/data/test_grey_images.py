"""Grey images span [0, 1], and so do shifts of their intensity."""

import numpy as np
import pytest
from PIL import Image

from jaxad.data import grey_images, slice_shifts

RAMP = np.outer(np.linspace(0, 1, 12), np.linspace(0.2, 1, 16)).astype(np.float32)


def test_luminance_is_that_of_pillow():
    colours = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(colours).convert("L"))
    assert np.abs(grey_images.luminance(colours).astype(int) - expected).max() <= 1


def test_unit_range():
    np.testing.assert_allclose(
        grey_images.unit_range(np.array([3, 5, 7], np.uint8)), [0, 0.5, 1], rtol=1e-6
    )
    flat = grey_images.unit_range(np.full((2, 2), 7.0))
    assert (flat.dtype, flat.max()) == (np.float32, 0)


def test_inverted_swaps_the_order_of_intensities():
    shifted = slice_shifts.inverted(RAMP, (0,))
    assert (shifted.min(), shifted.max(), shifted.dtype) == (0, 1, np.float32)
    inside = np.s_[1:]  # The first row is 0, outside the box of what is above 0.
    np.testing.assert_allclose(shifted[inside], 1 - RAMP[inside], atol=0.02)
    assert shifted[0].max() == 0


def test_padding_stays_zero():
    padded = np.pad(RAMP[1:], 3)
    for shift in slice_shifts.SHIFTS.values():
        shifted = shift(padded, (5,))
        assert shifted[:3].max() == shifted[-3:].max() == shifted[:, :3].max() == 0
        assert shifted.max() > 0.5


def test_bias_field_is_smooth_keeps_the_mean_and_depends_on_its_seed():
    scan = np.full((32, 32), 0.3, np.float32)
    scan[0, 0] = 0
    one, two, same = (slice_shifts.bias_field(scan, (seed,)) for seed in (1, 2, 1))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - two).max() > 0.05
    np.testing.assert_allclose(one.mean(), scan.mean(), rtol=0.02)
    assert np.ptp(one[1:]) > 0.2
    assert np.abs(np.diff(one[1:], axis=1)).max() < 0.1


@pytest.mark.parametrize("name", slice_shifts.SHIFTS)
def test_empty_slices_stay_empty(name):
    shifted = slice_shifts.SHIFTS[name](np.zeros((4, 6), np.float32), (0,))
    np.testing.assert_array_equal(shifted, np.zeros((4, 6)))
