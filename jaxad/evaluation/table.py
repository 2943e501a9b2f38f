"""Tables in plain text that are Markdown too: the last lines of a run, and sweeps."""

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

ABSENT = "–"


def render(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """A Markdown table whose columns also line up in a terminal.

    Args:
        rows: Cells by column: text, numbers, or sequences of numbers (one per seed, shown as
            `spread`); None, NaN or an absent cell is shown as a dash.
        columns: Headings, in this order.

    Returns:
        Lines without a final newline; columns without any text are aligned to the right.
    """
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    right = [
        bool(rows) and not any(isinstance(row.get(column), str) for row in rows)
        for column in columns
    ]
    heads = [_escaped(column) for column in columns]
    widths = [max(3, *(len(line[i]) for line in [heads, *cells])) for i in range(len(columns))]
    rule = ["-" * (w - 1) + ":" if r else "-" * w for w, r in zip(widths, right, strict=True)]
    lines = [
        [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)]
        for line in [heads, *cells]
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])


def number(value: float) -> str:
    """A number to read: four decimals around 1, else about four digits; integers whole."""
    if isinstance(value, numbers.Integral):
        return f"{value:,}"
    if not math.isfinite(value):
        return ABSENT
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.2f}"
    return f"{value:.4f}" if size >= 1e-3 or value == 0 else f"{value:.2e}"


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation (of a sample, n - 1) and how many: "0.9123 ± 0.0045 (n=3)"."""
    known = np.array([v for v in values if v is not None and math.isfinite(v)], np.float64)
    if len(known) == 0:
        return ABSENT
    around = f" ± {number(float(np.std(known, ddof=1)))}" if len(known) > 1 else ""
    return f"{number(float(np.mean(known)))}{around} (n={len(known)})"


def _cell(value: Any) -> str:
    if value is None:
        return ABSENT
    if isinstance(value, (str, bool)):
        return _escaped(str(value))
    if isinstance(value, numbers.Real):
        return number(value)
    return spread(value)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
