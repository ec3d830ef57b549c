"""A dataset described by a small TOML file: what it may say, and what is wrong with it."""

import difflib
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from semseg_cli.errors import SemsegError
from semseg_cli.readers import read_toml

FILE_NAME = "dataset.toml"
ZERO = ("unlabelled", "class")


@dataclass(frozen=True, kw_only=True)
class Description:
    """The keys of the file; globs and the names file are relative to it."""

    images: str
    masks: str
    image_suffix: str = ""
    mask_suffix: str = ""
    classes: str | list[str] | None = None
    zero: str = ZERO[0]
    ignore: int | list[int] = field(default_factory=list)
    offset: int = 0
    name: str = ""
    splits: dict[str, str] = field(default_factory=dict)

    @property
    def void(self) -> list[int]:
        """The numbers to ignore, also where the file gives one."""
        return self.ignore if isinstance(self.ignore, list) else [self.ignore]

    @property
    def ignored(self) -> tuple[int, ...]:
        """All numbers that are no class."""
        return tuple(sorted({*self.void, *([0] if self.zero == ZERO[0] else [])}))


def find_file(root: Path) -> Path:
    """The TOML file that a root is, or holds."""
    return root / FILE_NAME if root.is_dir() else root


def read_description(path: Path) -> Description:
    """What the file says.

    Raises:
        SemsegError: it cannot be read, or has an unknown key or a value that does not fit.
    """
    values = read_toml(path, f"The dataset file {path}", "see docs/datasets.md")
    known = {f.name: f for f in fields(Description)}
    for key, value in values.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1) or sorted(known)
            raise SemsegError(
                f"The dataset file {path} has the unknown key {key!r}: "
                f"did you mean {' or '.join(close)}?"
            )
        _check_value(key, value, path)
    for name, f in known.items():
        if f.default is MISSING and f.default_factory is MISSING and name not in values:
            raise SemsegError(f"The dataset file {path} has no {name!r}: give a glob of the files.")
    return Description(**values)


def _check_value(key: str, value: Any, path: Path) -> None:
    expected = _wrong(key, value)
    if expected:
        raise SemsegError(f"The dataset file {path} has {key} = {value!r}: expected {expected}.")


def _wrong(key: str, value: Any) -> str | None:
    """What was expected instead of a value; None where it fits."""
    if key in ("images", "masks"):
        is_good = isinstance(value, str) and value and not Path(value).is_absolute()
        return None if is_good else "a glob relative to the file"
    if key == "classes":
        is_good = isinstance(value, str) or _is_list(value, str)
        return None if is_good else "a list of names or the name of a file"
    if key == "zero":
        return None if value in ZERO else " or ".join(map(repr, ZERO))
    if key == "ignore":
        numbers = value if isinstance(value, list) else [value]
        is_good = _is_list(numbers, int) and all(0 <= n < 2**16 for n in numbers)
        return None if is_good else "a number from 0 to 65535, or a list of them"
    if key == "offset":
        return None if type(value) is int else "a whole number"
    if key == "splits":
        is_good = isinstance(value, dict) and _is_list(list(value.values()), str)
        return None if is_good else "a table of names"
    return None if isinstance(value, str) else "a string"


def _is_list(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(type(one) is kind for one in value)
