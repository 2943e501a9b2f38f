import io

import numpy as np
import ood_scenes
import pixel_scenes
import pytest
from PIL import Image

from jaxad.evaluation import collecting, overlays, pixel_figures


def gallery(order=range(9), **options):
    keeping = collecting.Keeping(overlays=2)
    return pixel_scenes.collected(order, keeping=keeping, **options).pixels


def decoded(drawn):
    return np.asarray(Image.open(io.BytesIO(drawn[1])).convert("RGB")).astype(int)


def test_best_worst_and_most_alarming_are_kept():
    state = gallery()
    auc, peak = state.images["auc"], state.images["peak"]
    anomalous = [i for i in range(9) if i % 3]
    ranked = sorted(anomalous, key=lambda i: (auc[i], -i))
    calm = sorted((0, 3, 6), key=lambda i: (-peak[i], i))
    kept = [(overlay.place, overlay.kind) for overlay in state.overlays]
    expected = [(i, "best") for i in ranked[::-1][:2]] + [(i, "worst") for i in ranked[:2][::-1]]
    assert kept == expected + [(i, "normal") for i in calm[:2]]


def test_order_and_batching_change_nothing():
    expected = gallery().overlays
    for order, size in ((range(8, -1, -1), 1), ((4, 1, 7, 0, 8, 2, 6, 3, 5), 4)):
        found = gallery(order, size=size).overlays
        assert [o.place for o in found] == [o.place for o in expected]
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a.scores, b.scores)
            np.testing.assert_array_equal(a.image, b.image)


def test_images_without_truth_count_as_without_anomalies():
    state = gallery(truth=("image",))
    assert [overlay.kind for overlay in state.overlays] == ["normal"] * 2


def test_few_images_are_shown_once():
    keeping = collecting.Keeping(overlays=4)
    places = [o.place for o in pixel_scenes.collected(keeping=keeping).pixels.overlays]
    assert sorted(places) == list(range(9))


def test_none_are_kept_where_none_are_wanted():
    assert pixel_scenes.collected().pixels.overlays == ()


def test_making_small_merges_squares():
    rng = np.random.default_rng(0)
    scores = rng.random((7, 1283)).astype(np.float32)  # Steps of three.
    anomaly = rng.integers(0, 2, (7, 1283)).astype(np.uint8)
    image = rng.integers(0, 256, (7, 1283, 1)).astype(np.uint8)
    small = overlays.reduced(3, "best", {"pixel": scores}, {"anomaly": anomaly}, image)
    assert small.scores.shape == small.anomaly.shape == small.image.shape[:2] == (2, 427)
    assert small.scores[1, 2] == pytest.approx(scores[3:6, 6:9].mean())
    assert small.anomaly[1, 2] == anomaly[4, 7]
    assert abs(int(small.image[1, 2, 0]) - image[3:6, 6:9].mean()) <= 0.5
    assert small.classes is None


def test_images_flatter_than_a_square_and_of_other_types():
    scores = np.ones((2, 3000), np.float32)
    small = overlays.reduced(0, "best", {"pixel": scores}, {}, np.zeros((2, 3000, 3), np.int32))
    assert small.scores.shape == (1, 600)
    assert small.image is None
    assert list(overlays.panels(small, (0.0, 1.0), overlays.colors(3))) == ["score"]


def test_panels_show_what_there_is():
    state = gallery()
    limits, palette = pixel_figures.limits(state), overlays.colors(4)
    overlay = state.overlays[0]
    drawn = overlays.panels(overlay, limits, palette)
    assert list(drawn) == ["image", "truth", "predicted classes", "score"]
    for mime, _ in drawn.values():
        assert mime in ("image/png", "image/jpeg")
    shapes = {decoded(each).shape for each in drawn.values()}
    assert shapes == {(*overlay.scores.shape, 3)}


def test_colours_are_those_of_the_classes():
    state = gallery(truth=("anomaly", "segments"))
    palette = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9)], np.uint8)
    overlay = state.overlays[0]
    drawn = overlays.panels(overlay, pixel_figures.limits(state), palette)
    assert "image" not in drawn
    truth, guesses = decoded(drawn["truth"]), decoded(drawn["predicted classes"])
    np.testing.assert_array_equal(guesses, palette[overlay.classes])
    np.testing.assert_array_equal(truth[overlay.segments == 1], palette[[1]].repeat(
        np.sum(overlay.segments == 1), 0))  # fmt: skip
    assert (truth[overlay.segments == 254] == overlays.OUTLIER).all()
    assert (truth[overlay.segments == 255] == overlays.VOID).all()


def test_one_scale_for_all_and_true_anomalies_outlined():
    scores = np.array([[-5.0, 0.0, 0.5], [1.0, 9.0, 0.5], [0, 0, 0]], np.float32)
    anomaly = np.zeros((3, 3), np.uint8)
    anomaly[2, 2] = 1
    overlay = overlays.Overlay(0, "best", scores, anomaly=anomaly)
    found = decoded(overlays.panels(overlay, (0.0, 1.0), overlays.colors(1))["score"])
    np.testing.assert_array_equal(found[0, 0], found[0, 1])  # Below the scale.
    np.testing.assert_array_equal(found[1, 0], found[1, 1])
    assert (found[2, 2] == overlays.OUTLIER).all()
    assert (found[0, 2] != found[0, 1]).any()


