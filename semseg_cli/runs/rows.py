"""Rows of our CSV files: numbers as numbers, nothing for NaN."""

import csv
import io
import math
from pathlib import Path
from typing import Any


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
