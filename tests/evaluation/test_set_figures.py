import dataclasses
import io
import warnings

import numpy as np
import ood_scenes
import pytest
from PIL import Image

from jaxad.evaluation import set_figures


def picture(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_each_set_has_a_box():
    scored = ood_scenes.collected()
    found = set_figures.boxes(scored)
    assert found == set_figures.boxes(scored)
    red, _, blue = np.moveaxis(picture(found), -1, 0)
    rows = ((red - blue) > 60).sum(axis=1) > 20  # Rows with much of the sets' colour.
    assert np.sum(np.diff(rows.astype(int)) == 1) == 3


def test_nothing_to_compare_no_figure():
    scored = ood_scenes.collected()
    assert set_figures.boxes(dataclasses.replace(scored, classes=None)) is None
    anomalous = dataclasses.replace(scored, labels=np.ones(len(scored), int))
    assert set_figures.boxes(anomalous) is None


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e6])
def test_any_scores_and_long_names_can_be_drawn(scale):
    scored = ood_scenes.collected()
    long = tuple(name and f"$odd_{{{name}" * 9 for name in scored.classes)
    image = scale * np.exp(scored.image.astype(np.float64))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        png = set_figures.boxes(dataclasses.replace(scored, classes=long, image=image))
    assert picture(png).shape[1] == 832
