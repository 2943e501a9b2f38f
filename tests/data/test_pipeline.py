"""The order of batches is a function of split, seed and batch size alone, however they are read."""

import collections
import contextlib
import dataclasses
import functools
import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxad.data import pipeline
from jaxad.data.split import Split
from jaxad.errors import InputError

ONE = pipeline.Reading(threads=1, prefetch=1)
SAMPLERS = ["shuffle", "balanced"]


@dataclasses.dataclass(frozen=True)
class Read:
    """Record p holds p in every entry; those in `torn` cannot be read."""

    lengths: tuple[int, ...]
    torn: tuple[int, ...] = ()

    def __call__(self, position):
        if position in self.torn:
            raise InputError(f"record {position} is torn")
        return {
            "x": np.full((2, self.lengths[position]), position, np.float32),
            "label": np.int32(position % 2),
        }


def split(size=22, lengths=None, torn=(), **fields):
    """Records with labels 0, 1, 0, …; of varying length where lengths are given."""
    time = {} if lengths is None else dict(lengths=np.array(lengths), time_axes={"x": 1})
    size = size if lengths is None else len(lengths)
    read = Read(tuple(lengths) if lengths is not None else (3,) * size, tuple(torn))
    made = Split([f"r{i}" for i in range(size)], np.arange(size) % 2, read, {"version": 1}, **time)
    return dataclasses.replace(made, **fields)


def unbalanced(anomalous, normal):
    labels = np.array([1] * anomalous + [0] * normal)
    return split(len(labels), labels=labels)


def training(split, count, *, size=8, seed=0, sampler="shuffle", reading=ONE, start=0):
    order = pipeline.Order(size, seed, sampler)
    batches = pipeline.training_batches(
        pipeline.Training(split), order, reading=reading, start=start
    )
    with contextlib.closing(batches):
        return list(itertools.islice(batches, count))


def ordered(split, *, size=8, devices=4, reading=ONE, start=0):
    return list(
        pipeline.ordered_batches(
            split, batch_size=size, devices=devices, reading=reading, start=start
        )
    )


def indices(batches):
    return [batch["index"].tolist() for batch in batches]


def positions(batches):
    """Those of all rows, in the order in which they come."""
    return list(itertools.chain(*indices(batches)))


def same(actual, expected):
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            assert a[name].dtype == b[name].dtype
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def joined(shares):
    """The batches that processes hold shares of."""
    return [
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        for parts in zip(*shares, strict=True)
    ]


# Order.


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_same_seed_gives_the_same_batches(sampler):
    same(training(split(), 9, sampler=sampler), training(split(), 9, sampler=sampler))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_other_seed_gives_another_order(sampler):
    first, second = (training(split(), 9, seed=seed, sampler=sampler) for seed in (0, 1))
    assert indices(first) != indices(second)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_order_of_records_is_that_of_any_batch_size(sampler):
    """A batch twice as large holds the records of two."""
    small = positions(training(split(), 8, size=4, sampler=sampler))
    large = positions(training(split(), 4, size=8, sampler=sampler))
    assert small == large


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("reading", [dict(threads=4, prefetch=1), dict(threads=3, prefetch=8)])
def test_order_is_that_of_any_reading_ahead(sampler, reading):
    ahead = training(split(), 9, sampler=sampler, reading=pipeline.Reading(**reading))
    same(ahead, training(split(), 9, sampler=sampler))


@functools.cache
def straight(seed, sampler):
    return training(split(), 43, seed=seed, sampler=sampler)


@settings(max_examples=30, deadline=None)
@given(
    start=st.integers(0, 40),
    seed=st.sampled_from([0, 2**31 - 1]),
    sampler=st.sampled_from(SAMPLERS),
    threads=st.sampled_from([1, 2]),
)
def test_start_continues_exactly(start, seed, sampler, threads):
    reading = pipeline.Reading(threads=threads, prefetch=2)
    resumed = training(split(), 3, seed=seed, sampler=sampler, reading=reading, start=start)
    same(resumed, straight(seed, sampler)[start : start + 3])


def test_start_far_into_training_is_quick_and_right():
    """Batch 11 n begins an epoch: one has 11 batches of 2 among 22 records."""
    far = positions(training(split(), 11, size=2, start=11 * 10**7))
    assert sorted(far) == list(range(22))


@pytest.mark.slow
def test_reader_process_gives_the_same_batches_from_any_start():
    reading = pipeline.Reading(workers=1, prefetch=2)
    same(training(split(), 4, reading=reading, start=2), training(split(), 6)[2:])


