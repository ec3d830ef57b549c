"""Tables: rows as rich table, CSV, JSON, Markdown or LaTeX. The one place that formats numbers."""

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, get_args

from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

Format = Literal["table", "csv", "json", "markdown", "latex"]
FORMATS: tuple[str, ...] = get_args(Format)
SUFFIXES = {".csv": "csv", ".json": "json", ".md": "markdown", ".tex": "latex"}
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column shown of the rows: `key` finds its value, `header` may have two lines.

    `kind`: text; ratio (fixed decimals); count; setting (a number as the user would type it).
    Where the width is short, elastic columns wrap and the others stay whole.
    """

    key: str
    header: str
    kind: Literal["text", "ratio", "count", "setting"] = "ratio"
    elastic: bool = False


@dataclass(frozen=True)
class Table:
    """Rows, the columns shown of them, and notes below.

    CSV and JSON hold every key of the rows unrounded; the other formats hold the columns. `best`
    names one cell (row number, key) to stand out.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    best: tuple[int, str] | None = field(default=None)


def render(
    table: Table, format: str = "table", console: Console | None = None, precision: int = 3
) -> str:
    """The table as text that ends in a line break.

    The console gives width and colour to the rich form; without one it is 80 wide and plain.
    """
    if format == "table":
        return _rich_text(table, console or Console(width=80, color_system=None), precision)
    if format == "csv":
        return _csv(table.rows)
    if format == "json":
        whole = {"title": table.title, "notes": list(table.notes), "rows": list(table.rows)}
        return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
    return {"markdown": _markdown, "latex": _latex}[format](table, precision)


def cell(value: Any, kind: str = "ratio", precision: int = 3) -> str:
    """A value as it is shown: never scientific, never minus zero; "-" for a missing one."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, str) or kind == "text":
        return " ".join(str(value).split())
    if kind == "setting":
        return plain_number(value)
    text = f"{value:.{0 if kind == 'count' else precision}f}"
    return text.removeprefix("-") if not float(text) else text


def plain_number(value: float) -> str:
    """A number in its shortest exact form, without exponent: -2.0 is "-2"."""
    text = format(Decimal(repr(float(value))), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def to_rich(table: Table, precision: int = 3) -> Group:
    """The table as a rich renderable; cells are plain text, so brackets in names stay."""
    grid = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for column in table.columns:
        _add_column(grid, column)
    for number, row in enumerate(table.rows):
        grid.add_row(*(_rich_cell(table, number, row, c, precision) for c in table.columns))
    title = [Text(table.title, style="bold")] if table.title else []
    notes = [Padding(Text(note, style="dim"), (0, 0, 0, 0)) for note in table.notes]
    return Group(*title, grid, *notes)


def _add_column(grid: RichTable, column: Column) -> None:
    grid.add_column(
        Text(column.header),
        justify="left" if column.kind == "text" else "right",
        no_wrap=not column.elastic,
        overflow="fold",
    )


def _rich_cell(table: Table, number: int, row: Row, column: Column, precision: int) -> Text:
    text = cell(row.get(column.key), column.kind, precision)
    return Text(text, style="bold green" if table.best == (number, column.key) else "")


def _rich_text(table: Table, console: Console, precision: int) -> str:
    with console.capture() as capture:
        console.print(to_rich(table, precision))
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def _csv(rows: Sequence[Row]) -> str:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    file = io.StringIO()
    writer = csv.DictWriter(file, keys, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _cells(table: Table, precision: int, escape: Any, strong: str) -> Iterable[list[str]]:
    for number, row in enumerate(table.rows):
        texts = [escape(cell(row.get(c.key), c.kind, precision)) for c in table.columns]
        yield [
            strong.replace("_", text) if table.best == (number, c.key) else text
            for text, c in zip(texts, table.columns, strict=True)
        ]


def _markdown(table: Table, precision: int) -> str:
    heads = [_markdown_text(c.header.replace("\n", " ")) for c in table.columns]
    rules = [":--" if c.kind == "text" else "--:" for c in table.columns]
    lines = [heads, rules, *_cells(table, precision, _markdown_text, "**_**")]
    body = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    title = f"**{_markdown_text(table.title)}**\n\n" if table.title else ""
    notes = "".join(f"- {_markdown_text(note)}\n" for note in table.notes)
    return title + body + (f"\n{notes}" if notes else "")


def _markdown_text(text: str) -> str:
    return re.sub(r"([\\|`*_\[\]<])", r"\\\1", text)


def _latex(table: Table, precision: int) -> str:
    heads = [_latex_text(c.header.replace("\n", " ")) for c in table.columns]
    rows = _cells(table, precision, _latex_text, r"\textbf{_}")
    kinds = "".join("l" if c.kind == "text" else "r" for c in table.columns)
    caption = " ".join(f"{_latex_text(part.rstrip('.'))}." for part in (table.title, *table.notes))
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\begin{{tabular}}{{{kinds}}}",
        r"\hline",
        rf"{' & '.join(heads)} \\",
        r"\hline",
        *(rf"{' & '.join(row)} \\" for row in rows),
        r"\hline",
        r"\end{tabular}",
        rf"\caption{{{caption}}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "[": "{[}", "]": "{]}",
    **{sign: rf"\{sign}" for sign in "&%$#_{}"},
}  # fmt: skip


def _latex_text(text: str) -> str:
    escaped = "".join(_LATEX.get(sign, sign) for sign in text)
    return f"${text}$" if re.fullmatch(r"-\d+(\.\d+)?", text) else escaped
