"""What pages are made of: nothing fetched, all text escaped, one script, which sorts tables."""

import base64
import hashlib
import html
import io
import math
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from importlib import resources
from itertools import accumulate, takewhile
from pathlib import Path
from typing import Any, TypeGuard

from PIL import Image

from semseg_cli.runs.rows import Row
from semseg_cli.show.tables import Column, Table, cell, interval, mark_of
from semseg_cli.show.tiles import Tile

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{}'"
FEW_ROW = '<tr class="few">'
ROOM = 1_200_000  # bytes of photographs: about eight
MEDIA = {".png": "jpeg", ".svg": "svg+xml", ".jpg": "jpeg"}


def page(title: str, body: Iterable[str]) -> str:
    """A whole page from its sections."""
    css, script = (
        (resources.files(__package__) / f"html_report.{kind}").read_text("utf-8")
        for kind in ("css", "js")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = POLICY.format(digest)  # no other script runs, whatever stands in a name
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8" />\n'
        f'<meta http-equiv="Content-Security-Policy" content="{text(policy)}" />\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1" />\n'
        f"<title>{text(title)}</title>\n<style>\n{css}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + f"\n</main>\n<script>{script}</script>\n</body>\n</html>\n"
    )


def text(value: Any) -> str:
    """Plain text as HTML; control characters, which no page may hold, become a box."""
    return html.escape(
        re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]", "\ufffd", str(value))
    )


def header(title: str, below: str) -> str:
    """The top of a page."""
    return f"<header><h1>{text(title)}</h1><p>{text(below)}</p></header>"


def warnings(said: Iterable[str]) -> list[str]:
    """What to know before reading on, as a box; nothing where there is nothing."""
    items = "".join(f"<li>{text(one)}</li>" for one in said)
    return [f'<ul class="warnings" role="note">{items}</ul>'] if items else []


def tiles(numbers: Iterable[Tile], said: Sequence[str] = ()) -> str:
    """Large numbers, and notes below."""
    made = "".join(
        f'<div class="tile" title="{text(one.definition)}"><span>{text(one.name)}</span>'
        f"<strong>{text(one.value)}</strong><span>{text(one.interval)}</span>"
        f"<span>{text(one.over)}</span></div>"
        for one in numbers
    )
    return f'<section><div class="tiles">{made}</div>{notes(said)}</section>'


def pictures(paths: Iterable[tuple[Path, str]], title: str, said: Sequence[str] = ()) -> list[str]:
    """Pictures with their captions, each in a box that scrolls, and notes below; nothing where
    there are none."""
    figures = "".join(
        f'<figure><div class="wide" tabindex="0" role="region" aria-label="{text(caption)}">'
        f"{image(path, caption)}</div><figcaption>{text(caption)}</figcaption></figure>"
        for path, caption in paths
    )
    return [f"<section><h2>{text(title)}</h2>{figures}{notes(said)}</section>"] if figures else []


def examples(folder: Path, title: str) -> list[str]:
    """The first photographs of a folder, as many as a page has room for; how many are left out."""
    found = sorted(folder.glob("*.png"))
    sizes = accumulate(len(_small(path)) for path in found)
    n_fitting = sum(1 for _ in takewhile(lambda size: size <= ROOM, sizes))
    left = len(found) - n_fitting
    said = [f"{left} more in the folder {folder.name}/."] if left else []
    return pictures([(path, path.name) for path in found[:n_fitting]], title, said)


def image(path: Path, said: str) -> str:
    """A picture that is part of the page; photographs keep a white ground on dark pages."""
    is_photo = path.suffix == ".png"
    data = _small(path) if is_photo else path.read_bytes()
    uri = f"data:image/{MEDIA[path.suffix]};base64,{base64.b64encode(data).decode()}"
    kind = ' class="photo"' if is_photo else ""
    return f'<img{kind} src="{uri}" alt="{text(said)}" />'


def _small(path: Path) -> bytes:
    """A photograph at a fifth of its bytes."""
    made = io.BytesIO()
    with Image.open(path) as picture:
        picture.convert("RGB").save(made, "JPEG", quality=85, subsampling=0)
    return made.getvalue()


def cards(title: str, found: Iterable[tuple[str, str, Path]], said: Iterable[str]) -> list[str]:
    """Small pictures, each below its name and a line of text; nothing where there are none."""
    figures = "".join(
        f"<figure><figcaption><strong>{text(name)}</strong><br />{text(line)}</figcaption>"
        f"{image(path, f'{name}: {line}')}</figure>"
        for name, line, path in found
    )
    if not figures:
        return []
    shown = f'<div class="cards">{figures}</div>{notes(said)}'
    return [f"<section><h2>{text(title)}</h2>{shown}</section>"]


def table(shown: Table, more: Sequence[str] = (), few: Container[int] = ()) -> str:
    """A table with its notes, and more of them; its heads sort it. Rows at the places in `few` stay
    last."""
    heads = "".join(
        f'<th scope="col"{_kind(column)}>{text(column.header)}</th>' for column in shown.columns
    )
    lines = "".join(
        f"{FEW_ROW if place in few else '<tr>'}"
        f"{''.join(_cell(row, column) for column in shown.columns)}</tr>"
        for place, row in enumerate(shown.rows)
    )
    box = f'<div class="scroll" tabindex="0" role="region" aria-label="{text(shown.title)}">'
    return (
        f"<section><h2>{text(shown.title)}</h2>{box}<table><thead><tr>{heads}</tr>"
        f"</thead><tbody>{lines}</tbody></table></div>{notes([*shown.notes, *more])}</section>"
    )


def _kind(column: Column) -> str:
    return ' class="text"' if column.kind == "text" else ""


def _cell(row: Row, column: Column) -> str:
    value = row.get(column.key)
    below = text(interval(row, column))
    shown = text(cell(value, column.kind) + mark_of(row, column))
    order = f' data-value="{float(value)!r}"' if _is_number(value) else ""
    order = order or ' data-none="1"' if not isinstance(value, str) else order
    return f"<td{_kind(column)}{order}>{shown}{f' <small>{below}</small>' if below else ''}</td>"


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)


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
