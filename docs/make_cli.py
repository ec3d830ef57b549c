"""Prints docs/cli.md, which is made of the commands themselves: `python docs/make_cli.py`."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

import typer.main

from semseg_cli.cli import app
from semseg_cli.settings.base import Settings
from semseg_cli.settings.entries import Entry, entries, item_type
from semseg_cli.settings.examples import example_lines
from semseg_cli.settings.toml_files import KNOWN

HEAD = """\
# Every command and option

Made by `python docs/make_cli.py`. `semseg-cli COMMAND --help` shows examples and the common
options, `--help-all` all of them. `semseg-cli --install-completion` makes the shell complete them,
and presets, classes and runs.

Every option is also a key of `--config` files (dashes as underscores) and a variable `SEMSEG_NAME`
(several values separated by commas). Options that may be given several times say so.
"""
ARGUMENTS = "Of this command"
WORDS = {int: "whole number", float: "number", str: "text", Path: "path"}


def page() -> str:
    """The text of docs/cli.md: the commands, then the panels of options that several share."""
    commands = dict(walk(typer.main.get_command(app), ""))
    panels = {name: dict(panels_of(command)) for name, command in commands.items()}
    shared = [rows for one in panels.values() for rows in one.items()]
    common = {rows[0]: rows[1] for rows in shared if shared.count(rows) > 1}
    lines = [HEAD, *index(commands)]
    for name, command in commands.items():
        lines += [f"## {name}", "", (command.help or ""), ""]
        lines += ["```", *example_lines(name), "```", ""]
        for panel, rows in panels[name].items():
            lines += place(panel, rows, common)
    lines += ["## Shared options", ""]
    for panel, rows in common.items():
        lines += [f"### {panel}", "", *table(rows)]
    return "\n".join(lines)


def walk(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        path = f"{prefix} {name}".strip()
        yield from walk(command, path) if hasattr(command, "commands") else [(path, command)]


def index(commands: dict[str, Any]) -> list[str]:
    rows = [
        f"| [`{name}`](#{name.replace(' ', '-')}) | {(command.help or '-').splitlines()[0]} |"
        for name, command in commands.items()
    ]
    return ["| command | does |", "|---|---|", *rows, ""]


def panels_of(command: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    rows: dict[str, list[str]] = {}
    own = entries_of(command)
    for param in command.params:
        if param.name not in ("help", "help_all"):
            panel = getattr(param, "rich_help_panel", None) or ARGUMENTS
            rows.setdefault(panel, []).append(row(param, own))
    yield from ((panel, tuple(found)) for panel, found in rows.items())


def entries_of(command: Any) -> dict[str, Entry]:
    """The options of a command's own settings: one name may have other choices elsewhere."""
    parameters = inspect.signature(inspect.unwrap(command.callback)).parameters.values()
    kinds = [one.annotation for one in parameters if isinstance(one.annotation, type)]
    return {e.key: e for kind in kinds if issubclass(kind, Settings) for e in entries(kind)}


def row(param: Any, own: dict[str, Entry]) -> str:
    names = ", ".join([*param.opts, *param.secondary_opts])
    is_argument = not names.startswith("-")
    key = names.split(",")[0].removeprefix("--").replace("-", "_")
    entry = own.get(key) or KNOWN.get(key)
    cells = (
        f"`{names.upper() if is_argument else names}`" + (" ..." if is_repeated(param) else ""),
        "" if entry is None else values(entry),
        "" if is_argument else shown(param.default),
        str(param.help or "").replace(r"\[", "["),
    )
    return "| " + " | ".join(" ".join(cell.split()).replace("|", r"\|") for cell in cells) + " |"


def is_repeated(param: Any) -> bool:
    return bool(getattr(param, "multiple", False)) or param.nargs == -1


def values(entry: Entry) -> str:
    kind, _ = item_type(entry.field)
    kinds = get_args(kind) if get_origin(kind) is UnionType else (kind,)
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    return " or ".join(WORDS.get(one, "") for one in kinds if one in WORDS)


def shown(default: Any) -> str:
    if default in (None, False, (), []) or callable(default):
        return ""
    if default is True:
        return "on"
    found = default if isinstance(default, list | tuple) else [default]
    return ", ".join(f"`{one}`" for one in found)


def place(
    panel: str, rows: tuple[str, ...], common: dict[str, tuple[str, ...]], title: str = "**{}**"
) -> list[str]:
    if common.get(panel) == rows:
        return [f"[{panel}](#{panel.lower().replace(' ', '-')}): shared options.", ""]
    return [title.format(panel), "", *table(rows)]


def table(rows: tuple[str, ...]) -> list[str]:
    return ["| option | value | default | what it does |", "|---|---|---|---|", *rows, ""]


if __name__ == "__main__":
    print(page(), end="")
