import errno
import os

import pytest

from jaxad import files
from jaxad.errors import InputError


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def write_half_and_fail(file):
    file.write(b"half")
    raise RuntimeError("the writer failed")


@pytest.mark.parametrize("content", [b"new", lambda file: file.write(b"new")])
@pytest.mark.parametrize("before", [None, b"something older"])
def test_content_replaces_what_was_there(tmp_path, content, before):
    path = tmp_path / "file"
    if before is not None:
        path.write_bytes(before)
    files.write_atomically(path, content)
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    files.write_atomically(tmp_path / "file", b"")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_failing_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="writer failed"):
        files.write_atomically(path, write_half_and_fail)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_full_disk_leaves_no_file_and_says_what_is_needed(tmp_path, monkeypatch, step):
    monkeypatch.setattr(os, step, full)
    with pytest.raises(InputError, match=r"report\.bin.*No space.* 3,000 bytes; [\d,]+ bytes are"):
        files.write_atomically(tmp_path / "report.bin", bytes(3000))
    assert os.listdir(tmp_path) == []


def test_full_disk_within_a_writer_tells_what_was_written(tmp_path):
    def content(file):
        file.write(bytes(1234))
        full()

    with pytest.raises(InputError, match="at least 1,234 bytes"):
        files.write_atomically(tmp_path / "file", content)
    assert os.listdir(tmp_path) == []


def test_missing_folder_and_folder_in_the_way_are_named(tmp_path):
    with pytest.raises(InputError, match=r"absent.*No such file"):
        files.write_atomically(tmp_path / "absent" / "file", b"")
    (tmp_path / "taken").mkdir()
    with pytest.raises(InputError, match=r"taken.*directory"):
        files.write_atomically(tmp_path / "taken", b"")
    assert os.listdir(tmp_path) == ["taken"]


def test_make_folder(tmp_path):
    assert files.make_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert files.make_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match=r"file/c.*Not a directory"):
        files.make_folder(tmp_path / "file" / "c")
