"""Tables: rows as rich table, CSV, JSON, Markdown or LaTeX. The one place that formats numbers."""

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from semseg_cli.errors import printable
from semseg_cli.runs.metrics.metric import Kind
from semseg_cli.runs.rows import Row, csv_text
from semseg_cli.show.markup import latex_text, markdown_text

GAP, NAME_WIDTH = 2, 14
FORMULAS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Column:
    """A column shown of the rows: `key` finds its value, `header` may have two lines.

    `kind`: text; ratio (fixed decimals); count; setting (a number as the user would type it);
    estimate (a ratio with its interval from the keys `KEY_lo` and `KEY_hi`, and the mark
    of `KEY_mark`); difference (an estimate with its sign); p (a p value); mark (* or nothing).
    Where the width is short, columns that yield go, those with the largest `yields` first; elastic
    columns wrap and the others stay whole.
    """

    key: str
    header: str
    kind: Kind = "ratio"
    elastic: bool = False
    yields: int = 0


@dataclass(frozen=True)
class Table:
    """Rows, the columns shown of them, and notes below.

    CSV and JSON hold every key of the rows unrounded; the other formats hold the columns. `best`
    names one cell (row number, key) to stand out, `strong` names more. `about` has for notes that
    explain some columns the keys of these: where none of them has room, the note goes too.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    best: tuple[int, str] | None = field(default=None)
    strong: frozenset[tuple[int, str]] = frozenset()
    about: Mapping[str, Collection[str]] = field(default_factory=dict)

    def stands_out(self, number: int, key: str) -> bool:
        """Whether a cell is emphasised."""
        return (number, key) == self.best or (number, key) in self.strong


def render(
    table: Table, format: str = "table", console: Console | None = None, precision: int = 3
) -> str:
    """The table as text that ends in a line break.

    The console gives width and colour to the rich form; without one it is 80 wide and plain.
    """
    if format == "table":
        return _rich_text(table, console or Console(width=80, color_system=None), precision)
    if format == "csv":
        return csv_text([_as_text(row) for row in table.rows])
    if format == "json":
        return _json(_whole(table))
    return {"markdown": _markdown, "latex": _latex}[format](table, precision)


def render_all(tables: Sequence[Table], format: str, console: Console | None = None) -> str:
    """Tables that belong together; several are one JSON object, `{"tables": [...]}`.

    CSV has one kind of row, and so the first table alone.
    """
    if format == "json" and len(tables) > 1:
        return _json({"tables": [_whole(table) for table in tables]})
    shown = tables[:1] if format == "csv" else tables
    between = "" if format == "table" else "\n"
    return between.join(render(table, format, console) for table in shown)


def _whole(table: Table) -> dict[str, Any]:
    return {"title": table.title, "notes": list(table.notes), "rows": list(table.rows)}


def _json(whole: dict[str, Any]) -> str:
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _as_text(row: Row) -> Row:
    """A row whose names no spreadsheet runs as formulas: they get a `'` in front."""
    return {
        key: f"'{value}" if isinstance(value, str) and value.startswith(FORMULAS) else value
        for key, value in row.items()
    }


def cell(value: Any, kind: str = "ratio", precision: int = 3) -> str:
    """A value as it is shown: never scientific, never minus zero; "-" for a missing one."""
    if kind == "mark":
        return "*" if value else ""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, str) or kind == "text":
        return printable(" ".join(str(value).split()))
    if kind == "setting":
        return plain_number(value)
    if kind == "p":
        from semseg_cli.runs.calibration import ROUNDING  # scipy takes a while
        from semseg_cli.runs.inference.answers import ALPHA

        precision = max(3, precision)
        while value > ALPHA + ROUNDING and round(value, precision) <= ALPHA:
            precision += 1  # .0504 does not read .050, which would pass
        if value < 10**-precision:
            return f"<{10**-precision:.{precision}f}"
    text = f"{value:.{0 if kind == 'count' else precision}f}"
    text = text.removeprefix("-") if not float(text) else text
    return f"+{text}" if kind == "difference" and float(text) > 0 else text


def interval(row: Row, column: Column, precision: int = 3) -> str:
    """What stands below an estimate: its interval with one decimal less, or the images that are too
    few for one; empty where the row has neither."""
    if column.kind not in ("estimate", "difference"):
        return ""
    value, lo, hi = (row.get(f"{column.key}{end}") for end in ("", "_lo", "_hi"))
    if lo is None or hi is None or value is None:
        return "" if column.kind == "difference" else _too_few(row, column.key)
    from semseg_cli.runs.inference import Interval, bounds_text  # scipy takes a while

    return bounds_text(Interval(value, lo, hi, None, 0, ""), max(1, precision - 1))


def _too_few(row: Row, key: str) -> str:
    """In how many of the images (or groups) that have it the class changed: `2/3 img`."""
    n_images, n_touched = row.get(f"{key}_n_images"), row.get(f"{key}_n_touched")
    if not n_images or row.get(key) is None:
        return ""
    unit = row.get("unit") or "img"
    unit = unit.removesuffix("s") if n_images == 1 else unit
    return f"{n_images} {unit}" if n_touched is None else f"{n_touched}/{n_images} {unit}"


def mark_of(row: Row, column: Column) -> str:
    """The mark of a difference that is more than chance, or none."""
    return row.get(f"{column.key}_mark") or ""


def cell_lines(row: Row, column: Column, precision: int = 3, *, mark_width: int = 0) -> str:
    """A cell of the rich table: the value, and its interval below; marks never move the digits."""
    value = cell(row.get(column.key), column.kind, precision)
    first = value + f"{mark_of(row, column):{mark_width}}" if mark_width else value
    below = interval(row, column, precision)
    return f"{first}\n{below}{' ' * mark_width}" if below else first


def mark_width(rows: Sequence[Row], column: Column) -> int:
    """The width of the longest mark in the column."""
    return max((len(mark_of(row, column)) for row in rows), default=0)


def natural_width(column: Column, rows: Sequence[Row], precision: int = 3) -> int:
    """The width of a column that wraps nowhere."""
    marked = mark_width(rows, column)
    cells = [cell_lines(row, column, precision, mark_width=marked) for row in rows]
    return max(cell_len(line) for text in (column.header, *cells) for line in text.split("\n"))


def least_width(column: Column, rows: Sequence[Row]) -> int:
    """The width that an elastic column can be shrunk to."""
    texts = [column.header, *(cell(row.get(column.key), "text") for row in rows)]
    longest = max((cell_len(word) for text in texts for word in text.split()), default=0)
    return min(NAME_WIDTH, longest)


def plain_number(value: float) -> str:
    """A number in its shortest exact form, without exponent: -2.0 is "-2"."""
    text = format(Decimal(repr(float(value))), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def to_rich(table: Table, precision: int = 3, width: int = 80) -> Group:
    """The table as a rich renderable; cells are plain text, so brackets in names stay.

    Columns that do not fit beside each other go into further grids, each with the first column.
    """
    title = [Text(printable(table.title), style="bold")] if table.title else []
    widths = [Widths.of(column, table.rows, precision) for column in table.columns]
    fitting = _fitting(widths, width)
    keys = {one.column.key for one in fitting}
    said = [
        n for n in table.notes if n not in table.about or keys & set(table.about[n]) or not keys
    ]
    notes = [Padding(Text(printable(n), style="dim"), (0, 0, 0, 0)) for n in said]
    blocks = _split(fitting, width)
    grids = [part for block in blocks for part in (Text(), _grid(table, block, precision, width))]
    return Group(*title, *grids[1:], *notes)


@dataclass(frozen=True)
class Widths:
    """A column with the width it takes whole, and the least that it can be shrunk to."""

    column: Column
    natural: int
    least: int

    @classmethod
    def of(cls, column: Column, rows: Sequence[Row], precision: int = 3) -> "Widths":
        """The widths over these rows."""
        natural = natural_width(column, rows, precision)
        return cls(column, natural, min(natural, least_width(column, rows)))

    @property
    def needed(self) -> int:
        """The width after the first column: only elastic text gives way."""
        wraps = self.column.elastic and self.column.kind == "text"
        return GAP + (self.least if wraps else self.natural)


def _fitting(widths: Sequence[Widths], width: int) -> list[Widths]:
    """The columns, without those that yield until the others fit."""
    kept = list(widths)
    for level in sorted({one.column.yields for one in kept} - {0}, reverse=True):
        if len(_split(kept, width)) < 2:
            break
        kept = [one for one in kept if one.column.yields < level]
    return kept


def _split(widths: Sequence[Widths], width: int) -> list[list[Widths]]:
    """Columns that fit beside each other, each time after the first one."""
    if not widths:
        return []
    head, *rest = widths
    free = width - head.least
    blocks: list[list[Widths]] = [[]]
    left = free
    for one in rest:
        if blocks[-1] and one.needed > left:
            blocks.append([])
            left = free
        blocks[-1].append(one)
        left -= one.needed
    return [[head, *block] for block in blocks]


def _grid(table: Table, widths: Sequence[Widths], precision: int, width: int) -> RichTable:
    grid = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    is_long = len(widths) == 2  # a column that has a grid to itself may be as wide as it likes
    # What is told to rich need not be measured by it again, cell by cell. Rich 14 pads a last
    # column whose width it is told.
    is_told = sum(GAP + (o.least if o.column.elastic else o.natural) for o in widths) <= width
    for one in widths:
        wraps = one.column.elastic or is_long
        told = is_told and not wraps and one is not widths[-1]
        _add_column(grid, one.column, wraps, one.natural if told else None)
    columns = [one.column for one in widths]
    marked = {column.key: mark_width(table.rows, column) for column in columns}
    for number, row in enumerate(table.rows):
        cells = [cell_lines(row, c, precision, mark_width=marked[c.key]) for c in columns]
        styles = ["bold green" if table.stands_out(number, c.key) else "" for c in columns]
        grid.add_row(*(_styled(*pair) for pair in zip(cells, styles, strict=True)))
    return grid


def _add_column(grid: RichTable, column: Column, wraps: bool, width: int | None) -> None:
    grid.add_column(
        Text(column.header),
        justify="left" if column.kind == "text" else "right",
        no_wrap=not wraps,
        width=width,
        overflow="fold",
    )


def _styled(text: str, style: str) -> Text:
    """The cell with its first line in the style."""
    value, mark, below = text.partition("\n")
    return Text(value, style=style) if not mark else Text.assemble((value, style), mark + below)


def _rich_text(table: Table, console: Console, precision: int) -> str:
    with console.capture() as capture:
        console.print(to_rich(table, precision, console.width))
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def _cells(table: Table, precision: int, escape: Any, strong: str) -> Iterable[list[str]]:
    for number, row in enumerate(table.rows):
        texts = [escape(cell(row.get(c.key), c.kind, precision)) for c in table.columns]
        values = [
            strong.replace("_", text) if table.stands_out(number, c.key) else text
            for text, c in zip(texts, table.columns, strict=True)
        ]
        rests = [f"{mark_of(row, c)} {interval(row, c, precision)}".rstrip() for c in table.columns]
        yield [value + escape(rest) for value, rest in zip(values, rests, strict=True)]


def _markdown(table: Table, precision: int) -> str:
    heads = [markdown_text(c.header.replace("\n", " ")) for c in table.columns]
    rules = [":--" if c.kind == "text" else "--:" for c in table.columns]
    lines = [heads, rules, *_cells(table, precision, markdown_text, "**_**")]
    body = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    title = f"**{markdown_text(table.title)}**\n\n" if table.title else ""
    notes = "".join(f"- {markdown_text(note)}\n" for note in table.notes)
    return title + body + (f"\n{notes}" if notes else "")


def _latex(table: Table, precision: int) -> str:
    heads = [latex_text(c.header.replace("\n", " ")) for c in table.columns]
    rows = _cells(table, precision, latex_text, r"\textbf{_}")
    kinds = "".join("l" if c.kind == "text" else "r" for c in table.columns)
    caption = " ".join(f"{latex_text(part.rstrip('.'))}." for part in (table.title, *table.notes))
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
