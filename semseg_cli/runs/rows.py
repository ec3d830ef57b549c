"""Rows, and the CSV files that hold them: numbers as numbers, nothing for None and NaN."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


def csv_text(rows: Iterable[Row], header: Sequence[str] = ()) -> str:
    """Rows as CSV, every number with all its digits.

    Columns are those of the header, else all keys in the order in which they come. A key that is
    not in the header raises ValueError.
    """
    kept = list(rows)
    names = header or list(dict.fromkeys(key for row in kept for key in row))
    file = io.StringIO()
    writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in kept)
    return file.getvalue()


def _cell(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of one of our CSV files, numbers as numbers; none where the file does not exist."""
    return parse_rows(path.read_text(encoding="utf-8")) if path.exists() else []


def parse_rows(text: str) -> list[dict[str, Any]]:
    """The rows of a CSV text; every column but `class_name` may hold numbers."""
    return [
        {name: v if name == "class_name" else parse_number(v) for name, v in row.items()}
        for row in csv.DictReader(io.StringIO(text))
    ]


def parse_number(text: str) -> int | float | str | None:
    """A number where the text is one, else the text; None for nothing and for NaN."""
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        return value if math.isfinite(value) else None  # JSON has no NaN
    return text or None
