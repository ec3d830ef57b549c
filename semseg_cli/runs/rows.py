"""Rows, and the CSV files that hold them: numbers as numbers, nothing for None and NaN."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from semseg_cli.readers import parse_csv, read_csv

Row = Mapping[str, Any]
TEXTS = ("class_name", "became")
EXPECTED = "expected a table that semseg-cli wrote"


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
    """The rows of one of our CSV files, numbers as numbers; none where the file does not exist.

    Raises:
        FileError: it is no such file.
    """
    return numbered(read_csv(path, str(path), EXPECTED)) if path.exists() else []


def parse_rows(text: str, file: str = "the table") -> list[dict[str, Any]]:
    """The rows of a CSV text of ours, numbers as numbers."""
    return numbered(parse_csv(text, file, EXPECTED))


def per_draw(rows: Iterable[Row], n_draws: int) -> list[Row]:
    """Rows of classes with their patches counted once, however many draws were counted together;
    those that changed, unlike ones in every draw, go."""
    if n_draws == 1:
        return list(rows)
    return [
        {
            key: value // n_draws if key in ("n_orig_patches", "n_other_patches") else value
            for key, value in row.items()
            if key not in ("n_changed_patches", "n_other_changed")
        }
        for row in rows
    ]


def numbered(rows: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Rows with numbers as numbers; every column but those of names may hold them."""
    return [
        {name: v if name in TEXTS else parse_number(v) for name, v in row.items()} for row in rows
    ]


def parse_number(text: str) -> int | float | str | None:
    """A number where the text is one, else the text; None for nothing and for NaN."""
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        if isinstance(value, int) and abs(value) >= 2**63:
            return text
        return value if math.isfinite(value) else None  # JSON has no NaN
    return text or None
