import numpy as np
import pytest

from jaxad.evaluation import table


def test_columns_line_up_and_are_markdown():
    rows = [{"metric": "frame_auc", "test": 0.97213}, {"metric": "top | k", "test": None}]
    assert table.render(rows, ["metric", "test"]).split("\n") == [
        "| metric    |   test |",
        "| --------- | -----: |",
        "| frame_auc | 0.9721 |",
        "| top \\| k  |      – |",
    ]


def test_cells_of_several_seeds_are_mean_and_deviation():
    rows = [{"k": 3, "auc": [0.9, 0.92, 0.94]}, {"k": 5, "auc": np.array([0.8])}]
    assert table.render(rows, ["k", "auc"]).split("\n")[2:] == [
        "|   3 | 0.9200 ± 0.0200 (n=3) |",
        "|   5 |          0.8000 (n=1) |",
    ]


def test_seeds_without_a_value_do_not_count():
    assert table.spread([0.5, float("nan"), 0.7, None]) == "0.6000 ± 0.1414 (n=2)"
    assert table.spread([]) == table.ABSENT


@pytest.mark.parametrize(
    "value, text",
    [
        (0.97213, "0.9721"),
        (0.0, "0.0000"),
        (-0.25, "-0.2500"),
        (53.41, "53.41"),
        (12345.6, "12,346"),
        (0.000123, "1.23e-04"),
        (1500, "1,500"),
        (float("nan"), "–"),
        (np.float32(0.5), "0.5000"),
    ],
)
def test_number(value, text):
    assert table.number(value) == text


def test_table_without_rows_has_its_head():
    assert table.render([], ["metric", "n"]) == "| metric | n   |\n| ------ | --- |"
