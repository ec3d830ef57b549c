"""The folders of the activation cache: what they hold, which was used last, which have to go.

An entry is a folder named by a digest: `entry.json` says what it holds, its time when it was last
used; every image has a file below a folder of its first two digits.
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semseg_cli.errors import UsageError
from semseg_cli.files import write_atomic

ABOUT = "entry.json"
SUFFIX = ".safetensors"
_NAME = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Kept:
    """An entry: what it holds, its images and bytes, when it was last used (seconds since 1970)."""

    path: Path
    about: Mapping[str, Any]
    n_images: int
    n_bytes: int
    used: float

    @property
    def id(self) -> str:
        """Enough of the name to tell entries apart."""
        return self.path.name[:8]


def activations_folder(cache_dir: Path) -> Path:
    """The folder of all entries."""
    return cache_dir / "activations"


def file_of(entry: Path, name: str) -> Path:
    """The file of an image."""
    return entry / name[:2] / f"{name}{SUFFIX}"


def names_in(entry: Path) -> set[str]:
    """The images that an entry has a file of."""
    return {path.name.removesuffix(SUFFIX) for path in _files(entry)}


def _files(entry: Path) -> Iterator[os.DirEntry[str]]:
    """All whole files of images; a folder that goes away meanwhile has none."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(entry) as folders:
        for folder in folders:
            if folder.is_dir():
                with os.scandir(folder) as files:
                    yield from (f for f in files if _NAME.fullmatch(f.name.removesuffix(SUFFIX)))


def open_entry(entry: Path, about: Mapping[str, Any]) -> None:
    """Marks an entry as used now, and says what it holds.

    Raises:
        SemsegError: it cannot be written.
    """
    write_atomic(entry / ABOUT, json.dumps(about, indent=1).encode(), "--cache-dir")


def kept_entries(folder: Path) -> list[Kept]:
    """All entries, the last used first; folders with other names are not ours."""
    if not folder.is_dir():
        return []
    found = (_kept(path) for path in folder.iterdir() if _NAME.fullmatch(path.name))
    return sorted(found, key=lambda kept: (-kept.used, kept.path.name))


def _kept(path: Path) -> Kept:
    """An entry; of one that is about to appear or to go, what can be seen."""
    about, used, sizes = {}, 0.0, []
    with contextlib.suppress(OSError, ValueError):
        used = (path / ABOUT).stat().st_mtime
        about = json.loads((path / ABOUT).read_text("utf-8"))
    for file in _files(path):
        with contextlib.suppress(FileNotFoundError):
            sizes.append(file.stat().st_size)
    return Kept(path, about, len(sizes), sum(sizes), used)


def make_room(folder: Path, entry: Path, n_bytes: int, max_bytes: int) -> bool:
    """Removes the entries that were not used for longest until `entry` may grow by so many bytes.

    False, and nothing is removed, where it would be too large by itself.
    """
    every = kept_entries(folder)
    own = sum(kept.n_bytes for kept in every if kept.path == entry)
    others = [kept for kept in every if kept.path != entry]
    if own + n_bytes > max_bytes:
        return False
    total = own + n_bytes + sum(kept.n_bytes for kept in others)
    while total > max_bytes:
        oldest = others.pop()
        remove(oldest)
        total -= oldest.n_bytes
    return True


def remove(kept: Kept) -> None:
    """Removes an entry; a process that reads it computes what it no longer finds."""
    shutil.rmtree(kept.path, ignore_errors=True)


def chosen_entries(folder: Path, ids: Sequence[str]) -> list[Kept]:
    """The entries whose names begin with these ids; all of them without any.

    Raises:
        UsageError: an id fits no entry, or several.
    """
    every = kept_entries(folder)
    chosen = [kept for kept in every if not ids]
    for one in ids:
        fitting = [kept for kept in every if kept.path.name.startswith(one)]
        if len(fitting) != 1:
            raise UsageError(
                f"{len(fitting)} entries of the activation cache begin with {one!r}: see "
                "`semseg-cli cache list`."
            )
        chosen += fitting
    return chosen
