"""Layouts of published scenes: which files belong together, what their ids mean, what is wrong."""

import json

import numpy as np
import pytest
import scene_folders
from hypothesis import given
from hypothesis import strategies as st
from scene_folders import image, label, write, write_plain, write_table

from jaxad.data import scene_classes, scene_layouts
from jaxad.errors import InputError

# Label id to train id as documents 002 and 004 print them.
CITYSCAPES_IDS = {
    **{7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11},
    **{25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18},
}


def find(layout, root, **options):
    return scene_layouts.find(dict(layout=layout, root=str(root), **options), "train")


def names(found):
    return [scene.name for scene in found.scenes]


def write_cityscapes(root, kind):
    for city, name in (("aachen", "aachen_000000_000019"), ("ulm", "ulm_000003_000019")):
        write(root / "leftImg8bit" / "train" / city / f"{name}_leftImg8bit.png", image())
        for own in (kind, "color", "instanceIds"):
            write(root / "gtFine" / "train" / city / f"{name}_gtFine_{own}.png", label([0]))


@pytest.mark.parametrize("kind", ["labelIds", "labelTrainIds"])
def test_cityscapes_pairs_files_of_each_city(tmp_path, kind):
    write_cityscapes(tmp_path, kind)
    found = find("cityscapes", tmp_path, part="train")
    assert names(found) == ["aachen/aachen_000000_000019", "ulm/ulm_000003_000019"]
    assert found.scenes[1].label.endswith(f"gtFine/train/ulm/ulm_000003_000019_gtFine_{kind}.png")


def test_cityscapes_label_ids_become_train_ids(tmp_path):
    write_cityscapes(tmp_path, "labelIds")
    codes = find("cityscapes", tmp_path, part="train", labels="labelIds").codes
    expected = [CITYSCAPES_IDS.get(i, 255) for i in range(34)]
    assert codes.segments[:34].tolist() == expected
    assert codes.segments[255] == 255
    assert (codes.segments[34:255] == scene_classes.UNKNOWN).all()


def test_cityscapes_train_ids_stay_and_others_are_unknown(tmp_path):
    write_cityscapes(tmp_path, "labelTrainIds")
    codes = find("cityscapes", tmp_path, part="train").codes
    assert codes.segments[[0, 18, 255]].tolist() == [0, 18, 255]
    assert (codes.segments[19:255] == scene_classes.UNKNOWN).all()


def test_cityscapes_flattened_by_pebal(tmp_path):
    write(tmp_path / "images/city_gt_fine/val/x_leftImg8bit.png", image())
    write(tmp_path / "annotation/city_gt_fine/val/x_gtFine.png", label([3]))
    found = find("cityscapes", tmp_path, part="val")
    assert names(found) == ["x"]
    assert found.codes.segments[18] == 18


def test_cityscapes_elsewhere_names_both_folders_tried(tmp_path):
    with pytest.raises(InputError, match=r"leftImg8bit nor .*city_gt_fine exists"):
        find("cityscapes", tmp_path, part="train")


def write_streethazards(root, list_path, prefix, form):
    entries = []
    for name in ("t1/1", "t1/2"):
        paths = {
            "fpath_img": f"{prefix}images/{name}.png",
            "fpath_segm": f"{prefix}annotations/{name}.png",
        }
        for path in paths.values():
            write(root / path, label([1, 14]))
        entries.append({"dbName": "StreetHazards", "width": 16, "height": 12, **paths})
    lines = [json.dumps(entry) for entry in entries]
    list_path.parent.mkdir(parents=True, exist_ok=True)
    list_path.write_text(json.dumps(entries) if form == "list" else "\n".join(lines) + "\n")


@pytest.mark.parametrize("form", ["list", "lines"])
@pytest.mark.parametrize(
    "part, file, base, prefix",
    [
        ("test", "test/test.odgt", "test", ""),
        ("train", "train/train.odgt", "train", ""),
        ("train", "training.odgt", ".", "train/images/training/"),
        ("validation", "train/validation.odgt", ".", "train/images/validation/"),
        ("test", "test.odgt", ".", "test/"),
    ],
)
def test_streethazards_lists(tmp_path, part, file, base, prefix, form):
    write_streethazards(tmp_path / base, tmp_path / file, prefix, form)
    found = find("streethazards", tmp_path, part=part)
    assert names(found) == [f"{prefix}images/t1/1", f"{prefix}images/t1/2"]


