"""Settings as flat names: one entry per option, whatever dataclass it is declared in."""

import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from semseg_cli.files import expanded
from semseg_cli.settings.base import Settings

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Entry:
    """One option: its key in files and environment, its Python name, its field, its panel."""

    key: str
    name: str
    field: Field[Any]
    panel: str

    @property
    def flag(self) -> str:
        """The option on the command line."""
        return f"--{self.key.replace('_', '-')}"


def entries(cls: type[Settings], prefix: str = "") -> Iterator[Entry]:
    """All options of a settings class; nested settings come with their field's name in front."""
    for f in fields(cls):
        if isinstance(f.type, type) and issubclass(f.type, Settings):
            yield from entries(f.type, f"{f.name}_")
        else:
            key = prefix + (f.metadata.get("flag") or f.name)
            yield Entry(key, prefix + f.name, f, _owner(cls, f.name).panel)


def _owner(cls: type[Settings], name: str) -> type[Settings]:
    return next(c for c in cls.__mro__ if name in vars(c).get("__annotations__", {}))


def build(cls: type[S], values: Mapping[str, Any], prefix: str = "") -> S:
    """The settings with these values, by Python name."""
    made: dict[str, Any] = {}
    for f in fields(cls):
        if isinstance(f.type, type) and issubclass(f.type, Settings):
            made[f.name] = build(f.type, values, f"{f.name}_")
        elif prefix + f.name in values:
            made[f.name] = _coerced(values[prefix + f.name], f)
    return cls(**made)


def _coerced(value: Any, f: Field[Any]) -> Any:
    """Lists and strings, as files hold them, in the field's own type."""
    if isinstance(value, list):
        return tuple(value)
    if item_type(f)[0] is Path and isinstance(value, str | Path):
        return expanded(value)
    return value


def flatten(settings: Settings) -> dict[str, Any]:
    """Key -> value as a TOML file can hold it; entries without a value are left out."""
    found: dict[str, Any] = {}
    for f in fields(settings):
        value = getattr(settings, f.name)
        if isinstance(value, Settings):
            found |= {f"{f.name}_{key}": inner for key, inner in flatten(value).items()}
        elif value is not None:
            found[f.metadata.get("flag") or f.name] = _plain(value, f)
    return found


def _plain(value: Any, f: Field[Any]) -> Any:
    if isinstance(value, tuple):
        return [_plain(one, f) for one in value]
    if f.metadata.get("path") and expanded(str(value)).exists():
        return str(expanded(str(value)).absolute())
    return str(value) if isinstance(value, Path) else value


def item_type(f: Field[Any]) -> tuple[Any, bool]:
    """The type of one value of a field, and whether the option can be repeated.

    Unions with None lose it; unions with str are given as str.
    """
    kind: Any = _of_union(f.type)
    if get_origin(kind) is tuple:
        return _of_union(get_args(kind)[0]), True
    return kind, False


def _of_union(kind: Any) -> Any:
    if get_origin(kind) not in (types.UnionType, typing.Union):
        return kind
    members = [member for member in get_args(kind) if member is not type(None)]
    return str if str in members else members[0]
