"""metrics.jsonl: whole lines only, whatever cut the run off."""

import json
import math
import pathlib
import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxad.errors import CheckpointError
from jaxad.training import logs

ROWS = [
    {"step": 2, "stage": "train", "split": "train", "loss": 0.25},
    {"step": 4, "stage": "größer", "split": "validation", "checkpoint": 4, "auc": None},
    {"step": 4, "stage": "train", "split": "test", "note": 'a "}" and a \\n'},
]


def filled(folder, rows=ROWS):
    history = logs.History(pathlib.Path(folder) / "metrics.jsonl")
    for row in rows:
        history.append(row)
    return history


def on_disk(history):
    return [json.loads(line) for line in history.path.read_text().splitlines()]


def test_appended_rows_are_on_disk_at_once(tmp_path):
    assert on_disk(filled(tmp_path)) == ROWS


def test_another_process_reads_the_rows(tmp_path):
    history = filled(tmp_path)
    assert logs.History(history.path).rows == ROWS


def test_no_file_is_no_rows(tmp_path):
    assert len(logs.History(tmp_path / "metrics.jsonl")) == 0


def test_row_is_copied(tmp_path):
    history, row = filled(tmp_path, []), dict(ROWS[0])
    history.append(row)
    row["step"] = 99
    assert history.rows == ROWS[:1]


def test_cut_keeps_the_first_rows_in_memory_and_on_disk(tmp_path):
    history = filled(tmp_path)
    history.cut(2)
    assert history.rows == on_disk(history) == ROWS[:2]


def test_rows_after_a_cut_follow_what_was_kept(tmp_path):
    history = filled(tmp_path)
    history.cut(1)
    history.append(ROWS[2])
    assert on_disk(history) == [ROWS[0], ROWS[2]]


def test_cut_to_nothing_leaves_an_empty_file(tmp_path):
    history = filled(tmp_path)
    history.cut(0)
    assert history.path.read_bytes() == b""


def test_cut_beyond_the_end_warns_of_lost_lines(tmp_path, caplog):
    history = filled(tmp_path)
    history.cut(5)
    assert history.rows == ROWS
    assert "holds 3 lines, and the checkpoint was written after 5" in caplog.text


def test_replaced_tests_follow_the_rows_of_other_splits(tmp_path):
    history = filled(tmp_path, [ROWS[2], *ROWS])
    new = {**ROWS[2], "step": 8}
    history.replace_tests([new], "test")
    assert history.rows == on_disk(history) == [*ROWS[:2], new]


def test_process_that_does_not_write_keeps_rows_in_memory(tmp_path):
    path = tmp_path / "metrics.jsonl"
    history = logs.History(path, write=False)
    history.append(ROWS[0])
    history.cut(1)
    assert history.rows == ROWS[:1]
    assert not path.exists()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_file_cut_off_at_any_byte_gives_a_prefix(data):
    with tempfile.TemporaryDirectory() as folder:
        path = filled(folder).path
        whole = path.read_bytes()
        size = data.draw(st.integers(0, len(whole)))
        path.write_bytes(whole[:size])
        rows = logs.read_rows(path)
    complete = whole[:size].count(b"\n")
    assert rows == ROWS[: len(rows)]
    assert len(rows) in (complete, complete + 1)  # A line may lack no more than its end.
    assert len(rows) == complete or whole[size : size + 1] == b"\n"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_row_appended_after_a_cut_off_line_is_read_again(data):
    """As a run goes on: it opens the file, cuts it to what it holds, and appends."""
    with tempfile.TemporaryDirectory() as folder:
        path = filled(folder).path
        whole = path.read_bytes()
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
        history = logs.History(path)
        kept = list(history.rows)
        history.cut(len(kept))
        history.append(ROWS[0])
        assert logs.read_rows(path) == [*kept, ROWS[0]]


def test_rows_after_garbage_are_dropped(tmp_path):
    path = filled(tmp_path).path
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], b"\x00\xff" * 9, *lines[2:]]))
    assert logs.read_rows(path) == ROWS[:1]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float64("nan")])
def test_value_without_a_json_number_is_null(value, tmp_path):
    history = filled(tmp_path, [{"step": 1, "loss": value, "auc": 0.5}])
    assert "null" in history.path.read_text()
    assert logs.read_rows(history.path) == [{"step": 1, "loss": None, "auc": 0.5}]


def test_rows_in_memory_are_those_a_resumed_run_reads(tmp_path):
    """The best checkpoint is chosen among the rows in memory: NaN must not count there either."""
    history = filled(tmp_path, [{"step": 1, "auc": math.nan}, {"step": 2, "auc": 0.5}])
    assert history.rows == logs.History(history.path).rows


def test_full_disk_is_a_checkpoint_error_that_names_the_file(tmp_path):
    history = filled(tmp_path)
    history.path.unlink()
    history.path.symlink_to("/dev/full")
    with pytest.raises(CheckpointError, match=r"Cannot write .*metrics.jsonl: No space left"):
        history.append(ROWS[0])


def test_missing_folder_is_a_checkpoint_error(tmp_path):
    history = logs.History(tmp_path / "gone" / "metrics.jsonl")
    with pytest.raises(CheckpointError, match=r"gone/metrics.jsonl: No such file"):
        history.append(ROWS[0])


def test_progress_of_other_processes_writes_nothing(tmp_path, caplog):
    progress = logs.Progress(None)
    with caplog.at_level("INFO"):
        progress.start("train", 10)
        progress.advance(2)
        progress.log(2, {"loss": 1.0}, "train", examples=8)
        progress.close()
    assert caplog.text == ""


def test_progress_shows_values_and_rate(tmp_path, caplog):
    progress = logs.Progress(tmp_path)
    with caplog.at_level("INFO"):
        progress.start("train", 10)
        progress.advance(2)
        progress.log(2, {"loss": 1.5}, "train", examples=8)
        progress.close()
    assert "train 2/10: loss 1.5, " in caplog.text
    assert "examples/s" in caplog.text