def test_streethazards_ids(tmp_path):
    write_streethazards(tmp_path, tmp_path / "test.odgt", "", "list")
    found = find("streethazards", tmp_path, part="test")
    assert found.codes.segments[:15].tolist() == [255, *range(13), 254]
    assert found.codes.anomaly[:15].tolist() == [255] + 13 * [0] + [1]
    assert len(found.classes.names) == 13


def test_streethazards_missing_files_name_both_places(tmp_path):
    write_streethazards(tmp_path, tmp_path / "test/test.odgt", "", "list")
    (tmp_path / "annotations/t1/2.png").unlink()
    with pytest.raises(InputError) as error:
        find("streethazards", tmp_path, part="test")
    assert str(tmp_path / "test/annotations/t1/2.png") in str(error.value)
    assert str(tmp_path / "annotations/t1/2.png") in str(error.value)
    assert "1 files" in str(error.value)


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"fpath_img": "a.png"}\n{"fpath', r"line 2: no JSON"),
        ('[{"fpath_img": "a.png"}]', r"entry 1: expected a path as 'fpath_segm'|not found"),
        ("[3]", "entry 1: expected a path as 'fpath_img'"),
        ("", "holds no images"),
    ],
)
def test_a_wrong_odgt_names_the_place(tmp_path, text, message):
    (tmp_path / "test.odgt").write_text(text)
    with pytest.raises(InputError, match=message):
        find("streethazards", tmp_path, part="test")


def write_lostandfound(root, kind):
    write(root / "leftImg8bit/test/s/x_leftImg8bit.png", image())
    write(root / f"gtCoarse/test/s/x_gtCoarse_{kind}.png", label([0]))


def test_lostandfound_train_ids(tmp_path):
    write_lostandfound(tmp_path, "labelTrainIds")
    codes = find("lostandfound", tmp_path).codes
    assert codes.anomaly[[0, 1, 2, 255]].tolist() == [255, 0, 1, 255]
    assert codes.segments[[0, 1, 2, 255]].tolist() == [255, 255, 254, 255]


def test_lostandfound_label_ids(tmp_path):
    write_lostandfound(tmp_path, "labelIds")
    anomaly = find("lostandfound", tmp_path).codes.anomaly
    harmless = [31, 33, 34, 36, 37, 38, 39]
    assert anomaly[[0, 1, *harmless]].tolist() == [255, 0] + 7 * [255]
    assert (anomaly[sorted(set(range(2, 44)) - set(harmless))] == 1).all()


@pytest.mark.parametrize("kind, harmless", [("labelIds", 31), ("labelTrainIds", 0)])
def test_lostandfound_harmless_objects_can_count_as_normal(tmp_path, kind, harmless):
    write_lostandfound(tmp_path, kind)
    codes = find("lostandfound", tmp_path, not_hazardous="normal").codes
    assert codes.anomaly[harmless] == 0
    assert codes.anomaly[255] == 255


def test_fishyscapes_marks_anomalies_alone(tmp_path):
    write(tmp_path / "Static/original/0.png", image())
    write(tmp_path / "Static/labels/0.png", label([0, 1, 255]))
    found = find("fishyscapes", tmp_path, part="Static")
    assert found.classes is None
    assert found.codes.anomaly[[0, 1, 255]].tolist() == [0, 1, 255]
    assert found.codes.segments[[0, 1, 255]].tolist() == [255, 254, 255]


def test_road_anomaly_of_pebal(tmp_path):
    write(tmp_path / "original/0.jpg", image())
    write(tmp_path / "labels/0.png", label([0, 1]))
    found = find("road_anomaly", tmp_path)
    assert names(found) == ["0"]
    assert found.codes.anomaly[:2].tolist() == [0, 1]
    assert found.codes.anomaly[255] == scene_classes.UNKNOWN  # It has no void.


