import io
import warnings

import numpy as np
import pixel_scenes
import pytest
from PIL import Image

from jaxad.evaluation import figures, pixel_figures, pixels


def drawn(png):
    image = Image.open(io.BytesIO(png)).convert("L")
    assert len(np.unique(np.asarray(image))) > 10
    return image.width


def test_figures_are_the_same_bytes_each_time():
    scored = pixel_scenes.collected()
    draw = (pixel_figures.histogram, pixel_figures.reliability, pixel_figures.color_scale)
    first, again = ([each(scored.pixels) for each in draw] for _ in range(2))
    assert first == again
    assert all(drawn(png) == 832 for png in first)
    assert figures.curves(scored) == figures.curves(scored)
    assert {drawn(png) for png in figures.curves(scored).values()} == {832}


def test_undefined_figures_are_left_out():
    empty = pixels.zero(1, None)
    assert pixel_figures.histogram(empty) is None
    assert pixel_figures.reliability(empty) is None
    unknown = pixel_scenes.collected(truth=("image",))
    assert figures.curves(unknown) == {}
    drawn(pixel_figures.histogram(unknown.pixels))


def test_limits_leave_out_few_pixels_and_keep_anomalies():
    state = pixel_scenes.collected().pixels
    low, high = pixel_figures.limits(state)
    truth, scores = pixel_scenes.flat()
    assert 0.005 <= np.mean(scores < low) <= 0.02
    assert np.mean(scores > high) <= 0.01
    assert high >= np.median(scores[truth == 1]) * (1 - 2**-7)
    assert pixel_figures.limits(pixels.zero(1, None)) == (0.0, 1.0)


@pytest.mark.parametrize("value", [0.0, -3.0, 2e9, 1e-30, 3.4e38])
def test_equal_scores_can_be_drawn(value):
    state = pixels.zero(1, None)
    anomaly = np.eye(4, dtype=np.uint8)
    maps = {"pixel": np.full((4, 4), value, np.float32)}
    state = pixels.add(state, 0, "a", maps, {"anomaly": anomaly})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn(pixel_figures.histogram(state))
        drawn(pixel_figures.color_scale(state))
