"""Settings dataclasses -> Typer options. Each dataclass becomes a panel of the command's help."""

import difflib
import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from rich.markup import escape

from semseg_cli.errors import UsageError
from semseg_cli.progress import quietly
from semseg_cli.settings.base import Settings, default_of
from semseg_cli.settings.entries import Entry, build, entries, item_type
from semseg_cli.settings.help_page import HELP_ALL, HelpedCommand
from semseg_cli.settings.toml_files import KNOWN, layered

SOURCES = {
    "preset": ("NAME", "Named settings (see `presets list`). The demo if you name no input."),
    "config": (
        "FILE",
        "TOML file with one key per option. Options and SEMSEG_* variables win over it.",
    ),
}
WIDEST = 26  # of an option and its choices in the help
KINDS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}


class SettingsCommand(HelpedCommand):
    """A command whose defaults come from the preset and the settings file."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads the files that the options name before the options themselves get their values.

        `--imgs_root` stands for `--imgs-root`: `mlflow run -P imgs_root=...` spells it so.
        """
        args = [_dashed(_utf8(arg)) for arg in args]
        if not ctx.resilient_parsing:
            given, _, _ = self.make_parser(ctx).parse_args(args=list(args))
            if not {"help", "help_all"} & given.keys():
                ctx.default_map = self._defaults({k: v for k, v in given.items() if v})
        return super().parse_args(ctx, args)

    def _defaults(self, given: dict[str, Any]) -> dict[str, Any]:
        """Python name -> value from variables of repeatable options, settings file and preset."""
        variables = {p.name: text for p in self.params if (text := _variable(p))}
        named = {**variables, **given}
        values: dict[str, Any] = {}
        if any(param.name == "preset" for param in self.params):
            keys = [_key(param) for param in self.params]
            values = layered(named.get("preset"), named.get("config"), named, keys)
        for param in self.params:
            if getattr(param, "multiple", False) and param.name in variables:
                values[_key(param)] = _split(variables[param.name])
        return {
            str(param.name): _as_given(values[_key(param)], param)
            for param in self.params
            if _key(param) in values
        }


def warn_of_unknown_variables() -> None:
    """Says which SEMSEG_* variables no option reads."""
    known = {*(f"SEMSEG_{key.upper()}" for key in KNOWN), "SEMSEG_PRESET", "SEMSEG_CONFIG"}
    for name in sorted(name for name in os.environ if name.startswith("SEMSEG_")):
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else "."
            print(f"semseg-cli: no option reads the variable {name}{hint}", file=sys.stderr)


def _utf8(arg: str) -> str:
    """The argument; one that is no UTF-8 could not be written down with the run."""
    if any("\ud800" <= sign <= "\udfff" for sign in arg):
        raise UsageError(f"The argument {arg!r} is not UTF-8: rename what it names.")
    return arg


def _dashed(arg: str) -> str:
    name, mark, value = arg.partition("=")
    return name.replace("_", "-") + mark + value if name.startswith("--") else arg


def _key(param: Any) -> str:
    return param.opts[0].removeprefix("--").replace("-", "_")


def _variable(param: Any) -> str | None:
    return os.environ.get(f"SEMSEG_{_key(param).upper()}")


def _split(text: str) -> list[str]:
    """Several values in one variable, separated by commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _as_given(value: Any, param: Any) -> Any:
    """A value of a file as the command line would give it."""
    if getattr(param, "multiple", False):
        return [str(one) for one in (value if isinstance(value, list) else [value])]
    if isinstance(value, list):
        raise UsageError(
            f"{param.opts[0]} has several values in the settings file: this command takes one."
        )
    return value


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Flattens parameters that are settings into options; other parameters stay as they are.

    Values that the settings refuse end the command as a usage error (exit code 2).
    """
    signature = inspect.signature(command)
    groups = {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if isinstance(parameter.annotation, type) and issubclass(parameter.annotation, Settings)
    }

    flags = {entry.field.name: entry.flag for cls in groups.values() for entry in entries(cls)}

    @functools.wraps(command)
    def run(**values: Any) -> None:
        try:
            made = {name: build(cls, values) for name, cls in groups.items()}
        except ValueError as error:
            raise UsageError(_as_option(str(error), flags)) from error
        rest = {name: values[name] for name in signature.parameters if name not in groups}
        with quietly(any(getattr(settings, "quiet", False) for settings in made.values())):
            command(**rest, **made)

    plain = [p for name, p in signature.parameters.items() if name not in groups]
    flat = [_parameter(e) for cls in groups.values() for e in entries(cls)]
    parameters = [*plain, *_sources(groups), *flat, _help_all()]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _as_option(message: str, flags: dict[str, str]) -> str:
    """A settings error with the option's name for the field's."""
    name, _, rest = message.partition(" ")
    flag = flags.get(name) or f"--{name.replace('_', '-')}"
    return f"Invalid value: {flag} {rest}."


def _sources(groups: dict[str, type[Settings]]) -> Iterator[inspect.Parameter]:
    if not any(entry.key == "vit_ckpt" for cls in groups.values() for entry in entries(cls)):
        return
    for name, (metavar, text) in SOURCES.items():
        option = typer.Option(
            f"--{name}",
            help=escape(text),
            metavar=metavar,
            envvar=f"SEMSEG_{name.upper()}",
            rich_help_panel="Settings",
        )
        annotation = Annotated[str | None, option]
        yield inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
        )


def _help_all() -> inspect.Parameter:
    annotation = Annotated[bool, HELP_ALL]
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter("help_all", kind, default=False, annotation=annotation)


def _parameter(entry: Entry) -> inspect.Parameter:
    kind, is_repeated = item_type(entry.field)
    default = default_of(entry.field)
    if is_repeated:
        kind, default = list[kind], list(default)  # type: ignore[valid-type]
    elif default is None:
        kind = kind | None if get_origin(kind) is None else kind
    is_flag = kind is bool and default is False
    option = typer.Option(
        entry.flag if is_flag or bool not in (kind, *get_args(kind)) else _switch(entry),
        help=escape(entry.field.metadata["help"]),
        metavar=_metavar(entry),
        # Typer splits a repeatable variable at spaces; ours may hold "painted wall, sky".
        envvar=None if is_repeated else f"SEMSEG_{entry.key.upper()}",
        rich_help_panel=entry.panel,
        show_envvar=False,
    )
    return inspect.Parameter(
        entry.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default if default is not MISSING else inspect.Parameter.empty,
        annotation=Annotated[kind, option],
    )


def _metavar(entry: Entry) -> str | None:
    """What follows an option: its choices, unless they would leave no room for anything else."""
    kind, _ = item_type(entry.field)
    if get_origin(kind) is not Literal:
        return KINDS.get(kind)
    choices = "|".join(map(str, get_args(kind)))
    return choices if len(f"{entry.flag} {choices}") <= WIDEST else "NAME"


def _switch(entry: Entry) -> str:
    return f"{entry.flag}/--no-{entry.flag.removeprefix('--')}"
