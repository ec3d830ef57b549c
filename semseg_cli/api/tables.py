"""A table of results as pandas, HTML and text."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from semseg_cli.runs.rows import Row
from semseg_cli.show import console, html_parts
from semseg_cli.show.tables import Table, render


class Shown:
    """Something that shows itself as tables where it is printed, and in a line elsewhere; the first
    table is what it is about."""

    def tables(self) -> Sequence[Table]:
        """The tables, with their captions as notes."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        return "".join(html_parts.table(table) for table in self.tables())

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {' '.join(self.in_a_line().split())}>"

    def in_a_line(self) -> str:
        """What it is, in a few words."""
        first = self.tables()[0]
        return f"{first.title}, {len(first.rows)} row{'s' * (len(first.rows) != 1)}"

    def __str__(self) -> str:
        from rich.console import Console

        plain = Console(width=console.stdout().width, color_system=None, force_jupyter=False)
        return "\n".join(render(table, console=plain) for table in self.tables()).rstrip()


def frame_of(rows: Sequence[Row]) -> pd.DataFrame:
    """The rows with all their keys as columns, unrounded; what a row lacks is missing."""
    frame = pd.DataFrame([dict(row) for row in rows])
    for name in frame.columns:
        known = [row[name] for row in rows if row.get(name) is not None]
        if known and all(type(value) is int for value in known):  # with gaps they became floats
            frame[name] = frame[name].astype("Int64" if frame[name].isna().any() else "int64")
    return frame


def text_of(value: Any) -> str:
    """A name of something in memory, where the settings have a path."""
    return f"{type(value).__name__} in memory"
