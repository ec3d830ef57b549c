"""How a comparison is shown: which rows and columns, in what order, in what form."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from semseg_cli.errors import UsageError
from semseg_cli.runs.bootstrap import N_RESAMPLES
from semseg_cli.settings.base import Settings, option
from semseg_cli.show.tables import SUFFIXES

Format = Literal["auto", "table", "csv", "json", "markdown", "latex"]
SHORT = {
    "target": "target_change",
    "other": "other_change",
    "macro_target": "macro_target_change",
    "macro_other": "macro_other_change",
    "difference": "selectivity_difference",
    "p": "selectivity_p",
    "class": "class_name",
    "patches": "n_orig_patches",
}


@dataclass(frozen=True, kw_only=True)
class View(Settings):
    """How to print a comparison."""

    panel: ClassVar[str] = "Table"

    per_class: bool = option(
        False, "Rows are classes; stars mark differences to the baseline, corrected over classes."
    )
    classes: tuple[str, ...] = option(
        (), "Only this class (repeatable; name or id); implies --per-class.", flag="class"
    )
    columns: str | None = option(
        None, "Show these columns, a,b,c: any of --format csv, any setting; target, other, p, ..."
    )
    all_columns: bool = option(False, "Show every column, also what all runs have in common.")
    sort: str | None = option(
        None, "Sort rows by this column, largest first; -COLUMN puts the smallest first."
    )
    top: int | None = option(None, "Only the first N rows.", ge=1)
    precision: int = option(3, "Decimals.", ge=1, le=12)
    resamples: int = option(
        N_RESAMPLES, "Resamples of the images for differences and for intervals not logged.", ge=100
    )
    format: Format = option("auto", "Form of the table; auto goes by the suffix of --output.")
    output: Path | None = option(None, "Write to this file instead of the terminal.")
    plot: Path | None = option(None, "Also draw target and other change of the runs: FILE.png.")

    @property
    def output_format(self) -> str:
        """The form to print: the one asked for, else that of the file's suffix, else a table."""
        by_suffix = SUFFIXES.get(self.output.suffix.lower(), "table") if self.output else "table"
        return by_suffix if self.format == "auto" else self.format

    @property
    def wanted_columns(self) -> tuple[str, ...]:
        """The columns asked for by name, in full."""
        given = (name.strip() for name in (self.columns or "").split(","))
        return tuple(SHORT.get(name, name) for name in given if name)


def check_columns(names: Iterable[str], known: Iterable[str], option: str = "columns") -> None:
    """Raises a UsageError for a name that is no column, with those that come close."""
    # Columns that only some comparisons have (p without a baseline, say) are empty elsewhere.
    known = list(dict.fromkeys([*known, *SHORT.values()]))
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, [*known, *SHORT], cutoff=0.5)
            listed = f"did you mean {', '.join(close)}?" if close else f"take {', '.join(known)}"
            raise UsageError(f"--{option} has no column {name!r}: {listed}")


def arranged(
    rows: Sequence[Mapping[str, Any]], view: View, first: str = ""
) -> list[Mapping[str, Any]]:
    """The rows in the order and number asked for; a row without a value comes last.

    `first` begins the keys that a plain column name stands for.

    Raises:
        UsageError: no row has the column to sort by.
    """
    kept = list(rows)
    if view.sort is not None and kept:
        name = view.sort.removeprefix("-")
        keys = {SHORT.get(name, name), first + SHORT.get(name, name)}
        known = [key for row in kept for key in row]
        found = sorted(keys & set(known), key=len)
        if not found:
            check_columns([SHORT.get(name, name)], known, "sort")
            return kept[: view.top]
        falls = not view.sort.startswith("-")
        there = [row for row in kept if row.get(found[-1]) not in (None, "")]
        there.sort(key=lambda row: _rank(row[found[-1]]), reverse=falls)
        kept = there + [row for row in kept if row.get(found[-1]) in (None, "")]
    return kept[: view.top]


def _rank(value: Any) -> tuple[bool, float, str]:
    is_number = isinstance(value, int | float)
    return (is_number, value if is_number else 0.0, "" if is_number else str(value))
