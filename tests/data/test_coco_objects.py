"""COCO's objects: masks against COCO's own tools, exclusions, subsets, canvas, damaged files."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from scene_folders import COCO_SIZE, box, image, write, write_coco

from jaxad.data import coco_masks, coco_objects
from jaxad.errors import InputError

# Polygon, height, width, and what pycocotools 2.0.11 makes of it: compressed runs, area.
VECTORS = [
    (
        [2.3, 1.1, 17.6, 3.9, 14.2, 12.7, 5.0, 15.5],
        *(16, 20, "Q11?5L5J2N000000O2O000O100O2L3N^1", 141),
    ),
    ([4, 2, 4, 13, 15, 13, 15, 2, 9.5, 7.25], 16, 20, "R2;6O1O1O1O1OO1O1O1O1O1^2", 96),
    ([-3.2, 5, 24, -2, 12.4, 30.1], 16, 20, "4791O2M3N00000O1000000O100000m12oM2", 265),
    ([1, 1, 3, 1, 3, 3, 1, 3], 5, 5, "62309", 4),
    ([0.5, 0.5, 9.5, 9.5, 9.5, 0.5, 0.5, 9.5], 10, 10, ";83N2N2N;0E2N2N2N", 40),
]


@pytest.mark.parametrize("polygon, height, width, text, area", VECTORS)
def test_polygons_and_text_are_decoded_as_by_cocos_tools(polygon, height, width, text, area):
    own = coco_masks.decode([polygon], height, width)
    theirs = coco_masks.decode({"size": [height, width], "counts": text}, height, width)
    np.testing.assert_array_equal(own, theirs)
    assert own.sum() == area


def runs_of(mask):
    """Run lengths by column, written apart from the code under test."""
    runs, value = [0], False
    for pixel in mask.T.ravel():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


def text_of(runs):
    text = ""
    for place, run in enumerate(runs):
        value = run - runs[place - 2] if place > 2 else run
        while True:
            bits, value = value & 31, value >> 5
            last = (value == -1 and bits & 16) or (value == 0 and not bits & 16)
            text += chr(48 + (bits if last else bits | 32))
            if last:
                break
    return text


MASKS = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40))


@given(MASKS)
def test_runs_decode_to_the_mask_they_were_made_of(mask):
    segmentation = {"size": list(mask.shape), "counts": runs_of(mask)}
    np.testing.assert_array_equal(coco_masks.decode(segmentation, *mask.shape), mask)


@given(MASKS)
def test_text_decodes_to_the_mask_it_was_made_of(mask):
    segmentation = {"size": list(mask.shape), "counts": text_of(runs_of(mask))}
    np.testing.assert_array_equal(coco_masks.decode(segmentation, *mask.shape), mask)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=30))
def test_text_keeps_long_runs(runs):
    assert coco_masks.text_to_runs(text_of(runs)) == runs


@given(st.text(max_size=20))
def test_any_text_gives_a_mask_or_an_input_error(text):
    try:
        mask = coco_masks.decode({"size": [4, 5], "counts": text}, 4, 5)
    except InputError:
        return
    assert mask.shape == (4, 5)


@given(
    st.lists(st.tuples(st.floats(-50, 80), st.floats(-50, 80)), min_size=3, max_size=9),
    st.integers(1, 30),
    st.integers(1, 30),
)
def test_polygons_do_not_depend_on_their_direction_or_start(points, height, width):
    def mask(own):
        return coco_masks.decode_polygon(np.ravel(own), height, width)

    np.testing.assert_array_equal(mask(points), mask(points[1:] + points[:1]))
    assert (mask(points) != mask(points[::-1])).mean() < 0.2  # Ties at half a pixel may move.


def test_boxes_cover_their_pixels():
    mask = coco_masks.decode(box(3, 2, 10, 5), 8, 12)
    expected = np.zeros((8, 12), bool)
    expected[2:5, 3:10] = True
    np.testing.assert_array_equal(mask, expected)


def test_polygons_of_one_annotation_are_united():
    mask = coco_masks.decode(box(0, 0, 4, 4) + box(2, 2, 6, 6), 8, 8)
    assert mask.sum() == 16 + 16 - 4


@pytest.mark.parametrize(
    "segmentation, message",
    [
        ([[1, 2, 3, 4]], "a polygon of 4 numbers; expected at least 3 points"),
        ([[1, 2, 3, 4, 5, np.nan]], "expected at least 3 points"),
        ({"size": [4, 5], "counts": [3, 4]}, "cover 7 pixels; expected 4 x 5"),
        ({"size": [4, 5], "counts": [-3, 23]}, "expected 4 x 5"),
        ({"size": [5, 4], "counts": [20]}, r"of size \[5, 4\], the image of \[4, 5\]"),
        ({"size": [4, 5], "counts": "o"}, "end within a number"),
        ({"size": [4, 5], "counts": " "}, "hold the character ' '"),
        ({"size": [4, 5]}, "cover 0 pixels"),
    ],
)
def test_damaged_segmentations(segmentation, message):
    with pytest.raises(InputError, match=message):
        coco_masks.decode(segmentation, 4, 5)


CROWD = {"size": list(COCO_SIZE), "counts": [40, 15, 20 * 30 - 55]}
THINGS = [
    [("dog", box(3, 2, 13, 8))],
    [("dog", box(3, 2, 13, 8)), ("person", box(20, 2, 25, 8))],
    [("cat", box(1, 1, 5, 4)), ("dog", box(10, 5, 20, 15))],
    [("kite", CROWD)],
    [("bicycle", box(3, 2, 13, 8))],
    [],
    [("train", box(0, 0, 30, 20))],
]


@pytest.fixture
def coco(tmp_path):
    write_coco(tmp_path, THINGS)
    return tmp_path


def numbers(split):
    return [int(name) for name in split.names]


def test_images_with_excluded_objects_and_without_any_are_dropped(coco):
    split = coco_objects.objects(str(coco))
    assert numbers(split) == [1, 3, 4, 7]
    assert split.labels.tolist() == [1, 1, 1, 1]
    assert split.classes[0::2] == ["dog", "kite"]


def test_the_documents_exclusions():
    assert set(coco_objects.coco_annotations.EXCLUDED) == {
        *("person", "bicycle", "car", "motorcycle", "bus", "truck", "traffic light", "stop sign"),
    }


def test_an_object_is_cut_to_its_box_in_the_upper_left_corner(coco):
    record = coco_objects.objects(str(coco), object_size=(16, 24)).read(0)
    assert {k: (v.dtype.name, v.shape) for k, v in record.items()} == {
        "object": ("uint8", (16, 24, 3)),
        "object_mask": ("uint8", (16, 24)),
        "label": ("int32", ()),
    }
    expected = np.zeros((16, 24), np.uint8)
    expected[:6, :10] = 1
    np.testing.assert_array_equal(record["object_mask"], expected)
    picture = np.array(Image.open(coco / "train2017" / f"{1:012d}.jpg"))
    np.testing.assert_array_equal(record["object"][:6, :10], picture[2:8, 3:13])
    assert not record["object"][6:].any()
    assert not record["object"][:, 10:].any()


def test_all_annotations_of_an_image_are_one_object(coco):
    record = coco_objects.objects(str(coco)).read(1)
    assert record["object_mask"].sum() == 4 * 3 + 10 * 10
    rows, columns = np.nonzero(record["object_mask"])
    assert (rows.max(), columns.max()) == (13, 18)  # From row 1, column 1 to row 14, column 19.


def test_crowds_are_included(coco):
    assert coco_objects.objects(str(coco)).read(2)["object_mask"].sum() == 15


def test_larger_objects_are_shrunk_to_the_canvas(coco):
    record = coco_objects.objects(str(coco), object_size=(10, 10)).read(3)  # 20 x 30.
    rows, columns = np.nonzero(record["object_mask"])
    assert (rows.max() + 1, columns.max() + 1) == (7, 10)
    assert record["object_mask"][:7].all()


def test_ready_made_masks_give_the_same_objects(coco):
    made = coco_objects.objects(str(coco), object_size=(20, 30))
    for proxy in made.read.proxies:
        mask = coco_objects.coco_annotations.read_mask(proxy)
        path = coco / "annotations/ood_seg_train2017" / f"{proxy.name}.png"
        write(path, np.where(mask, 254, 0).astype(np.uint8))
    (coco / "annotations/instances_train2017.json").unlink()
    ready = coco_objects.objects(
        str(coco), masks="annotations/ood_seg_train2017", object_size=(20, 30)
    )
    assert ready.names == made.names
    assert ready.classes is None
    for i in range(len(made)):
        for name, array in made.read(i).items():
            np.testing.assert_array_equal(ready.read(i)[name], array)


def test_an_empty_ready_made_mask_is_no_object(coco):
    write(coco / "masks" / f"{1:012d}.png", np.zeros(COCO_SIZE, np.uint8))
    record = coco_objects.objects(str(coco), masks="masks").read(0)
    assert not record["object_mask"].any()


def test_more_images_include_those_of_fewer(coco):
    kept = [
        set(numbers(coco_objects.objects(str(coco), images_share=share)))
        for share in (0.05, 0.5, 0.75, 1.0)
    ]
    assert [len(own) for own in kept] == [1, 2, 3, 4]
    assert kept[0] < kept[1] < kept[2] < kept[3]


def test_more_categories_include_those_of_fewer(coco):
    found = [
        set(coco_objects.objects(str(coco), classes_share=share, seed=3).classes)
        for share in (0.01, 0.5, 1.0)
    ]
    assert len(found[0]) == 1
    assert found[0] <= found[1] <= found[2]


def test_pixels_of_categories_not_drawn_are_no_outliers(coco):
    for seed in range(20):
        split = coco_objects.objects(str(coco), classes_share=0.01, seed=seed)
        if set(split.classes) == {"cat"}:
            break
    assert numbers(split) == [3]
    assert split.read(0)["object_mask"].sum() == 4 * 3


def test_seeds_draw_differently(coco):
    drawn = {
        tuple(numbers(coco_objects.objects(str(coco), images_share=0.5, seed=s))) for s in range(9)
    }
    assert len(drawn) > 1


@pytest.mark.parametrize("bounds, expected", [((0.0, 0.2), [1, 3, 4]), ((0.8, 1.0), [7])])
def test_subsets_by_the_share_of_outlier_pixels(coco, bounds, expected):
    assert numbers(coco_objects.objects(str(coco), outlier_share=bounds)) == expected


def test_subsets_are_those_of_all_masks_decoded(tmp_path):
    rng = np.random.default_rng(0)
    polygons = rng.uniform(-2, [32, 22], (40, 5, 2)).round(1)
    things = [[("dog", [p.ravel().tolist()]), ("cat", box(0, 0, 4, 4))] for p in polygons]
    write_coco(tmp_path, things)
    split = coco_objects.objects(str(tmp_path))
    shares = [coco_objects.coco_annotations.read_mask(p).mean() for p in split.read.proxies]
    for low, high in ((0.0, 0.2), (0.25, 0.4), (0.3, 1.0)):
        kept = numbers(coco_objects.objects(str(tmp_path), outlier_share=(low, high)))
        expected = [i for i, share in enumerate(shares, 1) if low <= share <= high]
        assert kept == expected
        assert 0 < len(kept) < 40


def test_a_shortest_side(coco):
    assert len(coco_objects.objects(str(coco), min_side=20)) == 4
    with pytest.raises(InputError, match="No outlier object is left"):
        coco_objects.objects(str(coco), min_side=21)


@pytest.mark.parametrize("classes", [("road", "Dog"), ("dog",)])
def test_an_outlier_set_that_overlaps_the_inlier_classes(coco, classes):
    with pytest.raises(InputError, match=r"overlaps the inlier classes: .* dog \(dog\)"):
        coco_objects.objects(str(coco), inlier_classes=classes)


def test_a_minor_category_of_an_image_counts_too(coco):
    with pytest.raises(InputError, match=r"overlaps the inlier classes: .* cat \(cat\)"):
        coco_objects.objects(str(coco), inlier_classes=("cat",))


def test_other_names_of_a_class_are_known(coco):
    with pytest.raises(InputError, match=r"person \(pedestrian, rider\)"):
        coco_objects.objects(
            str(coco), excluded=("bicycle",), inlier_classes=("pedestrian", "rider", "road")
        )


def test_the_documents_own_overlap_can_be_kept(coco):
    with pytest.raises(InputError, match=r"train \(train\)"):
        coco_objects.objects(str(coco), inlier_classes=("train",))
    split = coco_objects.objects(str(coco), inlier_classes=("train",), overlap=("train",))
    assert 7 in numbers(split)
    split = coco_objects.objects(
        str(coco),
        inlier_classes=("train",),
        excluded=(*coco_objects.coco_annotations.EXCLUDED, "train"),
    )
    assert 7 not in numbers(split)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(excluded=("hourse",)), r"names \['hourse'\].* has no category for"),
        (dict(outlier_share=(0.5, 0.2)), "outlier_share: expected a range"),
        (dict(classes_share=0.0), r"classes_share: expected a number in \(0, 1\]"),
        (dict(images_share=2.0), r"images_share: expected a number in \(0, 1\]"),
        (dict(object_size=(0, 4)), "object_size: expected height and width"),
        (dict(masks="gone"), "gone does not exist"),
        (dict(masks="train2017", classes_share=0.5), "ready-made masks do not tell them"),
        (dict(annotations="gone.json"), r"annotations .*gone\.json cannot be read"),
        (dict(images="gone"), "gone does not exist"),
    ],
)
def test_wrong_options(coco, options, message):
    with pytest.raises(InputError, match=message):
        coco_objects.objects(str(coco), **options)


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "are no JSON"),
        ("[]", "no JSON object"),
        ('{"images": []}', "KeyError 'categories'"),
        ('{"categories": [3], "images": [], "annotations": []}', "TypeError"),
        (
            '{"categories": [{"id": 1, "name": "dog"}], "images": [{"id": 1, "file_name": "a.jpg",'
            '"height": 3, "width": 3}], "annotations": [{"image_id": 1, "category_id": 1,'
            '"segmentation": [["x", 3]]}]}',
            "ValueError",
        ),
    ],
)
def test_wrong_annotation_files(coco, text, message):
    (coco / "annotations/instances_train2017.json").write_text(text)
    with pytest.raises(InputError, match=message):
        coco_objects.objects(str(coco))


def test_missing_images_are_listed(coco):
    (coco / "train2017" / f"{3:012d}.jpg").unlink()
    with pytest.raises(InputError, match=r"1 of 4 images of .*\n  0+3\.jpg"):
        coco_objects.objects(str(coco))


def test_damaged_annotations_name_the_image(coco):
    path = coco / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"] = [[1, 2, 3, 4]]
    path.write_text(json.dumps(content))
    split = coco_objects.objects(str(coco))
    with pytest.raises(InputError, match=r"annotations of .*0+1\.jpg are damaged: a polygon"):
        split.read(0)


def test_images_of_another_size_than_annotated(coco):
    write(coco / "train2017" / f"{1:012d}.jpg", image(0, (7, 9)))
    with pytest.raises(InputError, match=r"0+1\.jpg has 7 x 9 pixels, its mask 20 x 30"):
        coco_objects.objects(str(coco)).read(0)


def test_masks_of_other_values(coco):
    write(coco / "masks" / f"{1:012d}.png", np.full(COCO_SIZE, 7, np.uint8))
    with pytest.raises(InputError, match=r"holds \[7\]; expected 254 on objects"):
        coco_objects.objects(str(coco), masks="masks").read(0)


def test_masks_without_image(coco):
    write(coco / "masks/other.png", np.zeros(COCO_SIZE, np.uint8))
    with pytest.raises(InputError, match=r"1 of 1 images of .*masks do not exist"):
        coco_objects.objects(str(coco), masks="masks")


def test_objects_travel_to_reader_processes_and_have_a_fingerprint(coco):
    split = coco_objects.objects(str(coco))
    again = pickle.loads(pickle.dumps(split))
    np.testing.assert_array_equal(again.read(0)["object"], split.read(0)["object"])
    assert again.fingerprint == split.fingerprint
    assert coco_objects.objects(str(coco), images_share=0.5).fingerprint != split.fingerprint
