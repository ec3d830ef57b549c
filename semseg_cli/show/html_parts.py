"""What pages are made of: no scripts, nothing fetched, all text escaped."""

import base64
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from semseg_cli.runs.rows import Row
from semseg_cli.show.tables import Column, Table, cell, interval, mark_of

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(title: str, body: Iterable[str]) -> str:
    """A whole page from its sections."""
    css = (resources.files(__package__) / "html_report.css").read_text("utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8" />\n'
        f'<meta http-equiv="Content-Security-Policy" content="{text(POLICY)}" />\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1" />\n'
        f"<title>{text(title)}</title>\n<style>\n{css}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def text(value: Any) -> str:
    """Plain text as HTML; control characters, which no page may hold, become a box."""
    return html.escape(
        re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]", "\ufffd", str(value))
    )


def header(title: str, below: str) -> str:
    """The top of a page."""
    return f"<header><h1>{text(title)}</h1><p>{text(below)}</p></header>"


def tiles(numbers: Iterable[tuple[str, str, str]], said: Sequence[str] = ()) -> str:
    """Large numbers, each with its name and its interval (or ""), and notes below."""
    made = "".join(
        f'<div class="tile"><span>{text(name)}</span><strong>{text(value)}</strong>'
        f"<span>{text(below)}</span></div>"
        for name, value, below in numbers
    )
    return f'<section><div class="tiles">{made}</div>{notes(said)}</section>'


def pictures(paths: Iterable[tuple[Path, str]], title: str) -> list[str]:
    """Pictures with their captions; nothing where there are none."""
    figures = "".join(
        f'<figure><img src="{_data_uri(path)}" alt="{text(path.stem)}" />'
        f"<figcaption>{text(caption)}</figcaption></figure>"
        for path, caption in paths
    )
    return [f"<section><h2>{text(title)}</h2>{figures}</section>"] if figures else []


def _data_uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def table(shown: Table, more: Sequence[str] = ()) -> str:
    """A table with its notes, and more of them."""
    heads = "".join(f"<th>{text(c.header)}</th>" for c in shown.columns)
    lines = "".join(
        f"<tr>{''.join(_cell(row, column) for column in shown.columns)}</tr>" for row in shown.rows
    )
    return (
        f'<section><h2>{text(shown.title)}</h2><div class="scroll"><table><thead><tr>{heads}</tr>'
        f"</thead><tbody>{lines}</tbody></table></div>{notes([*shown.notes, *more])}</section>"
    )


def _cell(row: Row, column: Column) -> str:
    kind = ' class="text"' if column.kind == "text" else ""
    below = text(interval(row, column))
    shown = text(cell(row.get(column.key), column.kind) + mark_of(row, column))
    return f"<td{kind}>{shown}{f' <small>{below}</small>' if below else ''}</td>"


def notes(said: Iterable[str]) -> str:
    """Sentences as a list."""
    items = "".join(f"<li>{text(note)}</li>" for note in said)
    return f'<ul class="notes">{items}</ul>' if items else ""


def pairs(title: str, found: Mapping[str, Any], command: str = "") -> str:
    """Names and values; `command` makes them again."""
    lines = "".join(
        f"<tr><th>{text(name)}</th><td>{text(value)}</td></tr>" for name, value in found.items()
    )
    said = f"<p>To run it again: <code>{text(command)}</code></p>" if command else ""
    shown = f'<table class="pairs"><tbody>{lines}</tbody></table>'
    return f"<section><h2>{text(title)}</h2>{said}{shown}</section>"
