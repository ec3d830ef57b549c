"""Files as what they should be: text, JSON, TOML, CSV. Whatever else they are is one sentence.

Pipes and devices are not opened (they may never end), nor is a file read that is too large to be
what is looked for.
"""

import csv
import io
import json
import math
import os
import stat
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from semseg_cli.errors import FileError

MOST_TEXT = 64 * 2**20  # bytes of a file that is read as text
MOST_DIGITS = 18  # of a whole number: what 64 bits hold
DEEPEST = 64  # lists and objects in each other
_POINTER = b"version https://git-lfs.github.com/spec/"
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def unreadable(file: str, reason: object, expected: str) -> FileError:
    """The sentence for a file that is not what it should be."""
    return FileError(f"{file} cannot be read ({reason}): {expected}.")


def open_file(path: Path, file: str, expected: str) -> BinaryIO:
    """A regular file, opened; `file` is what it is called, with its path.

    Raises:
        FileError: it is not there, no regular file, or a Git LFS pointer to what should be there.
    """
    if reason := not_a_file(path):
        raise unreadable(file, reason, expected)
    try:
        opened = path.open("rb")
    except (OSError, ValueError) as error:
        raise unreadable(file, getattr(error, "strerror", None) or error, expected) from error
    if opened.peek(len(_POINTER)).startswith(_POINTER):
        opened.close()
        raise FileError(
            f"{file} is a Git LFS pointer, not the file itself: run `git lfs pull` where it is."
        )
    return opened


def not_a_file(path: Path) -> str:
    """Why a path cannot be opened as a file; nothing where it can."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    found = next((name for is_kind, name in _KINDS if is_kind(mode)), "")
    return f"it is {found}, not a file" if found else ""


def read_bytes(path: Path, file: str, expected: str, most: int | None = None) -> bytes:
    """All bytes of a file, of `most` at most.

    Raises:
        FileError: it cannot be read, or is larger.
    """
    with open_file(path, file, expected) as opened:
        try:
            data = opened.read(-1 if most is None else most + 1)
        except OSError as error:
            raise unreadable(file, error.strerror or error, expected) from error
    if most is not None and len(data) > most:
        raise unreadable(file, f"it is larger than {most / 2**20:.0f} MiB", expected)
    return data


def read_text(path: Path, file: str, expected: str) -> str:
    """The text of a UTF-8 file, without a byte-order mark."""
    return text_of(read_bytes(path, file, expected, MOST_TEXT), file, expected)


def text_of(data: bytes, file: str, expected: str) -> str:
    """Bytes as UTF-8 text, without a byte-order mark."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise unreadable(file, f"not UTF-8: byte {error.start}", expected) from error


def parse_json(text: str | bytes, file: str, expected: str, *, is_strict: bool = True) -> Any:
    """The value of a JSON text.

    With `is_strict` also NaN, infinite numbers and whole numbers beyond 64 bits are refused, which
    files of other programs may have.
    """
    text = text_of(text, file, expected) if isinstance(text, bytes) else text
    hooks: dict[str, Any] = {"parse_constant": _refuse, "parse_float": _finite, "parse_int": _whole}
    try:
        value = json.loads(text, **(hooks if is_strict else {}))
    except (ValueError, RecursionError) as error:
        raise unreadable(file, _reason(error, "no JSON"), expected) from error
    _check_depth(value, file, expected)
    return value


def parse_toml(text: str, file: str, expected: str) -> dict[str, Any]:
    """The values of a TOML text."""
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise unreadable(file, _reason(error, "no TOML"), expected) from error
    _check_depth(values, file, expected)
    return values


def read_json(path: Path, file: str, expected: str, *, is_strict: bool = True) -> Any:
    """The value in a JSON file."""
    text = read_text(path, file, expected)
    return parse_json(text, file, expected, is_strict=is_strict)


def read_toml(path: Path, file: str, expected: str) -> dict[str, Any]:
    """The values in a TOML file."""
    return parse_toml(read_text(path, file, expected), file, expected)


def parse_csv(
    text: str, file: str, expected: str, needed: Collection[str] = ()
) -> list[dict[str, str]]:
    """The rows of a CSV text with a header, every one as long as the header.

    Empty lines are passed over.
    """
    try:
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line]
    except csv.Error as error:
        raise unreadable(file, f"no CSV: {error}", expected) from error
    header = lines[0] if lines else []
    lacking = [name for name in needed if name not in header]
    if lacking:
        found = ", ".join(header[:12])[:200] or "none"
        reason = f"it lacks the column {lacking[0]}, it has {found}"
        raise unreadable(file, reason, expected)
    if len(set(header)) < len(header):
        raise unreadable(file, "two columns have one name", expected)
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(header):
            reason = f"row {number} has {len(line)} cells, the header {len(header)}"
            raise unreadable(file, reason, expected)
    return [dict(zip(header, line, strict=True)) for line in lines[1:]]


def read_csv(
    path: Path, file: str, expected: str, needed: Collection[str] = ()
) -> list[dict[str, str]]:
    """The rows in a CSV file with a header."""
    return parse_csv(read_text(path, file, expected), file, expected, needed)


def _reason(error: Exception, kind: str) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else f"{kind}: {error}"


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it holds {constant}")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]} is beyond all floats")
    return value


def _whole(text: str) -> int:
    if len(text.lstrip("-")) > MOST_DIGITS:
        raise ValueError(f"a whole number has {len(text.lstrip('-'))} digits")
    return int(text)


def _check_depth(value: Any, file: str, expected: str) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return
    raise unreadable(file, "nested too deeply", expected)