def test_road_anomaly_as_published(tmp_path):
    write(tmp_path / "frames/cow.webp", image())
    write(tmp_path / "frames/dog.jpg", image())
    for name in ("cow", "dog"):
        write(tmp_path / f"frames/{name}.labels/labels_semantic.png", label([0, 1, 2]))
    (tmp_path / "frame_list.json").write_text('["dog.jpg", "cow"]')
    found = find("road_anomaly", tmp_path)
    assert names(found) == ["dog", "cow"]
    assert found.scenes[1].image.endswith("cow.webp")
    assert found.codes.anomaly[[0, 1, 2, 7]].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    "text, message",
    [('["gone"]', "gone.webp or .jpg"), ("{}", "list of file names"), ("[", "no JSON")],
)
def test_a_wrong_frame_list(tmp_path, text, message):
    (tmp_path / "frame_list.json").write_text(text)
    with pytest.raises(InputError, match=message):
        find("road_anomaly", tmp_path)


def test_camvid_pairs_annot_folders(tmp_path):
    write(tmp_path / "val/a.jpg", image())
    write(tmp_path / "valannot/a.png", label([0, 11]))
    found = find("camvid", tmp_path, part="val")
    assert names(found) == ["a"]
    assert found.codes.segments[:12].tolist() == [*range(11), 255]


def test_plain_remaps_ids_by_its_table(tmp_path):
    write_table(
        tmp_path, [(4, "road", 0), (7, "car", 1), (8, "van", 1), (2, "x", -1), (9, "o", 254)]
    )
    write_plain(tmp_path, "train", [[4, 7]])
    found = find("plain", tmp_path, part="train")
    assert found.codes.segments[[4, 7, 8, 2, 9, 255]].tolist() == [0, 1, 1, 255, 254, 255]
    assert found.classes.names == ("road", "car")
    assert found.classes.palette.tolist() == [[4, 20, 30], [7, 20, 30]]


def test_plain_has_regions_if_the_folder_is_there(tmp_path):
    write_table(tmp_path)
    write_plain(tmp_path, "test", [[0], [1]])
    assert find("plain", tmp_path, part="test").scenes[0].region == ""
    write(tmp_path / "test/roi/a.png", label([1]))
    with pytest.raises(InputError, match=r"b.png has no region of interest"):
        find("plain", tmp_path, part="test")
    write(tmp_path / "test/roi/b.png", label([1]))
    assert find("plain", tmp_path, part="test").scenes[1].region.endswith("test/roi/b.png")


def test_json_and_csv_tables_mean_the_same(tmp_path):
    write_table(tmp_path)
    rows = [
        dict(id=i, name=n, train_id=t, r=i, g=20, b=30)
        for i, n, t in ((0, "road", 0), (1, "car", 1), (2, "person", 2), (9, "thing", 254))
    ]
    (tmp_path / "classes.json").write_text(json.dumps(rows))
    first, second = (
        scene_classes.read_table(str(tmp_path / f"classes.{e}")) for e in ("csv", "json")
    )
    assert first[0].names == second[0].names
    np.testing.assert_array_equal(first[0].palette, second[0].palette)
    np.testing.assert_array_equal(first[1], second[1])


def test_a_table_without_train_ids_numbers_its_rows(tmp_path):
    path = tmp_path / "classes.csv"
    path.write_text(
        "id,name,red,green,blue,ignore\n3,sky,1,2,3,0\n5,none,0,0,0,1\n4,road,4,5,6,0\n"
    )
    table, codes = scene_classes.read_table(str(path))
    assert table.names == ("sky", "road")
    assert codes.segments[[3, 4, 5]].tolist() == [0, 1, 255]


