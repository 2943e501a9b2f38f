import errno
import html.parser
import os
import re

import numpy as np
import ood_scenes
import pixel_scenes
import pytest

from jaxad.errors import InputError
from jaxad.evaluation import collecting, measures, pixel_measures, report
from jaxad.evaluation.predictions import Predictions
from jaxad.evaluation.predictions import load as predictions_of

NASTY = """<script>alert("x")</script> & 'q' $x_{$ 日本"""


class Page(html.parser.HTMLParser):
    """What a browser would see: open tags, attributes, text outside styles, numbers."""

    VOID = ("img", "meta", "link", "br", "wbr")

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words, self.numbers = [], [], [], []
        self.text, self._open = "", []
        self.feed(text)
        assert self._open == [], "tags are left open"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag == "data":
            self.numbers.append(float(dict(attrs)["value"]))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open:
            self.text += data
            self.words.append(data)


def make(**changes):
    rng = np.random.default_rng(0)
    lengths = (5, 7, 4, 6)
    truth = [np.zeros(16 * n, np.uint8) for n in lengths]
    truth[0][20:50] = truth[1][:30] = 1
    fields = {
        "names": (NASTY, "b", "c", "d"),
        "labels": np.array([1, 1, 0, 0]),
        "image": rng.random(4),
        "snippet": tuple(rng.random(n) for n in lengths),
        "extra": {
            "top_<b>": rng.random(4),
            "magnitude": tuple(50 * rng.random(n) for n in lengths),
        },
        "frames": tuple(truth),
        "classes": ("<i>Fight", "Fire", "", ""),
    }
    return Predictions(**{**fields, **changes})


def write(folder, predictions, **changes):
    fields = {
        "title": f"title {NASTY}",
        "config": {"seed": 0, "method": {"name": "m", "note": NASTY, "empty": {}}, "steps": None},
        "versions": {"jaxad": "0.1.0", "device": NASTY},
        "measures": {"test": measures.measure(predictions)},
        "predictions": predictions,
        "history": [{"step": 1, "stage": NASTY, "split": "train", "loss": 2.0}],
        "command": f"python -m jaxad.main --config={NASTY}",
        "notes": [NASTY],
    }
    path = report.write(folder, **{**fields, **changes})
    return path, Page(path.read_text("utf-8"))


def test_page_has_every_number_and_what_the_run_was(tmp_path):
    predictions = make()
    path, page = write(tmp_path / "a" / "report", predictions)
    assert path == tmp_path / "a" / "report" / "index.html"
    missing = set(measures.measure(predictions).values()) - set(page.numbers)
    assert not missing
    for text in ("4 videos, 2 of them", "method.note", "null", "0.1.0", "jaxad.main", "Fire"):
        assert text in page.text
    assert page.tags.count("img") == 3 + 4 + 1  # Curves, four videos, the loss.


def test_page_needs_nothing_from_elsewhere(tmp_path):
    path, page = write(tmp_path, make())
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    for tag, name, value in page.attributes:
        if name in ("src", "href"):
            assert value.startswith(("data:image/png;base64,", "#")), (tag, name, value[:50])
        assert not name.startswith("on")
    plain = re.sub(r"base64,[A-Za-z0-9+/=]+", "", path.read_text("utf-8"))
    assert not re.search(r"https?:|@import|url\(", plain)
    anchors = {value for _, name, value in page.attributes if name == "id"}
    assert {v[1:] for _, name, v in page.attributes if name == "href"} <= anchors


def test_page_is_made_for_phones_and_readers(tmp_path):
    _, page = write(tmp_path, make())
    assert ("meta", "content", "width=device-width, initial-scale=1") in page.attributes
    assert ("html", "lang", "en") in page.attributes
    assert [t for t, name, _ in page.attributes if name == "alt"] == ["img"] * page.tags.count(
        "img"
    )


def test_names_are_shown_as_they_are_and_never_as_markup(tmp_path):
    _, page = write(tmp_path, make())
    assert page.text.count(NASTY) >= 5  # Title, heading, note, config, version, command, video.
    assert not {"script", "i"} & set(page.tags)
    assert "<i>Fight" in page.text
    assert "top <b>" in page.text


def test_same_run_same_page(tmp_path):
    first, _ = write(tmp_path / "a", make())
    second, _ = write(tmp_path / "b", make())
    assert first.read_bytes() == second.read_bytes()


def test_undefined_metrics_are_explained(tmp_path):
    weak = make(frames=None)
    _, page = write(tmp_path, weak)
    assert "frame_auc" in page.text
    assert "The split has no truth per frame." in page.text
    assert "separability/score_anomalous is not defined" in page.text
    normal = make(labels=np.zeros(4, int), frames=None, classes=None)
    _, page = write(tmp_path, normal)
    assert "All 4 videos are normal; both are needed." in page.text


@pytest.mark.parametrize(
    "predictions",
    [
        Predictions(("a",), np.array([1])),
        Predictions(("a", "b"), np.array([0, 1]), image=np.array([0.1, 0.7])),
        Predictions(
            ("a",), np.array([1]), snippet=(np.array([0.3]),), frames=(np.ones(9, np.uint8),)
        ),
    ],
)
def test_little_can_be_reported_too(tmp_path, predictions):
    write(tmp_path, predictions, history=[], command="", notes=[], versions={}, config={})


def test_several_splits_are_columns(tmp_path):
    predictions = make()
    by_split = {"validation": {"image_auc": 0.123456}, "test": measures.measure(predictions)}
    _, page = write(tmp_path, predictions, measures=by_split)
    assert 0.123456 in page.numbers
    assert {"validation", "test"} <= set(page.words)


