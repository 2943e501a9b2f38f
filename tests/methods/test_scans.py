"""What the systems for medical segmentation share."""

import jax.numpy as jnp
import numpy as np

from jaxad.methods import scans


def test_pairs_come_apart_again():
    first, second = jnp.arange(6).reshape(3, 2), 10 + jnp.arange(6).reshape(3, 2)
    both = scans.paired(first, second)
    assert both[:, 0].tolist() == [0, 10, 2, 12, 4, 14]
    np.testing.assert_array_equal(scans.unpaired(both)[0], first)
    np.testing.assert_array_equal(scans.unpaired(both)[1], second)


def test_grey_images_become_three_channels_for_imagenet():
    looks = scans.Looks(None, 3, 2, "imagenet")
    grey = jnp.full((1, 2, 2, 1), 0.5)
    expected = (0.5 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(scans.prepared(looks, grey)[0, 0, 0], expected, rtol=1e-5)