def test_rows_hold_the_records_of_their_index():
    (batch,) = training(split(), 1)
    assert batch["valid"].all()
    assert batch["x"].shape == (8, 2, 3)
    np.testing.assert_array_equal(batch["x"][:, 1, 2], batch["index"])
    np.testing.assert_array_equal(batch["label"], batch["index"] % 2)


# Epochs.


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_shuffle_has_each_record_once_per_epoch(epoch):
    order = positions(training(split(), 17, size=4))
    assert sorted(order[22 * epoch : 22 * (epoch + 1)]) == list(range(22))


def test_each_epoch_is_shuffled_anew():
    order = positions(training(split(), 11, size=4))
    assert order[:22] != order[22:44]


@pytest.mark.parametrize("anomalous, normal", [(3, 10), (10, 3), (4, 4)])
def test_balanced_alternates_both_classes(anomalous, normal):
    made = unbalanced(anomalous, normal)
    order = positions(training(made, 10, size=6, sampler="balanced"))
    assert made.labels[order].tolist() == [1, 0] * 30


@pytest.mark.parametrize("anomalous, normal", [(3, 10), (10, 3)])
def test_balanced_has_each_record_of_the_larger_class_once_per_epoch(anomalous, normal):
    made = unbalanced(anomalous, normal)
    order = np.array(positions(training(made, 10, size=4, sampler="balanced")))
    larger = order[made.labels[order] == (0 if normal > anomalous else 1)]
    expected = np.flatnonzero(made.labels == (0 if normal > anomalous else 1)).tolist()
    assert sorted(larger[:10]) == sorted(larger[10:20]) == expected


def test_balanced_goes_through_the_smaller_class_again_and_again():
    """In 9 batches of 2 + 2, each of 3 anomalous records comes 6 times: once per pass of 3."""
    made = unbalanced(3, 10)
    order = np.array(positions(training(made, 9, size=4, sampler="balanced")))
    smaller = order[made.labels[order] == 1].reshape(6, 3)
    np.testing.assert_array_equal(np.sort(smaller, axis=1), np.tile([0, 1, 2], (6, 1)))
    assert len(set(map(tuple, smaller))) > 1  # In changing order.


def test_balanced_shuffles_the_classes_apart():
    """Of classes of one size, else the same records would meet in every epoch."""
    order = np.array(positions(training(unbalanced(20, 20), 10, size=4, sampler="balanced")))
    assert (order[0::2] != order[1::2] - 20).any()


@pytest.mark.parametrize(
    "sampler, size, expected", [("shuffle", 8, 2), ("shuffle", 13, 1), ("balanced", 8, 3)]
)
def test_steps_per_epoch_are_rounded_up(sampler, size, expected):
    """13 records, 10 of them normal: balanced batches of 8 have room for 4 of those."""
    assert pipeline.steps_per_epoch(unbalanced(3, 10), pipeline.Order(size, 0, sampler)) == expected


@pytest.mark.parametrize("label, missing", [(0, "anomalous"), (1, "normal")])
def test_balanced_without_a_class_says_which(label, missing):
    made = split(5, labels=np.full(5, label))
    message = f"no {missing} records, and sampler='balanced' needs both classes; it holds 5"
    with pytest.raises(InputError, match=message):
        training(made, 1, sampler="balanced")


# The plan of ordered batches.

RANDOM = np.random.default_rng(0).integers(1, 3000, size=1000)


def rows_of(lengths, **options):
    return pipeline.plan(split(lengths=lengths), **{"batch_size": 16, "devices": 4, **options})


def test_plan_has_each_record_once():
    found = [p for rows in rows_of(RANDOM) for p in rows.positions if p >= 0]
    assert sorted(found) == list(range(1000))


def test_plan_without_lengths_is_in_order_and_padded():
    found = pipeline.plan(split(10), batch_size=4, devices=2)
    assert [rows.positions for rows in found] == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9, -1, -1)]
    assert {rows.length for rows in found} == {0}


def test_length_of_a_batch_is_the_next_power_of_two_from_32_on():
    for rows in rows_of(RANDOM):
        longest = max(RANDOM[p] for p in rows.positions if p >= 0)
        assert rows.length == max(32, 2 ** int(longest - 1).bit_length())


@pytest.mark.parametrize(
    "length, expected", [(0, 32), (1, 32), (32, 32), (33, 64), (64, 64), (65, 128), (4097, 8192)]
)
def test_length_at_the_edge_of_a_bucket(length, expected):
    assert [rows.length for rows in rows_of([length])] == [expected]