@pytest.mark.parametrize(
    "text, message",
    [
        ("name,train_id\nroad,0\n", "columns name, train_id; expected id"),
        ("id,name,train_id\n0,road,0\n0,car,1\n", "row 2: id 0 is named twice"),
        ("id,name,train_id\n0,road,0\n1,car,2\n", r"without gaps, found \[0, 2\]"),
        ("id,name,train_id\n300,road,0\n", "row 1: expected an integer from 0 to 255 as id"),
        ("id,name,train_id\n0,road,x\n", "row 1: expected an integer from -1 to 255 as train_id"),
        ("id,name,train_id\n0,road,0\n1,road,1\n", "several classes have the name 'road'"),
        ("id,name,train_id\n0,void,255\n", r"without gaps, found \[\]"),
        ("", "holds no rows"),
    ],
)
def test_a_wrong_table_names_the_row(tmp_path, text, message):
    (tmp_path / "classes.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        scene_classes.read_table(str(tmp_path / "classes.csv"))


def test_a_missing_table_names_where_it_was_looked_for(tmp_path):
    write_plain(tmp_path, "", [[0]])
    with pytest.raises(InputError, match=r"neither .*classes.csv nor .*classes.json"):
        find("plain", tmp_path)


@pytest.mark.parametrize("folder, kind", [("labels", "label"), ("images", "image")])
def test_a_folder_without_its_partner(tmp_path, folder, kind):
    write_plain(tmp_path, "", [[0]])
    (tmp_path / folder).rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=f"The {kind} folder .*{folder} does not exist"):
        find("plain_anomaly", tmp_path)


def test_files_without_partner_are_listed_the_rest_counted(tmp_path):
    write_plain(tmp_path, "", [[0]])
    for i in range(30):
        write(tmp_path / f"images/lonely{i:02d}.png", image())
    write(tmp_path / "labels/other.png", label([0]))
    with pytest.raises(InputError) as error:
        find("plain_anomaly", tmp_path)
    text = str(error.value)
    assert "31 files have no partner" in text
    assert "lonely00.png has no label map" in text
    assert "lonely25" not in text
    assert "… and 11 more" in text


def test_label_maps_without_image_are_listed(tmp_path):
    write_plain(tmp_path, "", [[0]])
    write(tmp_path / "labels/other.png", label([0]))
    with pytest.raises(InputError, match=r"other.png has no image"):
        find("plain_anomaly", tmp_path)


def test_an_empty_folder(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=r"config\.data\.source\.train: .* holds no images"):
        find("plain_anomaly", tmp_path)


def test_hidden_and_other_files_are_left_out(tmp_path):
    write_plain(tmp_path, "", [[0]])
    (tmp_path / "images/._a.png").write_bytes(b"")
    (tmp_path / "images/Thumbs.db").write_bytes(b"")
    assert names(find("plain_anomaly", tmp_path)) == ["a"]


def test_two_images_of_one_name(tmp_path):
    write_plain(tmp_path, "", [[0]])
    write(tmp_path / "images/a.jpg", image())
    with pytest.raises(InputError, match="have the same name"):
        find("plain_anomaly", tmp_path)


@pytest.mark.parametrize(
    "section, message",
    [
        (dict(layout="kitti", root="."), "layout='kitti' is unknown"),
        (dict(layout="camvid", root=".", parts="val"), r"has no field \['parts'\]"),
        (dict(layout="camvid", root="."), r"needs \['part'\]"),
        (dict(layout="lostandfound", root=".", labels="fine"), "Unknown labels 'fine'"),
    ],
)
def test_wrong_sections(section, message):
    with pytest.raises(InputError, match=message):
        scene_layouts.find(section, "test")


@given(st.sets(st.sampled_from(scene_classes.CITYSCAPES.names), max_size=18))
def test_holding_out_keeps_the_order_and_marks_the_rest(held_out):
    table = scene_classes.CITYSCAPES
    codes = scene_classes.codes_of({i: i for i in range(19)}, void=(255,))
    smaller, own = scene_classes.hold_out(table, codes, tuple(held_out), code=254)
    for stored, name in enumerate(table.names):
        code = own.segments[stored]
        assert code == 254 if name in held_out else smaller.names[code] == name
    assert len(smaller.names) == 19 - len(held_out) == len(smaller.palette)
    np.testing.assert_array_equal(own.anomaly == 1, own.segments == 254)


@pytest.mark.parametrize("name", sorted(scene_classes.PUBLISHED))
def test_published_tables_have_a_colour_of_its_own_for_each_class(name):
    table = scene_classes.PUBLISHED[name]
    assert len(table.names) == {"cityscapes": 19, "streethazards": 13, "camvid": 11}[name]
    assert len(np.unique(table.palette, axis=0)) == len(set(table.names)) == len(table.names)


def test_helper_stripes():
    assert scene_folders.label([3, 4], (4, 2)).tolist() == [[3, 3], [3, 3], [4, 4], [4, 4]]
