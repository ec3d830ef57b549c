"""The rows of a class_results.csv, or the sentence that says why it is none."""

from pathlib import Path
from typing import Any

from semseg_cli.readers import parse_csv, read_text, unreadable
from semseg_cli.runs.field_types import shortened
from semseg_cli.runs.metrics import CLASSES
from semseg_cli.runs.per_image import COUNTED
from semseg_cli.runs.rows import TEXTS, numbered

EXPECTED = "expected the classes of a run"
WHOLE = ("class_id", *COUNTED)
NEEDED = ("class_name", *WHOLE, "target_change", "other_change", "selectivity")
NUMBERS = {metric.key for metric in CLASSES if metric.unit != "text"} - {*TEXTS, "latent"}
ENDS = ("_lo", "_hi", "_p", "_n_images", "_n_touched")


def parse_class_rows(text: str, file: str = "class_results.csv") -> list[dict[str, Any]]:
    """Its rows, numbers as numbers; None for a share over nothing.

    Raises:
        FileError: a column or a row is missing, or holds something else.
    """
    rows = numbered(parse_csv(text, file, EXPECTED, NEEDED))
    if not rows:
        raise unreadable(file, "it has no rows", EXPECTED)
    for number, row in enumerate(rows, start=2):
        for name, value in row.items():
            is_good = not isinstance(value, str) or not _holds_numbers(name)
            if name in WHOLE:
                is_good = isinstance(value, int) and value >= 0
            if not is_good:
                reason = f"row {number} has {name} = {shortened(value)}"
                raise unreadable(file, reason, EXPECTED)
    return rows


def _holds_numbers(name: str) -> bool:
    """Whether a column is a metric or an end of its interval; others are words on them."""
    return name in NUMBERS or name.endswith(ENDS)


def read_class_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a run's file; none where there is no such file."""
    if not path.exists():
        return []
    return parse_class_rows(read_text(path, str(path), EXPECTED), str(path))