@settings(max_examples=50, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 5000), min_size=1, max_size=40),
    size=st.integers(1, 64),
    devices=st.sampled_from([1, 2, 3, 8]),
)
def test_rows_are_a_multiple_of_the_devices_and_memory_is_bounded(lengths, size, devices):
    for rows in rows_of(lengths, batch_size=size, devices=devices):
        count = len(rows.positions)
        assert count % devices == 0
        assert count * rows.length <= max(size * 32, devices * rows.length)


def test_thousand_lengths_compile_a_handful_of_programs():
    """Lengths up to 3000 fall into the buckets 32, 64, …, 4096."""
    shapes = {(len(rows.positions), rows.length) for rows in rows_of(RANDOM)}
    assert len(shapes) == 8


def test_only_the_last_batch_of_a_bucket_is_padded():
    padded = collections.Counter(rows.length for rows in rows_of(RANDOM) if -1 in rows.positions)
    assert max(padded.values()) == 1


def test_start_continues_the_plan():
    made = split(lengths=[5, 40, 7, 100, 33])
    same(ordered(made, start=2), ordered(made)[2:])


def test_start_at_the_end_of_the_plan_gives_nothing():
    assert ordered(split(10), size=4, devices=2, start=3) == []


# Padding.


def test_padding_rows_are_invalid_and_zero():
    batch = ordered(split(10), size=4, devices=2)[-1]
    assert batch["index"].tolist() == [8, 9, -1, -1]
    assert batch["valid"].tolist() == [True, True, False, False]
    np.testing.assert_array_equal(batch["x"][2:], np.zeros((2, 2, 3)))


def test_short_records_are_padded_in_time_and_say_their_length():
    (batch,) = ordered(split(lengths=[3, 5]), size=2, devices=2)
    assert batch["x"].shape == (2, 2, 32)
    assert batch["length"].tolist() == [3, 5]
    np.testing.assert_array_equal(batch["x"][1, :, :5], np.ones((2, 5)))
    np.testing.assert_array_equal(batch["x"][1, :, 5:], np.zeros((2, 27)))


def test_padding_rows_have_length_zero():
    (batch,) = ordered(split(lengths=[3, 5, 2]), size=4, devices=4)
    assert batch["length"].tolist() == [3, 5, 2, 0]


def test_example_repeats_the_records_of_a_small_split():
    batch = pipeline.example(split(1), rows=3)
    assert batch["index"].tolist() == [0, 0, 0]


def test_example_repeats_the_first_record():
    batch = pipeline.example(split(lengths=[3, 7, 50]))
    assert batch["x"].shape == (2, 2, 3)


# Several processes.


def shares(count, read):
    return [read(dataclasses.replace(ONE, process=(index, count))) for index in range(count)]


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_shares_of_training_batches_are_the_whole(sampler, count):
    read = lambda reading: training(split(), 7, sampler=sampler, reading=reading)  # noqa: E731
    same(joined(shares(count, read)), training(split(), 7, sampler=sampler))


@pytest.mark.parametrize("count", [2, 4])
def test_shares_of_balanced_batches_are_balanced(count):
    read = lambda reading: training(split(), 7, sampler="balanced", reading=reading)  # noqa: E731
    for batch in itertools.chain(*shares(count, read)):
        assert 2 * batch["label"].sum() == len(batch["label"])


def test_shares_of_ordered_batches_are_the_whole():
    """Ten records in batches of four: the second share of the last batch is padding alone."""
    read = lambda reading: ordered(split(10), size=4, reading=reading)  # noqa: E731
    same(joined(shares(2, read)), ordered(split(10), size=4))


@pytest.mark.parametrize("lengths", [[100, 3, 5], [3, 100, 5]])
def test_shares_of_ordered_batches_of_any_length_are_the_whole(lengths):
    """Both buckets hold fewer records than devices: the second share is padding alone."""
    made = split(lengths=lengths)
    read = lambda reading: ordered(made, reading=reading)  # noqa: E731
    same(joined(shares(2, read)), ordered(made))


def test_share_of_unreadable_records_is_as_in_the_whole():
    made = split(lengths=[9, 3, 5, 4], torn=[2, 3])
    whole = ordered(made, size=4, reading=dataclasses.replace(ONE, on_error="skip"))
    found = [
        ordered(made, size=4, reading=dataclasses.replace(ONE, on_error="skip", process=(i, 2)))
        for i in range(2)
    ]
    same(joined(found), whole)