def test_colours_without_a_palette_differ():
    found = overlays.colors(45)
    assert found.shape == (45, 3)
    assert len(np.unique(found, axis=0)) == 45
    assert not (found == overlays.OUTLIER).all(axis=1).any()
    given = np.zeros((2, 3), np.uint8)
    np.testing.assert_array_equal(overlays.colors(2, given), given)


EVERY = range(ood_scenes.COUNT)


def of_sets(order=EVERY, **options):
    return ood_scenes.collected(order, overlays=4, **options).pixels.overlays


def test_without_truth_of_pixels_each_set_is_shown_by_its_scores():
    kept = [(overlay.of, overlay.place, overlay.kind) for overlay in of_sets()]
    assert kept == [
        # Image scores 1 3 2 5 4 2, then 4 5 1, 9 8, 5 7.
        *(("", 3, "highest"), ("", 4, "highest"), ("", 2, "lowest"), ("", 0, "lowest")),
        *(("scanner", 7, "highest"), ("scanner", 6, "highest"), ("scanner", 8, "lowest")),
        *(("view", 9, "highest"), ("view", 10, "highest")),
        *(("organ", 12, "highest"), ("organ", 11, "highest")),
    ]


def test_order_and_batching_change_nothing_in_sets():
    expected = [(o.of, o.place, o.kind) for o in of_sets()]
    for order, size in ((range(12, -1, -1), 1), ((4, 1, 7, 12, 10, 0, 8, 2, 6, 3, 5, 9, 11), 5)):
        assert [(o.of, o.place, o.kind) for o in of_sets(order, size=size)] == expected


def test_images_of_floats_are_shown():
    overlay = of_sets()[0]
    expected = np.round(255 * ood_scenes.SCENES[overlay.place][1]["image"])
    assert np.abs(overlay.image - expected).max() <= 1
    odd = np.full((2, 2, 1), np.nan, np.float32)
    odd[0] = 7
    small = overlays.reduced(0, "best", {"pixel": np.zeros((2, 2))}, {}, odd)
    np.testing.assert_array_equal(small.image[..., 0], [[255, 255], [0, 0]])


def test_truth_that_is_void_throughout_is_not_shown():
    titles = {}
    for overlay in of_sets():
        titles[overlay.of] = list(overlays.panels(overlay, (0.0, 1.0), overlays.colors(4)))
    assert titles[""] == titles["scanner"] == ["image", "truth", "predicted classes", "score"]
    assert titles["view"] == titles["organ"] == ["image", "predicted classes", "score"]


def test_background_covers_nothing_of_the_image():
    overlay = of_sets()[0]
    palette = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)], np.uint8)
    drawn = overlays.panels(overlay, (0.0, 1.0), palette, background=3)["predicted classes"]
    covered = overlays.panels(overlay, (0.0, 1.0), palette)["predicted classes"]
    own = overlay.classes == 3
    assert np.abs(decoded(drawn)[own] - overlay.image[own]).mean() < 25  # The JPEG's error.
    assert np.abs(decoded(covered)[own] - overlay.image[own]).mean() > 50
    assert np.abs(decoded(covered) - decoded(drawn))[~own].mean() < 25


def test_scores_of_sets_are_laid_over_the_image():
    shape = (16, 16)
    image = np.zeros((*shape, 3), np.uint8)
    image[:, 8:] = 255
    scores = np.full(shape, 0.5, np.float32)
    pictures = [
        decoded(
            overlays.panels(overlays.Overlay(0, kind, scores, image), (0.0, 1.0), image[0])["score"]
        )
        for kind in ("highest", "best")
    ]
    assert (pictures[0][:, 12] > pictures[0][:, 3] + 80).all()
    assert (pictures[1] == pictures[1][0, 0]).all()


def test_truth_of_pixels_goes_before_names():
    of = pixel_scenes.split(classes=["digit" if i % 3 else "" for i in range(9)])
    keeping = collecting.Keeping(overlays=2)
    found = collecting.collect(of, pixel_scenes.batches(), keeping=keeping).pixels.overlays
    assert [(o.place, o.kind, o.of) for o in found] == [
        (o.place, o.kind, "") for o in gallery().overlays
    ]


def test_images_without_a_score_are_ranked_by_their_pixels():
    def batches():
        for scores, records in ood_scenes.batches():
            yield {name: a for name, a in scores.items() if name != "image"}, records

    keeping = collecting.Keeping(overlays=1)
    state = collecting.collect(ood_scenes.split(), batches(), keeping=keeping).pixels
    peaks = state.images["peak"]
    for overlay in state.overlays:
        own = [i for i, name in enumerate(ood_scenes.SETS) if name == overlay.of]
        wanted = max if overlay.kind == "highest" else min
        assert overlay.place == wanted(own, key=lambda i: peaks[i])
