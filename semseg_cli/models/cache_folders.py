"""The folders of the residual cache: what they hold, which was used last.

An entry is a folder named by a digest: `entry.json` says which entry it is and what it holds, its
time when it was last used; every image has a file below a folder of its first two digits.
"""

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semseg_cli.errors import FileError, UsageError
from semseg_cli.files import cannot_write, make_folder, write_atomic
from semseg_cli.readers import read_json

ABOUT = "entry.json"
ENTRY = "entry"  # its key for the entry's own name: other programs' folders do not have it
SUFFIX = ".safetensors"
IN_USE_SECONDS = 3600.0  # longer than a batch with all its edits takes
_NAME = re.compile(r"[0-9a-f]{32}")
_FILE = re.compile(_NAME.pattern + re.escape(SUFFIX))


@dataclass(frozen=True)
class KeptFile:
    """The file of an image, and when it was written (seconds since 1970)."""

    path: Path
    n_bytes: int
    written: float

    @property
    def name(self) -> str:
        """The image's name."""
        return self.path.name.removesuffix(SUFFIX)


@dataclass(frozen=True)
class EntryFolder:
    """An entry: what it holds, its images' files, when it was last used (seconds since 1970)."""

    path: Path
    about: Mapping[str, Any]
    files: Sequence[KeptFile]
    used: float

    @property
    def n_images(self) -> int:
        """How many images have a file."""
        return len(self.files)

    @property
    def n_bytes(self) -> int:
        """The size of all files."""
        return sum(file.n_bytes for file in self.files)

    @property
    def is_in_use(self) -> bool:
        """Whether some process used it a short while ago: it may be reading or filling it."""
        return time.time() - self.used < IN_USE_SECONDS

    @property
    def title(self) -> str:
        """What it holds, in words."""
        where = f"{self.about.get('dataset', '?')} {self.about.get('split', '')}".rstrip()
        return f"{where} in {self.about.get('model', '?')}, {self.n_images} images ({self.id})"

    @property
    def id(self) -> str:
        """Enough of the name to tell entries apart."""
        return self.path.name[:8]


def residuals_folder(cache_dir: Path) -> Path:
    """The folder of all entries; its name is that which caches on users' disks have."""
    return cache_dir / "activations"


def file_of(entry: Path, name: str) -> Path:
    """The file of an image."""
    return entry / name[:2] / f"{name}{SUFFIX}"


def names_in(entry: Path) -> set[str]:
    """The images that an entry has a file of."""
    return {path.name.removesuffix(SUFFIX) for path in _files(entry)}


def _kept_files(entry: Path) -> list[KeptFile]:
    """The files of images with their sizes; those that another process removes are left out."""
    found = []
    for file in _files(entry):
        with contextlib.suppress(OSError):
            seen = file.stat()
            found.append(KeptFile(Path(file.path), seen.st_size, seen.st_mtime))
    return found


def _files(entry: Path) -> Iterator[os.DirEntry[str]]:
    """All whole files of images; a folder that goes away meanwhile has none."""
    with contextlib.suppress(OSError), os.scandir(entry) as folders:
        for folder in folders:
            if folder.is_dir():
                with os.scandir(folder) as files:
                    yield from (f for f in files if _FILE.fullmatch(f.name))


def open_entry(entry: Path, about: Mapping[str, Any]) -> None:
    """Marks an entry as used now, and says what it holds.

    Raises:
        SemsegError: it cannot be written.
    """
    said = {ENTRY: entry.name, **about}
    write_atomic(entry / ABOUT, json.dumps(said, indent=1).encode(), "--cache-dir")


def kept_entries(folder: Path) -> list[EntryFolder]:
    """All entries, the last used first; what does not say that it is one is not ours."""
    if not folder.is_dir():
        return []
    paths = (path for path in folder.iterdir() if _NAME.fullmatch(path.name))
    found = (_kept(path) for path in paths if path.is_dir() and not path.is_symlink())
    ours = [kept for kept in found if kept.about.get(ENTRY) == kept.path.name]
    return sorted(ours, key=lambda kept: (-kept.used, kept.path.name))


def _kept(path: Path) -> EntryFolder:
    """An entry; of one that is about to appear or to go, what can be seen."""
    about, used = {}, 0.0
    with contextlib.suppress(OSError, FileError):
        used = min((path / ABOUT).stat().st_mtime, time.time())
        about = _plain(read_json(path / ABOUT, str(path / ABOUT), ""))
    return EntryFolder(path, about, _kept_files(path), used)


def _plain(about: Any) -> dict[str, Any]:
    """What an entry says of itself, as far as it can be shown."""
    pairs = about.items() if isinstance(about, dict) else ()
    return {
        name: value for name, value in pairs if isinstance(value, int if name == "layer" else str)
    }


def use(entry: Path, about: Mapping[str, Any]) -> None:
    """Marks an entry as in use still; one that was cleared meanwhile is begun again.

    Raises:
        SemsegError: it cannot be written.
    """
    try:
        os.utime(entry / ABOUT)
    except FileNotFoundError:
        make_folder(entry, "--cache-dir")
        open_entry(entry, about)
    except OSError as error:
        raise cannot_write(entry / ABOUT, error, "--cache-dir") from error


def remove(entry: EntryFolder) -> int:
    """Removes an entry's own files, and the folders that are empty then; returns the bytes freed.

    A process that reads it computes what it no longer finds.
    """
    own = (file.path for file in _kept_files(entry.path))
    patterns = (f".{ABOUT}.*.part", f"*/.*{SUFFIX}.*.part")  # what `write_atomic` leaves if killed
    half = (path for pattern in patterns for path in entry.path.glob(pattern))
    for path in (*own, *half, entry.path / ABOUT):  # it is an entry until nothing of it is left
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        for folder in (*entry.path.iterdir(), entry.path):
            with contextlib.suppress(OSError):
                folder.rmdir()
    return entry.n_bytes - sum(file.n_bytes for file in _kept_files(entry.path))


def chosen_entries(folder: Path, ids: Sequence[str]) -> list[EntryFolder]:
    """The entries whose names begin with these ids; all of them without any.

    Raises:
        UsageError: an id fits no entry, or several.
    """
    every = kept_entries(folder)
    chosen = {kept.path: kept for kept in every if not ids}
    for one in ids:
        fitting = [kept for kept in every if kept.path.name.startswith(one)]
        if not one or len(fitting) != 1:
            found = f"{len(fitting)} entries begin" if fitting and one else "No entry begins"
            raise UsageError(
                f"{found} with {one!r}, nothing was removed: see `semseg-cli cache list`."
            )
        chosen[fitting[0].path] = fitting[0]
    return list(chosen.values())
