"""The cache of slices: contents, reuse, damage, faults; and real volumes."""

import dataclasses
import json
import os
import pathlib
import pickle
import resource
import shutil
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest
import volume_files as files

from jaxad.data import slice_cache, slice_files, volume_slices, volumes
from jaxad.data.slice_cache import Job, open_slices
from jaxad.data.volume_slices import Preparation
from jaxad.errors import InputError

ROOT = pathlib.Path(__file__).resolve().parents[2]
HIPPOCAMPUS = ROOT.parent / "shared" / "data" / "msd_hippocampus.tar"
PREPARATION = Preparation(1.5, (8, 8), label_map={0: 2, 1: 0, 2: 1})
SHAPE = (6, 5, 3)


def data_set(folder, count=4):
    """Jobs of small volumes with labels; the last slice of each is background."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    jobs = []
    for i in range(count):
        labels = rng.integers(0, 3, SHAPE).astype(np.uint8)
        labels[..., -1] = 0
        image = files.write_npz(folder / f"{i}.npz", rng.normal(size=SHAPE).astype(np.float32))
        label = files.write_npz(folder / f"{i}_gt.npz", labels)
        jobs.append(Job(image, label, f"p{i}/a", f"p{i}"))
    return jobs


@pytest.fixture(name="jobs")
def _jobs(tmp_path):
    return data_set(tmp_path / "data")


def forbid_reading(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a volume was opened")

    monkeypatch.setattr(volumes, "read", refuse)
    monkeypatch.setattr(volumes, "read_header", refuse)


def only_cache(folder):
    (found,) = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return found


def test_slices_are_those_of_the_volumes(jobs, tmp_path):
    cached = open_slices(jobs, PREPARATION, tmp_path / "cache", threads=2)
    assert len(cached) == 12
    for i, job in enumerate(jobs):
        images, segments = volume_slices.slices(
            volumes.read(job.image), volumes.read(job.label), PREPARATION
        )
        for z in range(3):
            image, classes = cached.read(3 * i + z)
            assert (image.dtype, image.shape) == (np.float32, (8, 8, 1))
            np.testing.assert_allclose(image[..., 0], images[z], atol=0.5 / 65535 + 1e-7)
            np.testing.assert_array_equal(classes, segments[z])


def test_ends_of_the_range_are_exact(jobs, tmp_path):
    cached = open_slices(jobs, PREPARATION, tmp_path / "cache")
    assert {
        (float(cached.read(i)[0].min()), float(cached.read(i)[0].max())) for i in range(12)
    } == {(0.0, 1.0)}


def test_names_and_subjects(jobs, tmp_path):
    cached = open_slices(jobs, PREPARATION, tmp_path / "cache")
    assert cached.names[2:4] == ("p0/a/z002", "p1/a/z000")
    assert cached.subjects[2:4] == ("p0", "p1")


def test_background_slices_are_dropped_and_the_others_keep_their_numbers(jobs, tmp_path):
    drop = dataclasses.replace(PREPARATION, empty="drop")
    cached = open_slices(jobs, drop, tmp_path / "cache")
    assert cached.names[:3] == ("p0/a/z000", "p0/a/z001", "p1/a/z000")
    assert (cached.segments != 2).any(axis=(1, 2)).all()


def test_only_background_is_an_error(tmp_path):
    image = files.write_npz(tmp_path / "v.npz", files.phantom())
    label = files.write_npz(tmp_path / "l.npz", np.zeros((5, 6, 4), np.uint8))
    drop = dataclasses.replace(PREPARATION, empty="drop")
    with pytest.raises(InputError, match="All slices of the 1 volumes are background"):
        open_slices([Job(image, label, "a", "a")], drop, tmp_path / "cache")


def test_frames_are_named(tmp_path):
    array = files.phantom((5, 6, 2, 4))
    path = files.write_npz(tmp_path / "v.npz", array)
    jobs = [Job(path, None, "p/v", "p", frames=(3, 1))]
    cached = open_slices(jobs, PREPARATION, tmp_path / "cache")
    assert cached.names == ("p/v/t03/z000", "p/v/t03/z001", "p/v/t01/z000", "p/v/t01/z001")


def test_frames_of_the_preparation_are_those_of_jobs_without_own(tmp_path):
    path = files.write_npz(tmp_path / "v.npz", files.phantom((5, 6, 2, 4)))
    preparation = dataclasses.replace(PREPARATION, frames=(2,))
    cached = open_slices([Job(path, None, "v", "p")], preparation, tmp_path / "cache")
    assert cached.names == ("v/t02/z000", "v/t02/z001")


def test_unlabelled_volumes(jobs, tmp_path):
    bare = [dataclasses.replace(job, label=None) for job in jobs]
    cached = open_slices(bare, PREPARATION, tmp_path / "cache")
    assert cached.segments is None
    assert cached.read(0)[1] is None
    mixed = open_slices([jobs[0], bare[1]], PREPARATION, tmp_path / "cache")
    assert (np.asarray(mixed.segments[3:]) == 255).all()
    assert (np.asarray(mixed.segments[:3]) < 3).all()


def test_dicom_series_with_segmentation(tmp_path):
    pytest.importorskip("pydicom")
    files.write_series(tmp_path / "p" / "tra", files.phantom())
    files.write_series(tmp_path / "p" / "sag", files.phantom(), "1.2.3.2", "t2_tse_sag", 2)
    masks = np.zeros((1, 5, 6, 2), bool)
    masks[0, 2] = True
    label = files.write_segmentation(tmp_path / "s.dcm", masks, ["Prostate"], (1, 2))
    preparation = Preparation(1.0, (12, 8), label_map={"prostate": 0, 0: 1})
    job = Job(str(tmp_path / "p"), label, "p", "p", series="t2_tse_tra")
    cached = open_slices([job], preparation, tmp_path / "cache")
    assert [(s == 0).any() for s in cached.segments] == [False, True, True, False]


def test_volumes_are_not_opened_again(jobs, tmp_path, monkeypatch):
    first = open_slices(jobs, PREPARATION, tmp_path / "cache")
    forbid_reading(monkeypatch)
    again = open_slices(jobs, PREPARATION, tmp_path / "cache")
    assert again == first
    np.testing.assert_array_equal(again.images, first.images)


def test_data_set_that_was_moved_keeps_its_cache(jobs, tmp_path, monkeypatch):
    first = open_slices(jobs, PREPARATION, tmp_path / "cache")
    (tmp_path / "data").rename(tmp_path / "moved")
    moved = [
        dataclasses.replace(
            job,
            image=job.image.replace("/data/", "/moved/"),
            label=job.label.replace("/data/", "/moved/"),
        )
        for job in jobs
    ]
    forbid_reading(monkeypatch)
    assert open_slices(moved, PREPARATION, tmp_path / "cache") == first


def test_pickle_holds_no_slices_and_reads(jobs, tmp_path):
    cached = open_slices(jobs, PREPARATION, tmp_path / "cache")
    expected = cached.read(5)
    text = pickle.dumps(cached)
    assert len(text) < 1000 < cached.images.nbytes
    for actual, array in zip(pickle.loads(text).read(5), expected, strict=True):
        np.testing.assert_array_equal(actual, array)


@pytest.mark.parametrize(
    "change",
    [
        dict(spacing=2.0),
        dict(size=(8, 7)),
        dict(view="sagittal"),
        dict(intensity="volume_min_max"),
        dict(label_map={0: 2, 1: 1, 2: 0}),
        dict(empty="drop"),
    ],
)
def test_other_preparation_is_another_cache(jobs, tmp_path, change):
    first = open_slices(jobs, PREPARATION, tmp_path / "cache")
    other = open_slices(jobs, dataclasses.replace(PREPARATION, **change), tmp_path / "cache")
    assert other.folder != first.folder
    assert other.fingerprint != first.fingerprint


def test_changed_volume_is_read_again(jobs, tmp_path):
    first = open_slices(jobs, PREPARATION, tmp_path / "cache")
    files.write_npz(jobs[1].image, files.phantom(SHAPE))
    other = open_slices(jobs, PREPARATION, tmp_path / "cache")
    assert other.fingerprint != first.fingerprint
    assert not np.array_equal(other.images[3], first.images[3])


def test_touched_volume_leaves_the_fingerprint(jobs, tmp_path):
    first = open_slices(jobs, PREPARATION, tmp_path / "cache")
    os.utime(jobs[1].image, (1, 1))
    other = open_slices(jobs, PREPARATION, tmp_path / "cache")
    assert other.folder != first.folder
    assert other.fingerprint == first.fingerprint


def test_raw_file_of_a_header_counts(tmp_path):
    pytest.importorskip("SimpleITK")
    path = files.write_itk(tmp_path / "v.mhd", files.phantom())
    first = open_slices([Job(path, None, "v", "v")], PREPARATION, tmp_path / "cache")
    (tmp_path / "v.raw").write_bytes((tmp_path / "v.raw").read_bytes()[::-1])
    other = open_slices([Job(path, None, "v", "v")], PREPARATION, tmp_path / "cache")
    assert other.fingerprint != first.fingerprint


def truncate(cache):
    with open(cache / "images.u16", "r+b") as file:
        file.truncate(100)


def flip_a_bit(cache):
    path = cache / "segments.u8"
    content = bytearray(path.read_bytes())
    content[17] ^= 1
    path.write_bytes(content)


def lose_a_file(cache):
    (cache / "segments.u8").unlink()


def break_the_index(cache):
    (cache / "index.json").write_text("{")


def change_the_index(cache):
    index = json.loads((cache / "index.json").read_text())
    index["names"][0], index["names"][1] = index["names"][1], index["names"][0]
    (cache / "index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    "damage", [truncate, flip_a_bit, lose_a_file, break_the_index, change_the_index]
)
def test_damaged_cache_is_made_anew_with_a_warning(jobs, tmp_path, caplog, damage):
    first = open_slices(jobs, PREPARATION, tmp_path / "cache")
    expected = np.array(first.images)
    damage(only_cache(tmp_path / "cache"))
    again = open_slices(jobs, PREPARATION, tmp_path / "cache")
    assert f"The slices in {first.folder} are damaged" in caplog.text
    assert again == first
    np.testing.assert_array_equal(again.images, expected)
    assert only_cache(tmp_path / "cache").name == os.path.basename(first.folder)


def test_copied_cache_is_trusted(jobs, tmp_path, monkeypatch, caplog):
    open_slices(jobs, PREPARATION, tmp_path / "cache")
    shutil.copytree(tmp_path / "cache", tmp_path / "copy", copy_function=shutil.copyfile)
    forbid_reading(monkeypatch)
    assert len(open_slices(jobs, PREPARATION, tmp_path / "copy")) == 12
    assert "damaged" not in caplog.text


def test_slices_removed_during_a_run_are_named(jobs, tmp_path):
    cached = open_slices(jobs, PREPARATION, tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(InputError, match=r"images\.u16 cannot be read any more"):
        cached.read(0)


def test_interrupted_build_leaves_nothing(jobs, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(slice_files, "publish", stop)
        with pytest.raises(KeyboardInterrupt):
            open_slices(jobs, PREPARATION, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_remains_of_a_killed_build_go_after_a_day(jobs, tmp_path):
    for name, age in (("old", 2 * 86_400), ("new", 60)):
        part = tmp_path / "cache" / f".{name}.part"
        part.mkdir(parents=True)
        os.utime(part, (time.time() - age,) * 2)
    open_slices(jobs, PREPARATION, tmp_path / "cache")
    left = [path.name for path in (tmp_path / "cache").iterdir() if path.name.startswith(".")]
    assert left == [".new.part"]


def test_two_processes_at_once(jobs, tmp_path):
    code = (
        "import pickle, sys, time\n"
        "from jaxad.data import slice_cache, slice_files\n"
        "jobs, preparation, folder, go = pickle.load(open(sys.argv[1], 'rb'))\n"
        "publish = slice_files.publish\n"
        "slice_files.publish = lambda *a: (time.sleep(max(go - time.time(), 0)), publish(*a))\n"
        "print(slice_cache.open_slices(jobs, preparation, folder).images.sum())\n"
    )
    # Both have finished their folder when they want to name it.
    task = (jobs, PREPARATION, str(tmp_path / "cache"), time.time() + 4)
    (tmp_path / "task").write_bytes(pickle.dumps(task))
    command = [sys.executable, "-c", code, str(tmp_path / "task")]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(2)]
    sums = [int(process.communicate()[0]) for process in both]
    cached = open_slices(jobs, PREPARATION, tmp_path / "cache")
    assert sums == [cached.images.sum()] * 2
    only_cache(tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_file_that_cannot_grow_is_an_input_error(jobs, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))
    try:
        with pytest.raises(InputError, match=r"Cannot write .*cache.*needs up to 2,304 bytes"):
            open_slices(jobs, PREPARATION, tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "cache").iterdir()) == []


def test_lack_of_space_is_told_before_volumes_are_read(jobs, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 1000))
    with pytest.raises(InputError, match="need 2,304 bytes, 1,000 are free"):
        open_slices(jobs, PREPARATION, tmp_path / "cache")


def test_faults_of_headers_are_all_listed(jobs, tmp_path):
    files.write_npz(jobs[0].image, files.phantom(SHAPE), spacing=(1, np.nan, 1))
    files.write_npz(jobs[1].image, files.phantom((*SHAPE, 2)))
    files.write_npz(jobs[2].label, np.zeros((6, 5, 4), np.uint8))
    with pytest.raises(InputError) as caught:
        open_slices(jobs, PREPARATION, tmp_path / "cache")
    lines = str(caught.value).splitlines()
    assert lines[0] == "3 of 4 volumes cannot be used:"
    for line, text in zip(
        lines[1:], ["0.npz has spacing", "1.npz has 4 axes", "2_gt.npz are not on"], strict=True
    ):
        assert text in line


def test_faults_of_voxels_are_all_listed(jobs, tmp_path):
    files.write_npz(jobs[0].image, np.full(SHAPE, np.nan))
    files.write_npz(jobs[1].label, np.full(SHAPE, 9, np.uint8))
    files.write_npz(jobs[3].image, np.full(SHAPE, 7.0))
    with pytest.raises(InputError) as caught:
        open_slices(jobs, PREPARATION, tmp_path / "cache")
    lines = str(caught.value).splitlines()
    assert lines[0] == "3 of 4 volumes cannot be used:"
    for line, text in zip(
        lines[1:],
        ["0.npz has 90 voxels", "1_gt.npz hold values", "all its voxels are 7"],
        strict=True,
    ):
        assert text in line
    assert list((tmp_path / "cache").iterdir()) == []


def test_missing_files_are_all_listed(jobs, tmp_path):
    os.unlink(jobs[0].image)
    os.unlink(jobs[3].label)
    with pytest.raises(InputError, match=r"(?s)2 of 8 .*0\.npz.*does not exist.*3_gt\.npz"):
        open_slices(jobs, PREPARATION, tmp_path / "cache")


def test_names_must_differ(jobs, tmp_path):
    with pytest.raises(InputError, match="2 volumes have the name p0/a"):
        open_slices([jobs[0], jobs[0]], PREPARATION, tmp_path / "cache")


def test_no_volumes(tmp_path):
    with pytest.raises(InputError, match="no volumes"):
        open_slices([], PREPARATION, tmp_path / "cache")


@pytest.fixture(name="hippocampi", scope="module")
def _hippocampi(tmp_path_factory):
    """Jobs of the first six volumes of the real set."""
    pytest.importorskip("nibabel")
    if not HIPPOCAMPUS.is_file():
        pytest.skip(f"no real volumes: {HIPPOCAMPUS} is not there")
    folder = tmp_path_factory.mktemp("hippocampus")
    with tarfile.open(HIPPOCAMPUS) as archive:
        members = [m for m in archive.getmembers() if m.name.endswith(".nii.gz")]
        members = sorted(members, key=lambda m: m.name.rsplit("/")[-1])[:12]
        archive.extractall(folder, members, filter="data")
    images = sorted((folder / "hippocampus" / "imagesTr").iterdir())
    return [
        Job(str(p), str(p).replace("imagesTr", "labelsTr"), p.name[:15], p.name[:15])
        for p in images
    ]


def test_real_volumes_become_coronal_slices(hippocampi, tmp_path):
    preparation = Preparation(1.0, (64, 64), "coronal", label_map={0: 2, 1: 0, 2: 1})
    cached = open_slices(hippocampi, preparation, tmp_path / "cache")
    assert len(cached) == sum(volumes.read_header(job.image).shape[1] for job in hippocampi)
    assert np.unique(cached.segments).tolist() == [0, 1, 2]
    assert (cached.images.min(axis=(1, 2)) == 0).all()
    assert (cached.images.max(axis=(1, 2)) == 65535).all()


def test_real_volumes_are_the_right_way_round(hippocampi, tmp_path):
    """The anterior hippocampus is in front of the posterior, at the left of sagittal slices."""
    preparation = Preparation(1.0, (64, 64), "sagittal", label_map={0: 2, 1: 0, 2: 1})
    cached = open_slices(hippocampi, preparation, tmp_path / "cache")
    for subject in set(cached.subjects):
        own = np.asarray(cached.segments)[[s == subject for s in cached.subjects]]
        anterior, posterior = (np.nonzero(own == k)[2].mean() for k in (0, 1))
        assert anterior + 5 < posterior


def test_voxels_of_every_label_survive(hippocampi):
    """At the spacing of the files, each voxel is one pixel."""
    preparation = Preparation(1.0, (64, 64), "axial", label_map={0: 2, 1: 0, 2: 1})
    for job in hippocampi:
        _, segments, _ = slice_cache.prepare(job, preparation)
        stored = volumes.read(job.label).array
        for value, code in ((1, 0), (2, 1)):
            assert (segments == code).sum() == (stored == value).sum()
