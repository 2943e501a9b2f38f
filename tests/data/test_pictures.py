"""Plain image files as slices: cut out of the middle, grey, in [0, 1]."""

import numpy as np
import pytest
from PIL import Image

from jaxad.data import pictures
from jaxad.errors import InputError

RAMP = np.outer(np.linspace(0, 1, 12), np.linspace(0.2, 1, 16)).astype(np.float32)


def opened(root, array, size, fit="cover"):
    folder = root / "images"
    folder.mkdir(exist_ok=True)
    Image.fromarray(array).save(folder / "a.png")
    return pictures.find({"root": str(root), "fit": fit}, "ood.x", "", size)


def test_a_large_picture_covers_the_crop(tmp_path):
    picture = np.zeros((40, 80), np.uint8)
    picture[:, 16:64] = 200  # More than the middle square.
    read = opened(tmp_path, picture, (20, 20))(0)
    assert (read.shape, read.dtype) == ((20, 20), np.float32)
    assert read.max() == 0  # All of it is of one colour.
    wide = opened(tmp_path, picture, (20, 40))(0)
    assert (wide[:, :7].max(), wide[:, 9:31].min(), wide[:, 33:].max()) == (0, 1, 0)


@pytest.mark.parametrize("size", [(64, 64), (48, 30), (17, 96)])
def test_a_small_picture_is_enlarged_to_cover_the_crop(tmp_path, size):
    picture = (255 * RAMP).astype(np.uint8)
    read = opened(tmp_path, picture, size)(0)
    assert read.shape == size
    assert (read.min(), read.max()) == (0, 1)


def test_pixels_are_kept_without_fit(tmp_path):
    picture = np.arange(1, 13, dtype=np.uint8).reshape(3, 4)
    read = opened(tmp_path, picture, (5, 2), "none")(0)
    expected = np.pad(picture[:, 1:3], ((1, 1), (0, 0)))
    np.testing.assert_allclose(read, expected / 11, rtol=1e-6)


def test_colour_pictures_become_grey(tmp_path):
    colours = np.zeros((4, 4, 3), np.uint8)
    colours[:2, :, 1] = 255
    read = opened(tmp_path, colours, (4, 4))(0)
    np.testing.assert_array_equal(read, np.repeat([1, 1, 0, 0], 4).reshape(4, 4))


def test_unknown_fit():
    with pytest.raises(InputError, match="Unknown fit 'stretch'"):
        pictures.Pictures((), (), (4, 4), "stretch")


def test_files_by_pattern_and_fingerprint(tmp_path):
    first = opened(tmp_path, (255 * RAMP).astype(np.uint8), (4, 4))
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(tmp_path / "images" / "b.jpg")
    section = {"layout": "pictures", "root": tmp_path.name}
    base = str(tmp_path.parent)
    both = pictures.find(section, "ood.x", base, (4, 4))
    assert both.names == ("a", "b")
    again = pictures.find({**section, "pattern": "*.png"}, "ood.x", base, (4, 4))
    assert (again.names, again.fingerprint) == (("a",), first.fingerprint)
    assert both.fingerprint != first.fingerprint


def test_files_that_are_no_pictures_are_listed(tmp_path):
    opened(tmp_path, (255 * RAMP).astype(np.uint8), (4, 4))
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"(?s)pictures.*broken\.png"):
        pictures.find({"root": str(tmp_path)}, "ood.x", "", (4, 4))
