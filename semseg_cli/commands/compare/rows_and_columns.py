"""Which rows and columns of a comparison are shown, in what order."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from semseg_cli.errors import UsageError
from semseg_cli.runs.metrics import SHORT, SHORT_OF_CLASSES
from semseg_cli.settings.compare import View

N_SUGGESTED = 6


def short_names(view: View) -> Mapping[str, str]:
    """Short name of a column -> its key, for the rows that are shown."""
    return SHORT_OF_CLASSES if view.per_class or view.classes else SHORT


def wanted_columns(view: View) -> tuple[str, ...]:
    """The columns asked for by name, in full."""
    given = (name.strip() for name in (view.columns or "").split(","))
    return tuple(short_names(view).get(name, name) for name in given if name)


def check_columns(
    names: Iterable[str], known: Iterable[str], view: View, option: str = "columns"
) -> None:
    """Raises a UsageError for a name that is no column, with those that come close."""
    # Columns that only some comparisons have (p without a baseline, say) are empty elsewhere.
    short = short_names(view)
    known = list(dict.fromkeys([*known, *short.values()]))
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, [*short, *known], cutoff=0.5)
            nearest = close or list(short)[:N_SUGGESTED]
            meant = f"did you mean {', '.join(nearest)}?" if close else (
                f"take {', '.join(nearest)}, ...;")  # fmt: skip
            raise UsageError(
                f"--{option} has no column {name!r}: {meant} All {len(known)} are the columns of "
                "`semseg-cli compare --format csv`, defined in docs/metrics.md."
            )


def arranged(
    rows: Sequence[Mapping[str, Any]],
    view: View,
    first: str = "",
    is_last: Callable[[Mapping[str, Any]], bool] = lambda _: False,
) -> list[Mapping[str, Any]]:
    """The rows in the order and number asked for; a row without a value comes last, and below it
    come those that `is_last` holds of, however rows are sorted.

    `first` begins the keys that a plain column name stands for.

    Raises:
        UsageError: no row has the column to sort by.
    """
    kept = list(rows)
    if view.sort is not None and kept:
        name = view.sort.removeprefix("-")
        key = short_names(view).get(name, name)
        keys = {key, first + key}
        known = [key for row in kept for key in row]
        found = sorted(keys & set(known), key=len)
        if not found:
            check_columns([key], known, view, "sort")
            return sorted(kept, key=is_last)[: view.top]
        falls = not view.sort.startswith("-")
        there = [row for row in kept if row.get(found[-1]) not in (None, "")]
        there.sort(key=lambda row: _rank(row[found[-1]]), reverse=falls)
        kept = there + [row for row in kept if row.get(found[-1]) in (None, "")]
    return sorted(kept, key=is_last)[: view.top]


def _rank(value: Any) -> tuple[bool, float, str]:
    is_number = isinstance(value, int | float)
    return (is_number, value if is_number else 0.0, "" if is_number else str(value))
