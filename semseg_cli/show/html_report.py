"""report.html: one self-contained page per run. No scripts, and nothing is fetched."""

import base64
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from semseg_cli.runs.contents import is_chosen_on_evaluation, params_of
from semseg_cli.runs.folder import LOOKUP_FILE, SETTINGS_FILE, RunFolder
from semseg_cli.runs.metrics import RUNS, shown
from semseg_cli.runs.rows import Row, read_rows
from semseg_cli.show.run_tables import (
    ON_EVALUATION,
    by_selectivity,
    class_table,
    lookup_table,
    summary_table,
    to_column,
)
from semseg_cli.show.tables import Column, Table, cell, interval

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
PLOTS = {
    "target_other": "Share of each class's own patches, and of all other patches, that changed.",
    "best_worst": "Target change minus other change of the classes.",
    "changes": "What the changed patches of a class became.",
    "dose_response": "Means over classes at every scale of the sweep, with 95% intervals.",
}
TRIED = "Target, other and selectivity: of the latent's own edit, on the selection images."


def report_html(folder: RunFolder, rows: Sequence[Row], numbers: Mapping[str, float]) -> str:
    """The page of a run.

    Args:
        folder: the run; its settings, latents, plots and examples are read from it.
        rows: one per class, with `*_lo` and `*_hi` where known; none for a lookup.
        numbers: the run's metrics, likewise; none for a lookup.
    """
    name = _text(folder.meta["run_name"])
    body = [
        f"<header><h1>{name}</h1><p>{_text(_subtitle(folder.meta))}</p></header>",
        *_headline(folder, numbers),
        *_pictures(folder.path / "plots", "Pictures"),
        *_tables(folder, rows),
        *_pictures(folder.path / "examples", "Examples"),
        *_origin(folder),
    ]
    css = (resources.files(__package__) / "html_report.css").read_text("utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8" />\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_text(POLICY)}" />\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1" />\n'
        f"<title>{name}</title>\n<style>\n{css}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def _text(value: Any) -> str:
    """Plain text as HTML; control characters, which no page may hold, become a box."""
    return html.escape(
        re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]", "\ufffd", str(value))
    )


def _subtitle(meta: Mapping[str, Any]) -> str:
    said = [meta["method"]]
    said += [f"{meta['protocol']} protocol"] if meta.get("protocol") else []
    said += [f"scale {cell(meta['scale'], 'setting')}"] if meta.get("scale") is not None else []
    return ", ".join([*said, f"experiment {meta['experiment']}", meta["created"][:10]])


# --- parts of the page ----------------------------------------------------------------------------


def _headline(folder: RunFolder, numbers: Mapping[str, float]) -> list[str]:
    if not numbers:
        return []
    tiles = "".join(
        f'<div class="tile"><span>{metric.name}</span>'
        f"<strong>{_text(cell(numbers[metric.key]))}</strong>"
        f"<span>{_text(interval(numbers, to_column(metric)))}</span></div>"
        for metric in shown(RUNS, "tiles")
        if metric.key in numbers
    )
    notes = [ON_EVALUATION] if is_chosen_on_evaluation(folder) else []
    table = summary_table({folder.meta["run_name"]: folder.report()}, notes=notes)
    return [f'<section><div class="tiles">{tiles}</div>{_notes(table.notes)}</section>']


def _pictures(folder: Path, title: str) -> list[str]:
    paths = sorted(folder.glob("*.png"), key=lambda path: (_place(path.stem), path.name))
    if not paths:
        return []
    figures = "".join(
        f'<figure><img src="{_data_uri(path)}" alt="{_text(path.stem)}" />'
        f"<figcaption>{_text(PLOTS.get(path.stem, path.name))}</figcaption></figure>"
        for path in paths
    )
    return [f"<section><h2>{title}</h2>{figures}</section>"]


def _place(stem: str) -> int:
    return list(PLOTS).index(stem) if stem in PLOTS else len(PLOTS)


def _data_uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _tables(folder: RunFolder, rows: Sequence[Row]) -> list[str]:
    parts = []
    if rows:
        parts.append(_table(class_table(by_selectivity(rows), "Classes by selectivity")))
    if latents := read_rows(folder.path / LOOKUP_FILE):
        is_tried = any(row.get("selectivity") is not None for row in latents)
        parts.append(_table(lookup_table(latents), [TRIED] if is_tried else []))
    return parts


def _table(table: Table, notes: Sequence[str] = ()) -> str:
    heads = "".join(f"<th>{_text(c.header)}</th>" for c in table.columns)
    lines = "".join(
        f"<tr>{''.join(_cell(row, column) for column in table.columns)}</tr>" for row in table.rows
    )
    return (
        f'<section><h2>{_text(table.title)}</h2><div class="scroll"><table><thead><tr>{heads}</tr>'
        f"</thead><tbody>{lines}</tbody></table></div>{_notes([*table.notes, *notes])}</section>"
    )


def _cell(row: Row, column: Column) -> str:
    kind = ' class="text"' if column.kind == "text" else ""
    below = _text(interval(row, column))
    text = _text(cell(row.get(column.key), column.kind))
    return f"<td{kind}>{text}{f' <small>{below}</small>' if below else ''}</td>"


def _notes(notes: Iterable[str]) -> str:
    items = "".join(f"<li>{_text(note)}</li>" for note in notes)
    return f'<ul class="notes">{items}</ul>' if items else ""


def _origin(folder: RunFolder) -> list[str]:
    """How the run was made, and how to make it again."""
    meta = folder.meta
    facts = {
        "run folder": folder.path.name,
        "created": meta["created"],
        "git commit": meta.get("git_commit"),
        "sweep": meta.get("sweep_id"),
        **{f"{one['role']} images": _dataset(one) for one in meta["datasets"]},
        **{f"digest of the {part}": value for part, value in (meta.get("digests") or {}).items()},
        **{f"tag {name}": value for name, value in meta["tags"].items()},
    }
    command = f"semseg-cli {meta['command']} --config {SETTINGS_FILE}"
    return [
        _pairs("Settings", params_of(folder), f"To run it again: <code>{_text(command)}</code>"),
        _pairs("Origin", {name: value for name, value in facts.items() if value is not None}),
    ]


def _dataset(one: Mapping[str, Any]) -> str:
    size = f"{one['n_images']} images, " if "n_images" in one else ""  # not of a reused lookup
    return f"{one['root']}, split {one['split']}, {size}digest {one['digest']}"


def _pairs(title: str, pairs: Mapping[str, Any], note: str = "") -> str:
    lines = "".join(
        f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in pairs.items()
    )
    said = f"<p>{note}</p>" if note else ""
    table = f'<table class="pairs"><tbody>{lines}</tbody></table>'
    return f"<section><h2>{title}</h2>{said}{table}</section>"
