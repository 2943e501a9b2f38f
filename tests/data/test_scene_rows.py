"""Training rows of segmentation: outlier objects, rows drawn by class, images of several sizes."""

import dataclasses
import itertools

import numpy as np
import pytest

from jaxad.data import pipeline, segment_places
from jaxad.data.split import Split

ONE = pipeline.Reading(threads=1, prefetch=1)


class Scene:
    """Record i is an image of value i with the class map of `scenes[i]`."""

    def __init__(self, scenes):
        self.scenes = scenes

    def __call__(self, i):
        segments = self.scenes[i]
        image = np.full((*segments.shape, 3), i, np.uint8)
        return {"image": image, "segments": segments, "label": np.int32(0)}


class Thing:
    """Object i is of value i + 1, and never empty."""

    def __call__(self, i):
        return {
            "object": np.full((3, 3, 3), i + 1, np.uint8),
            "object_mask": np.ones((3, 3), np.uint8),
            "label": np.int32(1),
        }


def made(read, count, **fields):
    names = [f"r{i}" for i in range(count)]
    return Split(names, np.zeros(count, int), read, {"count": count}, **fields)


def scenes(count=10, shape=(4, 6)):
    return made(Scene([np.zeros(shape, np.uint8)] * count), count)


def rows(order, training, count, **options):
    batches = pipeline.training_batches(training, order, reading=ONE, **options)
    return list(itertools.islice(batches, count))


def test_an_epoch_holds_every_record_alone_and_objects_besides():
    training = pipeline.Training(scenes(10), made(Thing(), 50))
    order = pipeline.Order(batch_size=12, outlier_share=0.25)
    assert pipeline.steps_per_epoch(training.split, order) == 1
    epochs = rows(order, training, 20)
    for batch in epochs:
        alone = batch["object_mask"].max(axis=(1, 2)) == 0
        assert sorted(batch["index"][alone]) == list(range(10))
        assert np.sum(~alone) == 2
        assert not batch["object"][alone].any()
        assert np.all(batch["object"][~alone] == batch["object"][~alone][:, :1, :1, :1])
        assert np.all(batch["label"] == 0)
    drawn = [batch["object"].max(axis=(1, 2, 3)) for batch in epochs]
    assert len({int(v) for each in drawn for v in each if v}) > 20  # Afresh in each epoch.


def test_objects_are_the_same_wherever_reading_starts():
    training = pipeline.Training(scenes(7), made(Thing(), 9))
    order = pipeline.Order(batch_size=4, seed=3, outlier_share=0.5)
    straight, later = rows(order, training, 9), rows(order, training, 4, start=5)
    for one, other in zip(straight[5:], later, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_processes_share_out_rows_with_objects():
    training = pipeline.Training(scenes(7), made(Thing(), 9))
    order = pipeline.Order(batch_size=4, outlier_share=0.5)
    whole = rows(order, training, 5)
    parts = []
    for index in range(2):
        reading = dataclasses.replace(ONE, process=(index, 2))
        batches = pipeline.training_batches(training, order, reading=reading)
        parts.append(list(itertools.islice(batches, 5)))
    for batch, first, second in zip(whole, *parts, strict=True):
        joined = np.concatenate([first["object"], second["object"]])
        np.testing.assert_array_equal(joined, batch["object"])


def test_rows_drawn_by_class_show_rare_classes_as_often():
    rare = np.zeros((4, 6), np.uint8)
    rare[1:3, 4] = 1
    maps = [np.zeros((4, 6), np.uint8)] * 19 + [rare]
    split = made(Scene(maps), 20, segment_classes=("common", "rare"))
    places = segment_places.by_class(split)
    assert [len(each) for each in places] == [20, 1]
    np.testing.assert_array_equal(places[1], [[19, 1, 4]])  # The middle of its two pixels.
    order = pipeline.Order(batch_size=8, class_uniform_share=1.0)
    batches = rows(order, pipeline.Training(split, places=places), 40)
    index = np.concatenate([batch["index"] for batch in batches])
    centre = np.concatenate([batch["centre"] for batch in batches])
    assert 0.4 < np.mean(index == 19) < 0.65
    assert (centre >= 0).all()
    half = pipeline.Order(batch_size=8, class_uniform_share=0.5)
    batches = rows(half, pipeline.Training(split, places=places), 40)
    assert 0.4 < np.mean([batch["centre"][:, 0] < 0 for batch in batches]) < 0.6


@pytest.mark.parametrize("tile", [2, 1024])
def test_places_are_of_the_class_they_are_listed_for(tile):
    rng = np.random.default_rng(0)
    maps = [np.kron(rng.integers(0, 4, (2, 3)), np.ones((2, 2))).astype(np.uint8) for _ in range(5)]
    split = made(Scene(maps), 5, segment_classes=("a", "b", "c"))  # Id 3 is void.
    places = segment_places.by_class(split, tile=tile)
    assert len(places) == 3
    for name, group in enumerate(places):
        wanted = {i for i, segments in enumerate(maps) if (segments == name).any()}
        assert {int(i) for i, _, _ in group} == wanted
        if tile == 2:  # A tile is then of one class.
            assert all(maps[i][row, column] == name for i, row, column in group)


def test_images_of_several_sizes_are_batched_by_size():
    shapes = [(4, 6), (2, 2), (4, 6), (4, 6), (2, 2)]
    maps = [np.zeros(shape, np.uint8) for shape in shapes]
    split = made(Scene(maps), 5, sizes=np.array(shapes))
    batches = list(pipeline.ordered_batches(split, batch_size=2, devices=2, reading=ONE))
    assert [batch["segments"].shape for batch in batches] == [(2, 2, 2), (2, 4, 6), (2, 4, 6)]
    seen = np.concatenate([batch["index"][batch["valid"]] for batch in batches])
    assert sorted(seen) == [0, 1, 2, 3, 4]


def test_a_process_without_a_record_of_a_batch_has_its_shape():
    shapes = [(4, 6), (2, 2), (2, 2)]
    split = made(Scene([np.zeros(s, np.uint8) for s in shapes]), 3, sizes=np.array(shapes))
    reading = dataclasses.replace(ONE, process=(1, 2))
    batches = list(pipeline.ordered_batches(split, batch_size=2, devices=2, reading=reading))
    assert [batch["segments"].shape for batch in batches] == [(1, 2, 2), (1, 4, 6)]
    assert [bool(batch["valid"][0]) for batch in batches] == [True, False]
