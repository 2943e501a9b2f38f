import pathlib
import re

import numpy as np
import pytest
import scipy.io
import vectors
from hypothesis import given
from hypothesis import strategies as st

from jaxad.data import frame_truth
from jaxad.errors import InputError

SHANGHAITECH = pathlib.Path(__file__).resolve().parents[3] / "shared/data/shanghaitech_frame_gt.npz"
EVENTS = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 60)).map(lambda p: (p[0], p[0] + p[1])),
    max_size=3,
)


@pytest.mark.parametrize("i", [0, 1, 2])
def test_mask_equals_published_rule(i):
    golden = vectors.load("rtfm", "ground_truth")
    expected = golden[f"sh_gt_{i}"]
    actual = frame_truth.from_mask(golden[f"sh_mask_{i}"], len(expected) // 16)
    assert actual.dtype == np.uint8
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("i", [0, 1, 2, 3])
def test_inclusive_events_equal_published_rule(i):
    golden = vectors.load("rtfm", "ground_truth")
    events, snippets = golden[f"ucf_events_{i}"], int(golden[f"ucf_snippets_{i}"])
    actual = frame_truth.from_inclusive_events(events, snippets)
    np.testing.assert_array_equal(actual, golden[f"ucf_gt_{i}"])


@pytest.mark.parametrize("i", [0, 1, 2])
def test_exclusive_events_equal_published_rule(i):
    golden = vectors.load("rtfm", "ground_truth")
    snippets = frame_truth.xd_snippets(int(golden[f"xd_frames_{i}"]))
    actual = frame_truth.from_exclusive_events(golden[f"xd_events_{i}"], snippets)
    np.testing.assert_array_equal(actual, golden[f"xd_gt_{i}"])


def test_shanghaitech_facts():
    if not SHANGHAITECH.is_file():
        pytest.skip(f"{SHANGHAITECH} is not there")
    with np.load(SHANGHAITECH) as file:
        names, lengths, masks = file["anomalous_videos"], file["lengths"], file["masks"]
        test_names = set(file["weak_test"].tolist())
    assert (len(names), len(masks), int(masks.sum())) == (107, 40_791, 17_326)
    by_name = dict(zip(names.tolist(), np.split(masks, np.cumsum(lengths)[:-1]), strict=True))
    assert all(mask.any() for mask in by_name.values())
    test_masks = [mask for name, mask in by_name.items() if name in test_names]
    assert len(test_masks) == 44
    assert sum(map(len, test_masks)) == 17_472
    assert sum(int(mask.sum()) for mask in test_masks) == 7_962
    truth = [frame_truth.from_mask(mask, -(-len(mask) // 16)) for mask in test_masks]
    assert sum(map(len, truth)) == 17_968
    positive = sum(int(frames.sum()) for frames in truth)
    assert positive == 8_028
    assert positive / 142_912 == pytest.approx(0.05617, abs=1e-5)


@given(st.lists(st.integers(0, 1), min_size=1, max_size=100), st.integers(1, 8))
def test_mask_keeps_its_frames_and_repeats_the_last(mask, snippets):
    actual = frame_truth.from_mask(np.array(mask), snippets)
    shared = min(len(mask), 16 * snippets)
    assert len(actual) == 16 * snippets
    np.testing.assert_array_equal(actual[:shared], mask[:shared])
    assert set(actual[shared:]) <= {mask[-1]}


@given(EVENTS, st.integers(0, 12))
def test_events_mark_the_frames_they_contain(events, snippets):
    inclusive = frame_truth.from_inclusive_events(np.array(events), snippets)
    exclusive = frame_truth.from_exclusive_events(np.array(events), snippets)
    frames = range(16 * snippets)
    np.testing.assert_array_equal(inclusive, [any(a <= t <= b for a, b in events) for t in frames])
    np.testing.assert_array_equal(exclusive, [any(a <= t < b for a, b in events) for t in frames])


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 99))
def test_flat_truth_is_cut_in_order(snippets, seed):
    flat = np.random.default_rng(seed).integers(0, 2, 16 * sum(snippets)).astype(np.float64)
    names = [f"v{i}" for i in range(len(snippets))]
    cut = frame_truth.cut_flat(flat, names, snippets)
    assert [len(frames) for frames in cut] == [16 * t for t in snippets]
    np.testing.assert_array_equal(np.concatenate(cut), flat)


def test_flat_truth_of_another_length_names_both_lengths_and_the_first_video():
    counts = {"a": 30, "b": 50, "c": 16}
    with pytest.raises(InputError, match=r"gt\.npy has 112 frames.*96 frames.*differs is b: 50"):
        frame_truth.cut_flat(
            np.zeros(112), ["a", "b", "c"], [2, 3, 1], path="gt.npy", frame_counts=counts
        )


@pytest.mark.parametrize("flat", [np.zeros((32, 1)), np.full(32, np.nan), np.full(32, 255)])
def test_flat_truth_of_another_form_is_refused(flat):
    with pytest.raises(InputError, match=r"gt\.npy.*found"):
        frame_truth.cut_flat(flat, ["a"], [2], path="gt.npy")


def test_lengths_may_differ_by_one_snippet():
    frame_truth.check_lengths(["a", "b", "c"], [33, 33, 33], [2, 3, 4])
    with pytest.raises(InputError, match=r"Video b has 33 frames.*3 snippets.*have 5 snippets"):
        frame_truth.check_lengths(["a", "b"], [33, 33], [3, 5])


def test_labels_must_agree_with_truth():
    empty, marked = np.zeros(16, np.uint8), np.ones(16, np.uint8)
    frame_truth.check_labels(["a", "b"], np.array([0, 1]), [empty, marked])
    with pytest.raises(InputError, match="Video b is labelled anomalous, but none of its 16"):
        frame_truth.check_labels(["a", "b"], np.array([0, 1]), [empty, empty])
    with pytest.raises(InputError, match="Video a is labelled normal, but 16 of its 16"):
        frame_truth.check_labels(["a", "b"], np.array([0, 1]), [marked, marked])


@pytest.mark.parametrize("mask", [np.zeros(0), np.zeros((3, 1)), np.array([0, 2])])
def test_bad_masks_are_refused(mask):
    with pytest.raises(ValueError, match=r"shape|0 or 1"):
        frame_truth.from_mask(mask, 2)


def test_ucf_text_and_matlab_forms_agree(tmp_path):
    text = tmp_path / "annotation.txt"
    text.write_text(
        "Abuse028_x264.mp4  Abuse  165  240  -1  -1  \n"
        "Arson011_x264.mp4  Arson  150  420  680  1267  \n\n"
        "Normal_Videos_003_x264.mp4  Normal  -1  -1  -1  -1  \n"
    )
    from_text = frame_truth.read_ucf_text(str(text))
    anno = {
        "Abuse028_x264": ("Abuse", np.array([[165, 240]])),
        "Arson011_x264": ("Arson", np.array([[150, 420], [680, 1267]])),
        "Normal_Videos_003_x264": ("Normal", np.array([[-1, -1]])),
    }
    assert list(from_text) == list(anno)
    for name, (category, events) in anno.items():
        path = str(tmp_path / f"{name}.mat")
        record = {"VideoName": name, "Anno": events, "EventName": category}
        scipy.io.savemat(path, {"Annotation_file": record})
        from_mat = frame_truth.read_ucf_mat(path)
        known = events[events[:, 0] >= 0]
        for annotation in (from_text[name], from_mat):
            assert annotation[:2] == (name, category)
            np.testing.assert_array_equal(annotation.events, known)


def test_xd_text(tmp_path):
    path = tmp_path / "annotations.txt"
    path.write_text("Film.2003__#00-06-42_label_B2-0-0 10 30 90 97\nv=x__#1_label_G-0-0 1 2\n")
    found = frame_truth.read_xd_text(str(path))
    assert list(found) == ["Film.2003__#00-06-42_label_B2-0-0", "v=x__#1_label_G-0-0"]
    np.testing.assert_array_equal(
        found["Film.2003__#00-06-42_label_B2-0-0"].events, [[10, 30], [90, 97]]
    )


@pytest.mark.parametrize(
    "line, found",
    [
        ("Abuse028 Abuse 165", "found 'Abuse028 Abuse 165'"),
        ("Abuse028 Abuse 165 x", "whole numbers.*'165 x'"),
        ("Abuse028 Abuse 240 165", "found 240 165"),
        ("Abuse028 Abuse 1 2\nAbuse028 Abuse 3 4", "Abuse028 is annotated twice"),
    ],
)
def test_malformed_annotation_lines_are_named(tmp_path, line, found):
    path = tmp_path / "annotation.txt"
    path.write_text(line)
    with pytest.raises(InputError, match=f"{re.escape(str(path))}, line \\d.*{found}"):
        frame_truth.read_ucf_text(str(path))


def test_missing_and_foreign_files_are_named(tmp_path):
    other = tmp_path / "x.mat"
    other.write_bytes(b"no matlab file")
    for read in (frame_truth.read_ucf_text, frame_truth.read_xd_text, frame_truth.read_ucf_mat):
        with pytest.raises(InputError, match=re.escape(str(tmp_path / "absent"))):
            read(str(tmp_path / "absent"))
    with pytest.raises(InputError, match=r"x\.mat is not a UCF-Crime annotation"):
        frame_truth.read_ucf_mat(str(other))
    scipy.io.savemat(other, {"something": 1})
    with pytest.raises(InputError, match=r"x\.mat is not a UCF-Crime annotation"):
        frame_truth.read_ucf_mat(str(other))
