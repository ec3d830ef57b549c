"""Runs of one result side by side, by the command `compare`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from semseg_cli.api.tables import Shown, frame_of
from semseg_cli.commands.compare.command import compare
from semseg_cli.errors import UsageError
from semseg_cli.settings.compare import Compare
from semseg_cli.settings.entries import entries
from semseg_cli.show import console, html_parts
from semseg_cli.show.tables import Table

PAGE_WIDTH = 100  # characters of a table on a page
FIXED = ("experiment", "last", "filter", "sweep", "method", "unfinished", "tracking_uri")
PRINTED = ("format", "output", "plot", "precision")


class Comparison(Shown):
    """A table of runs (or of their classes) with intervals and paired tests; where a page has room
    for more columns than the terminal, `on_page` has them."""

    def __init__(self, table: Table, on_page: Table | None = None) -> None:
        self._table, self._on_page = table, on_page or table

    def tables(self) -> Sequence[Table]:
        """The table."""
        return [self._table]

    def _repr_html_(self) -> str:
        return html_parts.table(self._on_page)

    @property
    def caption(self) -> tuple[str, ...]:
        """What the numbers are over, and how they were tested."""
        return self._table.notes

    def to_frame(self) -> pd.DataFrame:
        """All that is known of each row, unrounded."""
        return frame_of(self._table.rows)


def compared(folders: Sequence[Path], options: Mapping[str, Any]) -> Comparison:
    """The comparison of the runs in these folders.

    Raises:
        UsageError: there is one run alone, or no such option.
    """
    known = {entry.name for entry in entries(Compare)} - {*FIXED, *PRINTED}
    if unknown := sorted(options.keys() - known):
        raise UsageError(
            f"compare has no option {unknown[0]!r} here: choose among {', '.join(sorted(known))}"
        )
    if len(folders) < 2:
        raise UsageError("There is one run alone: run several methods to compare them")
    try:
        settings = Compare(**options)
    except ValueError as error:
        raise UsageError(str(error)) from error
    paths, width = [str(path) for path in folders], console.stdout().width
    table = compare(settings, paths, width)
    return Comparison(table, None if width >= PAGE_WIDTH else compare(settings, paths, PAGE_WIDTH))