# Records that cannot be read.

SKIP = dataclasses.replace(ONE, on_error="skip")


@pytest.mark.parametrize("threads", [1, 2])
def test_unreadable_record_raises_its_own_error(threads):
    reading = pipeline.Reading(threads=threads)
    with pytest.raises(InputError, match=r"^record 5 is torn$"):
        training(split(torn=[5]), 3, reading=reading)


def test_batches_before_the_unreadable_record_still_come():
    batches = pipeline.ordered_batches(
        split(12, torn=[9]), batch_size=4, devices=4, reading=pipeline.Reading()
    )
    assert [next(batches)["index"].tolist() for _ in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with pytest.raises(InputError, match="record 9 is torn"):
        next(batches)


@pytest.mark.slow
def test_error_in_a_reader_process_arrives_with_its_text():
    with pytest.raises(InputError, match=r"^record 5 is torn$"):
        training(split(torn=[5]), 3, reading=pipeline.Reading(workers=1, prefetch=2))


def test_skipped_record_is_an_invalid_row_of_zeros_with_its_index():
    batch = ordered(split(8, torn=[5]), reading=SKIP)[0]
    assert batch["valid"].tolist() == [i != 5 for i in range(8)]
    assert batch["index"].tolist() == list(range(8))
    np.testing.assert_array_equal(batch["x"][5], np.zeros((2, 3)))


def test_skipping_leaves_the_order_as_it_is():
    assert indices(training(split(torn=[5]), 6, reading=SKIP)) == indices(training(split(), 6))


@pytest.mark.parametrize("lengths", [None, [3] * 4 + [50] * 4, [50] * 4 + [3] * 4])
def test_batch_without_a_readable_record_is_invalid_and_zero(lengths):
    made = split(8, lengths=lengths, torn=[4, 5, 6, 7])
    batches = ordered(made, size=4 if lengths is None else 8, reading=SKIP)
    (batch,) = [batch for batch in batches if 4 in batch["index"]]
    assert batch["index"].tolist()[:4] == [4, 5, 6, 7]
    assert not batch["valid"].any()
    assert not batch["x"].any()


def test_batch_without_a_readable_record_has_lengths_of_zero():
    made = split(lengths=[3] * 4 + [50] * 4, torn=[4, 5, 6, 7])
    batch = ordered(made, size=8, reading=SKIP)[1]
    assert batch["length"].tolist() == [0, 0, 0, 0]


def test_if_no_record_can_be_read_skipping_ends_too():
    with pytest.raises(InputError, match="None of the 6 records can be read"):
        training(split(6, torn=range(6)), 1, size=2, reading=SKIP)


def test_other_errors_are_not_swallowed():
    def broken(position):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        training(split(6, read=broken), 1, size=2, reading=SKIP)


# Fingerprints.

ORDER = dict(seed=0, batch_size=8, sampler="shuffle")


@pytest.mark.parametrize(
    "fields, order",
    [
        ({}, {"seed": 1}),
        ({}, {"batch_size": 16}),
        ({}, {"sampler": "balanced"}),
        ({"labels": 1 - np.arange(22) % 2}, {}),
        ({"names": [f"r{i}" for i in range(21)] + ["s"]}, {}),
        ({"names": [f"r{i}" for i in range(22)][::-1]}, {}),
        ({"fingerprint": {"version": 2}}, {}),
    ],
    ids=["seed", "batch size", "sampler", "labels", "a name", "order of names", "source"],
)
def test_fingerprint_changes_with(fields, order):
    changed = pipeline.fingerprint(split(**fields), **{**ORDER, **order})
    assert changed != pipeline.fingerprint(split(), **ORDER)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"labels": (np.arange(22) % 2).astype(np.int8)},
        {"names": tuple(f"r{i}" for i in range(22))},
        {"read": Read((3,) * 22, torn=(4,))},
        {"fingerprint": {"version": np.array([1]).tolist()[0]}},
    ],
    ids=["nothing", "type of labels", "type of names", "reading", "equal values"],
)
def test_fingerprint_does_not_change_with(fields):
    assert pipeline.fingerprint(split(**fields), **ORDER) == pipeline.fingerprint(split(), **ORDER)


def test_fingerprint_is_what_json_gives_back():
    made = pipeline.fingerprint(split(fingerprint={"shape": (2, 3)}), **ORDER)
    assert json.loads(json.dumps(made)) == made
