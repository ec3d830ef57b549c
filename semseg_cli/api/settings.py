"""Keyword arguments as the settings of a command: the same names, the same checks."""

import difflib
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from semseg_cli.errors import UsageError
from semseg_cli.settings.base import Settings, default_of
from semseg_cli.settings.entries import Entry, build, entries, item_type
from semseg_cli.settings.toml_files import allowed_types, layered

S = TypeVar("S", bound=Settings)
Layers = tuple[str | None, str | Path | None]  # preset, settings file
NOT_HERE = ("format", "dry_run", "no_track")  # what only a command line needs


def values_of(
    kinds: Sequence[type[Settings]], options: Mapping[str, Any], layers: Layers
) -> dict[str, Any]:
    """The value of each option by its key: those given, over a settings file, over a preset.

    Args:
        kinds: the settings that there are.
        options: by the names of these settings' fields, or of the command's options with `_`.
        layers: a preset and a settings file; without either, and with no input, the demo world.

    Raises:
        UsageError: there is no such option, or its value is of the wrong type.
    """
    known: dict[str, Entry] = {}
    for entry in (one for kind in kinds for one in entries(kind) if one.name not in NOT_HERE):
        known.setdefault(entry.key, entry)
        known.setdefault(entry.name, entry)
    given = {}
    for name, value in options.items():
        if name not in known:
            raise UsageError(f"There is no option {name!r}: {_hint(name, known)}")
        if value is not None:
            given[known[name].key] = _typed(name, value, known[name])
    preset, config = layers
    return {**layered(preset, None if config is None else str(config), given), **given}


def made(kind: type[S], values: Mapping[str, Any], **fixed: Any) -> S:
    """The settings of this kind with what of the values it has.

    Raises:
        UsageError: a value is out of bounds.
    """
    named = {entry.name: values[entry.key] for entry in entries(kind) if entry.key in values}
    try:
        return build(kind, {**{k: _listed(kind, k, v) for k, v in named.items()}, **fixed})
    except ValueError as error:
        raise UsageError(str(error)) from error


def chosen_for(
    kind: type[Settings], values: Mapping[str, Any], kinds: Sequence[type[Settings]]
) -> dict[str, Any]:
    """The values but for choices that are none of this kind's, and are another kind's of these."""
    others = [other for other in kinds if other is not kind]
    return {
        key: value
        for key, value in values.items()
        if _takes(kind, key, value) or not any(_takes(other, key, value) for other in others)
    }


def _takes(kind: type[Settings], key: str, value: Any) -> bool:
    """Whether the settings have this option, and this among its choices where it has some."""
    own = [entry for entry in entries(kind) if entry.key == key]
    type_ = item_type(own[0].field)[0] if own else None
    return bool(own) and (get_origin(type_) is not Literal or value in get_args(type_))


def _listed(kind: type[Settings], name: str, value: Any) -> Any:
    """A single value as the only one, where several may be given."""
    entry = next(one for one in entries(kind) if one.name == name)
    is_repeated = item_type(entry.field)[1]
    return (value,) if is_repeated and not isinstance(value, tuple | list) else value


def _hint(name: str, known: Mapping[str, Entry]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else "give those of the command, --help lists them"


def _typed(name: str, value: Any, entry: Entry) -> Any:
    """The value, where it is of the option's type."""
    kind, is_repeated = item_type(entry.field)
    many = list(value) if is_repeated and isinstance(value, tuple | list) else [value]
    many = [_plain(one) for one in many]
    many = [str(one) if isinstance(one, Path) else one for one in many]
    if kind is float:
        many = [float(one) if type(one) is int else one for one in many]
    allowed = {str} if kind is Path else set(allowed_types(kind, entry))
    for one in many:
        if type(one) not in allowed:
            names = " or ".join(sorted(t.__name__ for t in allowed))
            raise UsageError(f"{name} is {reprlib.repr(value)}: give {names}")
    return many if is_repeated else many[0]


def _plain(value: Any) -> Any:
    """The number that a single one of numpy or torch is."""
    try:
        return value.item() if hasattr(value, "item") else value
    except (ValueError, RuntimeError):  # of several
        return value


def is_set(entry: Entry, settings: Settings) -> bool:
    """Whether an option of these settings has another value than its default."""
    return bool(getattr(settings, entry.field.name) != default_of(entry.field))
