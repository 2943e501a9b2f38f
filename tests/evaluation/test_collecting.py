import numpy as np
import pixel_scenes
import pytest

from jaxad.errors import InputError
from jaxad.evaluation import collecting, measures


def test_scores_per_record_stand_beside_those_per_pixel():
    def batches():
        for scores, records in pixel_scenes.batches():
            own = {"image": scores["index"].astype(np.float32), "norm": scores["index"] * 2.0}
            yield {**scores, **own}, records

    found = collecting.collect(pixel_scenes.split(), batches())
    np.testing.assert_array_equal(found.image, range(9))
    np.testing.assert_array_equal(found.extra["norm"], 2.0 * np.arange(9))
    metrics = measures.measure(found)
    assert {"image_auc", "pixel_auc", "separability/norm_normal"} <= metrics.keys()
    assert found.noun == "image"


def test_scores_per_record_alone_have_no_pixels():
    rows = [
        ({"index": np.arange(9), "valid": np.ones(9, bool), "image": np.zeros(9)}, {})
    ]  # fmt: skip
    assert collecting.collect(pixel_scenes.split(sizes=None), rows).pixels is None


def test_missing_and_repeated_images_are_named():
    with pytest.raises(ValueError, match="1 of 9 records have no scores: scene/4"):
        pixel_scenes.collected((0, 1, 2, 3, 5, 6, 7, 8))
    with pytest.raises(ValueError, match=r"scene/0 \(record 0\) was scored twice"):
        pixel_scenes.collected((0, 1, 2, 3, 4, 5, 6, 7, 8, 0))


def test_maps_are_written_one_file_per_image(tmp_path):
    keeping = collecting.Keeping(folder=tmp_path / "scores" / "test")
    pixel_scenes.collected(keeping=keeping)
    files = sorted((tmp_path / "scores" / "test").iterdir())
    assert [path.name for path in files] == [f"{i:06d}.npz" for i in range(9)]
    for path, (maps, _) in zip(files, pixel_scenes.SCENES, strict=True):
        with np.load(path) as file:
            assert file["name"] == f"scene/{int(path.stem)}"
            assert (file["pixel"].dtype, file["classes"].dtype) == (np.float16, np.uint8)
            np.testing.assert_array_equal(file["pixel"], maps["pixel"].astype(np.float16))
            np.testing.assert_array_equal(file["classes"], maps["classes"])


def test_scores_beyond_float16_are_written_as_its_largest(tmp_path):
    maps = {"pixel": np.array([[1e9, -1e9]], np.float32)}
    with np.load(collecting.save_maps(tmp_path, 0, "a", maps)) as file:
        np.testing.assert_array_equal(file["pixel"], [[65504.0, -65504.0]])


def test_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    keeping = collecting.Keeping(folder=tmp_path / "file" / "test")
    with pytest.raises(InputError, match=r"file/test"):
        pixel_scenes.collected(keeping=keeping)
