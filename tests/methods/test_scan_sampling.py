"""Training scans of the medical systems, and outliers made of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad import scan_sections
from jaxad.augment import outliers
from jaxad.errors import InputError
from jaxad.methods import base, scan_sampling
from jaxad.training import spmd

SEGMENTS = np.array([[[0, 1, 2, 2], [1, 1, 255, 2], [3, 3, 255, 255], [0, 3, 255, 255]]], np.int32)


def labels(rule, size=(2, 2), segments=SEGMENTS):
    at = jax.jit(lambda s: scan_sampling.labels_at(s, size, rule=rule, num_classes=4))
    return np.asarray(at(jnp.asarray(segments)))[0].tolist()


def test_first_label_of_each_cell():
    assert labels("first") == [[0, 2], [3, 255]]


def test_middle_label_of_each_cell():
    assert labels("middle") == [[1, 2], [3, 255]]


def test_commonest_label_of_each_cell_without_void():
    assert labels("majority") == [[1, 2], [3, 255]]


def test_of_equally_common_labels_the_lowest_is_taken():
    assert labels("majority", (1, 1), SEGMENTS[:, 2:, :2] * [[[1, 0], [1, 1]]]) == [[0]]


def test_first_labels_of_cells_that_are_no_whole_pixels():
    assert labels("first", (3, 3)) == [[0, 1, 2], [1, 1, 255], [3, 3, 255]]


def test_majority_needs_whole_pixels():
    with pytest.raises(ValueError, match=r"\(4, 4\) pixels are no multiple of \(3, 3\)"):
        labels("majority", (3, 3))


@pytest.mark.parametrize(
    "fields, message",
    [
        (dict(flip=0.5), "augment has no field 'flip'"),
        (dict(operations=("turn",)), "augment.operations: expected one of 'half_turn'"),
        (dict(probabilities=(1.0,)), "probabilities: expected one for each of the 6 operations"),
        (dict(probabilities=(1.0, 0, 0, 0, 0, 0), count=2), "at most the 1 operations"),
        (dict(count=7), "at most the 6 operations"),
        (dict(log_gamma=(0.3, -0.3)), "log_gamma: expected the lowest and the highest"),
        (dict(degrees=-1.0), "augment.degrees: expected a number of at least 0"),
    ],
)
def test_wrong_drawing_is_named(fields, message):
    with pytest.raises(InputError, match=message):
        scan_sampling.parse({**scan_sections.drawing(), **fields})


def test_the_section_states_the_defaults():
    assert scan_sampling.parse(scan_sections.drawing()) == scan_sampling.Drawing()


def test_operations_are_named_in_their_order():
    images = jnp.asarray(np.random.default_rng(0).random((1, 8, 8, 1)), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 1)
    made = dict(zip(scan_sampling.OPERATIONS, outliers.medical_operations(patch=3), strict=True))
    np.testing.assert_array_equal(made["half_turn"](keys, images), images[:, ::-1, ::-1])
    np.testing.assert_array_equal(made["vertical_flip"](keys, images), images[:, ::-1])
    logs = np.log(made["gamma"](keys, images)) / np.log(images)
    np.testing.assert_allclose(logs, logs[0, 0, 0, 0], rtol=1e-3)


def drawn(devices):
    """Scans, classes and outliers of eight images over so many devices."""
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.random((8, 16, 16, 1)).astype(np.float32),
        "segments": rng.integers(0, 3, (8, 16, 16)).astype(np.uint8),
        "valid": np.ones(8, bool),
    }
    drawing = scan_sampling.Drawing(patch=5, swaps=5, displacement=2.0)

    def draw(_, batch):
        key = jax.random.key(1)
        images, segments = scan_sampling.draw_scans(drawing, key, batch, background=2)
        changed = scan_sampling.draw_outliers(drawing, key, images)
        return base.Scores(extra={"image": images, "segments": segments, "changed": changed})

    mapper = spmd.Mapper("shard_map", jax.devices()[:devices])
    return mapper.fetch(mapper.score(draw)({}, mapper.put(batch))).extra


def test_drawing_does_not_depend_on_the_devices():
    one, eight = drawn(1), drawn(8)
    for name, values in one.items():
        np.testing.assert_allclose(values, eight[name], atol=1e-6)


def test_what_comes_in_at_the_border_is_black_background():
    one = drawn(1)
    outside = (one["image"] == 0).all(-1)
    assert outside.any()
    assert (one["segments"][outside] == 2).all()
