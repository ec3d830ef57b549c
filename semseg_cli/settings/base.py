"""What all settings share: options with help and bounds, and their checks."""

import math
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin

MOST = 2**53 - 1  # of a whole number: what a float holds exactly


def option(
    default: Any,
    help: str,
    *,
    flag: str | None = None,
    ge: float | None = None,
    le: float | None = None,
    gt: float | None = None,
    path: bool = False,
) -> Any:
    """A dataclass field with its help, its bounds and, where the names differ, its option name.

    `path` marks values that are read from disk when such a path exists (they may also be a number,
    an alias or a hub id): relative ones in a config file are looked up beside that file.
    """
    metadata = {"help": help, "flag": flag, "ge": ge, "le": le, "gt": gt, "path": path}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of all settings. Values out of bounds raise a ValueError that names the field."""

    panel: ClassVar[str] = "Settings"

    def __post_init__(self) -> None:
        for setting in fields(self):
            check_value(setting, getattr(self, setting.name))


def check_value(setting: Field[Any], value: Any) -> None:
    """Refuses a value that its field does not allow, with a ValueError."""
    if value is None or isinstance(value, Settings):
        return
    kinds = (setting.type, *get_args(setting.type))  # a choice may be left open: Literal | None
    choices = [one for kind in kinds if get_origin(kind) is Literal for one in get_args(kind)]
    if choices and value not in choices:
        raise ValueError(f"{setting.name} is {value!r}: choose one of {', '.join(choices)}")
    for one in value if isinstance(value, tuple) else (value,):
        if isinstance(one, int | float) and not isinstance(one, bool):
            _check_number(setting, one)


def _check_number(setting: Field[Any], value: float) -> None:
    if isinstance(value, int) and abs(value) > MOST:
        raise ValueError(f"{setting.name} has too many digits: give a number up to {MOST}")
    if not math.isfinite(value):
        raise ValueError(f"{setting.name} is {value}: give a finite number")
    low, high = setting.metadata.get("ge"), setting.metadata.get("le")
    above = setting.metadata.get("gt")
    if low is not None and high is not None and not low <= value <= high:
        raise ValueError(f"{setting.name} is {value}: give a number from {low:.10g} to {high:.10g}")
    if low is not None and value < low:
        raise ValueError(f"{setting.name} is {value}: give a number of at least {low:.10g}")
    if above is not None and value <= above:
        raise ValueError(f"{setting.name} is {value}: give a number above {above:.10g}")
    if high is not None and value > high:
        raise ValueError(f"{setting.name} is {value}: give a number of at most {high:.10g}")


def to_size(name: str, value: int | str | None) -> tuple[int, int] | None:
    """Height and width, from H or HxW; a ValueError names the field otherwise."""
    if value is None:
        return None
    sides = str(value).lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise ValueError(f"{name} is {value!r}: give H or HxW in pixels, such as 448 or 320x512")
    return int(sides[0]), int(sides[-1])


def check_suffix(name: str, path: Path | None, allowed: tuple[str, ...]) -> None:
    """Refuses a file name that says another format than the allowed ones."""
    if path is not None and path.suffix not in allowed:
        raise ValueError(
            f"{name} is {str(path)!r}: give a name that ends in {' or '.join(allowed)}"
        )


S = TypeVar("S", bound=Settings)


def narrow(settings: Settings, to: type[S], **changes: Any) -> S:
    """The part of `settings` that `to` has fields for, with `changes` applied."""
    names = [f.name for f in fields(to) if f.name not in changes and hasattr(settings, f.name)]
    return to(**{name: getattr(settings, name) for name in names}, **changes)


def default_of(setting: Field[Any]) -> Any:
    """The default of a dataclass field, made afresh where it comes from a factory."""
    if setting.default_factory is not MISSING:
        return setting.default_factory()
    return setting.default