def test_names_from_another_encoding_can_be_written(tmp_path):
    odd = b"vid\xe9o".decode("utf-8", "surrogateescape")
    _, page = write(tmp_path, make(names=(odd, "b", "c", "d")))
    assert r"vid\udce9o" in page.text


def test_full_disk_leaves_the_old_page(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "index.html").write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"index\.html.*No space.*needs [\d,]+ bytes"):
        write(tmp_path, make())
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def scored_pixels(**options):
    keeping = collecting.Keeping(threshold=1.0, overlays=2)
    return pixel_scenes.collected(keeping=keeping, **options)


def test_page_has_every_number_of_pixels_and_its_bounds(tmp_path):
    predictions = scored_pixels()
    _, page = write(tmp_path, predictions)
    missing = set(measures.measure(predictions).values()) - set(page.numbers)
    assert not missing
    for name in (
        "pixel_aupro",
        "per_image/pixel_auc",
        "component_f1",
        "ece",
        *pixel_scenes.CLASSES,
    ):
        assert name in page.text
    bounds = pixel_measures.bounds(predictions.pixels)
    assert page.text.count("the exact value lies between") == len(bounds) == 5
    truth, _ = pixel_scenes.flat()
    share = f"{len(truth):,} pixels that are not void, {np.mean(truth):.2%} of them anomalous"
    assert share in page.text


def test_page_shows_images_beside_their_maps(tmp_path):
    predictions = scored_pixels()
    path, page = write(tmp_path, predictions)
    photos = [v for t, name, v in page.attributes if (t, name, v) == ("img", "class", "photo")]
    assert len(photos) == 4 * 6
    sources = [v for _, name, v in page.attributes if name == "src"]
    assert all(v.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for v in sources)
    # Curves, histogram, calibration, the scale of colours, the loss; then the images.
    assert len(sources) == 2 + 2 + 1 + 1 + 24
    for place in {overlay.place for overlay in predictions.pixels.overlays}:
        assert f"scene/{place}" in page.text
    assert "no anomalies" in page.text
    again, _ = write(tmp_path / "again", scored_pixels(size=5))
    assert again.read_bytes() == path.read_bytes()


def test_page_says_why_pixel_metrics_are_undefined(tmp_path):
    _, page = write(tmp_path, scored_pixels(truth=("image",)))
    assert "The split has no truth per pixel." in page.text
    assert "The split has no truth of classes." in page.text
    anchors = {value for _, name, value in page.attributes if name == "id"}
    assert "segmentation" not in anchors
    assert "images" in anchors


def test_scores_of_pixels_can_be_reported_from_a_file(tmp_path):
    scored_pixels().save(tmp_path / "test.npz")
    loaded = predictions_of(tmp_path / "test.npz")
    _, page = write(tmp_path, loaded)
    assert "photo" not in [v for _, name, v in page.attributes if name == "class"]
    assert set(measures.measure(loaded).values()) <= set(page.numbers)


def test_page_has_a_table_of_sets_and_their_images(tmp_path):
    predictions = ood_scenes.collected(overlays=4)
    path, page = write(tmp_path / "a", predictions)
    missing = set(measures.measure(predictions).values()) - set(page.numbers)
    assert not missing
    rows = [table for table in path.read_text().split("<h2") if 'id="sets"' in table]
    for text in ("scanner", "view", "organ", "C1", "C3", "mean of 2", "mean of 3", "the same 6 in"):
        assert text in rows[0]
    anchors = {value for _, name, value in page.attributes if name == "id"}
    assert {"sets", "segmentation", "images"} <= anchors
    assert "C2" not in page.text  # A group without sets here.
    # Curves of images, their histogram, boxes of sets, the scale of colours, the loss.
    photos = [v for t, name, v in page.attributes if (t, name, v) == ("img", "class", "photo")]
    shown = predictions.pixels.overlays
    assert len(photos) == sum(3 if each.of in ("view", "organ") else 4 for each in shown)
    assert page.tags.count("img") - len(photos) == 2 + 1 + 1 + 1 + 1
    assert "scanner: among the lowest scores" in page.text
    assert "in-distribution: among the highest scores" in page.text
    again, _ = write(tmp_path / "b", ood_scenes.collected(overlays=4, size=5))
    assert again.read_bytes() == path.read_bytes()


def test_page_of_sets_makes_no_claim_about_pixels(tmp_path):
    predictions = ood_scenes.collected(overlays=4)
    found = measures.measure(predictions)
    assert not any(
        name.startswith(("pixel_au", "pixel_fpr", "per_image", "comp")) for name in found
    )
    _, page = write(tmp_path, predictions)
    assert "The split has no truth per pixel." in page.text
    count = ood_scenes.COUNT * ood_scenes.SHAPE[0] * ood_scenes.SHAPE[1]
    assert f"; {count:,} pixels." in page.text
    assert "pixels that are truly anomalous" not in page.text


def test_dice_of_classes_stands_beside_their_overlap(tmp_path):
    predictions = ood_scenes.collected()
    found = measures.measure(predictions)
    _, page = write(tmp_path, predictions)
    for name in ood_scenes.CLASSES[:3]:
        assert {found[f"dice/{name}"], found[f"per_subject/dice/{name}"]} <= set(page.numbers)
    assert "Dice of patients" in page.text
    _, page = write(tmp_path, ood_scenes.collected(of=ood_scenes.split(background=None)))
    assert "Dice" not in page.text


def test_sets_without_normal_images_can_be_reported(tmp_path):
    labels = np.ones(ood_scenes.COUNT, int)
    classes = [name or "other" for name in ood_scenes.SETS]
    predictions = ood_scenes.collected(of=ood_scenes.split(labels=labels, classes=classes))
    _, page = write(tmp_path, predictions)
    assert "There are no in-distribution images to compare with." in page.text
