"""What every layout answers: is a folder in it, what are its splits, files and labels."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from semseg_cli.data.label_map import LabelMap
from semseg_cli.data.parquet_files import StoredFile
from semseg_cli.errors import SemsegError
from semseg_cli.readers import read_text

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Entry:
    """An image and its mask; None for the one that is missing."""

    name: str
    image: StoredFile | None
    mask: StoredFile | None


@dataclass(frozen=True)
class Found:
    """A split: its entries in their order, what its masks mean, and how files become pairs."""

    entries: tuple[Entry, ...]
    labels: LabelMap
    rule: str


@dataclass(frozen=True)
class Layout:
    """One way to lay out a dataset.

    Attributes:
        name: as `--data-format` takes it.
        needs: what a root must hold, in words.
        is_at: whether a path is a root in this layout, by its content.
        splits: the settings' split names -> the layout's own; others stand for themselves.
        check_split: refuses a split (by its own name) that is not there.
        read: the files and labels of a split (by its own name); with a number of classes, ids
            become the names where the dataset has none.
        title: what the dataset is called; by default as its folder.
    """

    name: str
    needs: str
    is_at: Callable[[Path], bool]
    splits: Callable[[Path], Mapping[str, str]]
    check_split: Callable[[Path, str], None]
    read: Callable[[Path, str, int | None], Found]
    title: Callable[[Path], str] = lambda root: root.absolute().name


def has_folders(*parts: str) -> Callable[[Path], bool]:
    """Whether a root has all of these folders."""
    return lambda root: all((root / part).is_dir() for part in parts)


def require_split(folder: Path, split: str, found: Iterable[str]) -> None:
    """Refuses a split that is not among those found in a folder."""
    names = sorted(found)
    if split not in names:
        raise SemsegError(
            f"{folder} has no split {split!r}, only {', '.join(names) or 'nothing'}: "
            "check --imgs-split and --lookup-split."
        )


def split_folders(*parts: str) -> Callable[[Path, str], None]:
    """Refuses a split that lacks its folder in one of these parts of a root."""

    def check(root: Path, split: str) -> None:
        for part in parts:
            folders = [d.name for d in (root / part).iterdir() if d.is_dir() and d.name[0] != "."]
            require_split(root / part, split, folders)

    return check


def pictures_in(folder: Path, pattern: str = "*") -> list[Path]:
    """The picture files below a folder that match, sorted; hidden ones are none."""
    return sorted(
        path
        for path in folder.glob(pattern)
        if path.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(path, folder)
    )


def is_hidden(path: Path, folder: Path) -> bool:
    """Whether a path is hidden below a folder, itself or by a folder on the way."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def by_stem(paths: Iterable[Path], ending: str = "") -> dict[str, Path]:
    """Stem -> path, for the files whose stem ends so, without that ending."""
    named = ((path.stem, path) for path in paths if path.stem.endswith(ending))
    return by_name((stem.removesuffix(ending), path) for stem, path in named)


def by_name(named: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """Name -> path; refuses two files of one name."""
    found: dict[str, Path] = {}
    for name, path in named:
        if not _is_text(name):
            raise SemsegError(f"The name of {path} is not UTF-8: rename the file.")
        if name in found:
            raise SemsegError(f"{found[name]} and {path} share a name: keep one of them.")
        found[name] = path
    return found


def _is_text(name: str) -> bool:
    """Whether a name can be written down; bytes that are no UTF-8 come as lone surrogates."""
    return not any("\ud800" <= sign <= "\udfff" for sign in name)


def pair(images: Mapping[str, Path], masks: Mapping[str, Path]) -> tuple[Entry, ...]:
    """One entry per name that either has, in the order of the names."""
    names = sorted(images.keys() | masks.keys())
    return tuple(Entry(name, images.get(name), masks.get(name)) for name in names)


def id_names(n_classes: int) -> tuple[str, ...]:
    """Names for classes that have none."""
    return tuple(str(i + 1) for i in range(n_classes))


def read_lines(path: Path, hint: str) -> list[str]:
    """The lines of a text file that are not empty, stripped."""
    text = read_text(path, str(path), hint)
    return [line.strip() for line in text.splitlines() if line.strip()]


def is_there(path: Path) -> bool:
    """Whether something has this name, a link to nothing too: what it is shows when it is read."""
    return os.path.lexists(path)


def check_names(names: Sequence[str], path: Path) -> tuple[str, ...]:
    """Class names, at least one and each once, so that a name finds its class."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or twice or "" in names:
        wrong = f"names {twice[0]!r} twice" if twice else "has no class names or an empty one"
        raise SemsegError(f"{path} {wrong}: expected each class once.")
    return tuple(names)
