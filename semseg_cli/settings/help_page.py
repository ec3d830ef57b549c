"""The help of every command: examples first, then the common options; all by `--help-all`."""

import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import typer
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from semseg_cli.settings.examples import example_lines

# In the order in which they are listed; the rest is behind --help-all.
COMMON = (
    "preset", "config", "imgs-root", "vit-ckpt", "vit-layer", "sae-ckpt", "stats", "seg-ckpt",
    "quick", "scale", "match", "control", "direction", "draws", "select", "max-freq", "lookup",
    "class", "images", "protocol", "lr", "epochs", "ignore-null",
    "save", "resume", "experiment", "method", "baseline", "per-class", "columns", "sort", "top",
    "last", "output", "plot", "dump-to", "run-name", "no-track", "format", "quiet", "dry-run",
    "version",
)  # fmt: skip
SHORT = 15  # a command with so few options shows all of them
WIDEST = 100  # lines longer than this are hard to read
ARGUMENTS, COMMANDS, OPTIONS, ALL = "Arguments", "Commands", "Common options", "Options"
ROOT = "semseg-cli"
OF_LIBRARY = "Value error, "  # how pydantic begins a message of typer's
EXPECTED = {"int": "a whole number", "float": "a number", "bool": "true or false"}


class _Helped:
    """What commands and groups share: their page."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Writes the page, with all options where --help-all asks for them."""
        formatter.write(_printed(_page(self, ctx, shows_all=bool(ctx.meta.get(ALL)))))


class HelpedCommand(_Helped, TyperCommand):
    """A command whose help has examples, and whose sentences are its own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Says in our words what the library that checks values says in its own."""
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = _own_words(error)
            raise


def _own_words(error: typer.BadParameter) -> str:
    """What is wrong with a value, and what was expected."""
    found: list[Any] = getattr(error.__cause__, "errors", list)()  # pydantic's
    first = found[0] if found else {"type": "", "input": ""}
    kind = EXPECTED.get(first["type"].partition("_")[0])
    if kind is None:
        return error.message.removeprefix(OF_LIBRARY)
    return f"{first['input']!r} is not {kind}."


class HelpedGroup(_Helped, TyperGroup):
    """A group of commands whose help has examples."""


def _show_all(ctx: typer.Context, is_asked: bool) -> None:
    if is_asked and not ctx.resilient_parsing:
        ctx.meta[ALL] = True
        typer.echo(ctx.get_help(), color=ctx.color)
        raise typer.Exit


HELP_ALL = typer.Option("--help-all", is_eager=True, callback=_show_all, help="Show all options.")


def _printed(page: Group) -> str:
    is_terminal = sys.stdout.isatty()
    out = io.StringIO()
    console = Console(file=out, force_terminal=is_terminal, highlight=False)
    console.width = min(console.width, WIDEST)
    console.print(page)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _page(command: Any, ctx: Any, *, shows_all: bool) -> Group:
    params = [p for p in command.get_params(ctx) if not getattr(p, "hidden", False)]
    options = [p for p in params if _is_option(p)]
    arguments = [p for p in params if not _is_option(p)]
    path = ctx.command_path.removeprefix(ctx.find_root().command_path).strip()
    usage = Text(f"Usage: {ctx.command_path} {_usage(command, arguments)}")
    parts: list[Any] = [usage, "", Text.from_markup(_sentence(command)), ""]
    if lines := example_lines(path):
        parts += [*_titled("Examples", (Text(line, no_wrap=True) for line in lines))]
    if hasattr(command, "commands"):
        rows = [(name, Text.from_markup(_short(one))) for name, one in _commands(command, ctx)]
        parts += _titled(COMMANDS, [_table(rows)])
    if arguments:
        parts += _titled(ARGUMENTS, [_table([_row(p, is_whole=True) for p in arguments])])
    return Group(*parts, *(_all_panels(options) if shows_all else _common(options, ctx)))


def _usage(command: Any, arguments: Sequence[Any]) -> str:
    if hasattr(command, "commands"):
        return "[OPTIONS] COMMAND [ARGS]..."
    names = [f"{_names(p)}..." if p.nargs == -1 else _names(p) for p in arguments]
    return " ".join(["[OPTIONS]", *names])


def _sentence(command: Any) -> str:
    return " ".join((command.help or "").split())


def _short(command: Any) -> str:
    return _first_sentence(" ".join((command.help or "").split("\n\n")[0].split()))


def _first_sentence(text: str) -> str:
    first = text.partition(". ")[0]
    return first if first.endswith("...") else first.removesuffix(".")


def _commands(group: Any, ctx: Any) -> Iterator[tuple[str, Any]]:
    for name in group.list_commands(ctx):
        yield name, group.get_command(ctx, name)


def _common(options: Sequence[Any], ctx: Any) -> Iterator[Any]:
    rest = _rest(options)
    shown = [p for p in options if p not in rest and "--help" not in p.opts]
    shown = [p for p in shown if _key(p) != "help-all"]
    if rest:
        shown.sort(key=_place)
    rows = [_row(p, is_whole=False) for p in shown]
    if rows:
        yield from _titled(OPTIONS if rest else ALL, [_table(rows)])
    if rest:
        yield f"All {len(options)} options: {ctx.command_path} --help-all"


def _all_panels(options: Sequence[Any]) -> Iterator[Any]:
    panels: dict[str, list[Any]] = {}
    for p in options:
        panels.setdefault(getattr(p, "rich_help_panel", None) or ALL, []).append(p)
    for title, members in panels.items():
        yield from _titled(title, [_table([_row(p, is_whole=True) for p in members])])
    yield "Each is also a key of --config files (a_b for --a-b) and a variable SEMSEG_A_B."


def _titled(title: str, lines: Iterable[Any]) -> list[Any]:
    return [Text(title, style="bold"), Padding(Group(*lines), (0, 0, 1, 2))]


def _table(rows: Sequence[tuple[str, Text]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column()
    for name, text in rows:
        table.add_row(name, text)
    return table


def _rest(params: Sequence[Any]) -> list[Any]:
    """The options that are only shown by --help-all."""
    options = [p for p in params if _is_option(p) and not _key(p).startswith("help")]
    return [p for p in options if _is_rare(p)] if len(options) > SHORT else []


def _is_option(param: Any) -> bool:
    return bool(param.param_type_name == "option")


def _is_rare(param: Any) -> bool:
    return _key(param) not in COMMON


def _key(param: Any) -> str:
    return str(param.opts[0]).removeprefix("--")


def _place(param: Any) -> int:
    return COMMON.index(_key(param)) if _key(param) in COMMON else len(COMMON)


def _row(param: Any, *, is_whole: bool) -> tuple[str, Text]:
    """An option with what follows it, and its help: all of it, or its first sentence."""
    text = " ".join((param.help or "").split())
    made = Text.from_markup(text if is_whole else _first_sentence(text))
    if default := _default(param):
        made.append(f" [{default}]", style="dim")
    return _names(param), made


def _is_flag(param: Any) -> bool:
    return bool(getattr(param, "is_flag", False))


def _names(param: Any) -> str:
    if not _is_option(param):
        return str(param.metavar or param.name).upper()
    names = ", ".join(param.opts) + "".join(f" / {name}" for name in param.secondary_opts)
    return names if _is_flag(param) else f"{names} {param.metavar or 'TEXT'}"


def _default(param: Any) -> str:
    default = param.default
    if default in (None, False, "", (), []) or callable(default) or _is_flag(param):
        return ""
    return ", ".join(map(str, default if isinstance(default, list | tuple) else [default]))
