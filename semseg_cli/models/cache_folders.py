"""The folders of the activation cache: what they hold, which was used last, which have to go.

An entry is a folder named by a digest: `entry.json` says what it holds, its time when it was last
used; every image has a file below a folder of its first two digits.
"""

import contextlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semseg_cli.errors import SemsegError, UsageError
from semseg_cli.files import cannot_write, make_folder, nearest_folder, write_atomic

log = logging.getLogger("semseg_cli")
ABOUT = "entry.json"
SUFFIX = ".safetensors"
IN_USE_SECONDS = 3600.0  # longer than a batch with all its edits takes
_NAME = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class EntryFolder:
    """An entry: what it holds, its images and bytes, when it was last used (seconds since 1970)."""

    path: Path
    about: Mapping[str, Any]
    n_images: int
    n_bytes: int
    used: float

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


def activations_folder(cache_dir: Path) -> Path:
    """The folder of all entries."""
    return cache_dir / "activations"


def file_of(entry: Path, name: str) -> Path:
    """The file of an image."""
    return entry / name[:2] / f"{name}{SUFFIX}"


def names_in(entry: Path) -> set[str]:
    """The images that an entry has a file of."""
    return {path.name.removesuffix(SUFFIX) for path in _files(entry)}


@dataclass(frozen=True)
class _KeptFile:
    path: Path
    n_bytes: int
    written: float

    @property
    def name(self) -> str:
        return self.path.name.removesuffix(SUFFIX)


def _kept_files(entry: Path) -> list[_KeptFile]:
    """The files of images with their sizes; those that another process removes are left out."""
    found = []
    for file in _files(entry):
        with contextlib.suppress(OSError):
            seen = file.stat()
            found.append(_KeptFile(Path(file.path), seen.st_size, seen.st_mtime))
    return found


def _files(entry: Path) -> Iterator[os.DirEntry[str]]:
    """All whole files of images; a folder that goes away meanwhile has none."""
    with contextlib.suppress(OSError), os.scandir(entry) as folders:
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


def kept_entries(folder: Path) -> list[EntryFolder]:
    """All entries, the last used first; folders with other names are not ours."""
    if not folder.is_dir():
        return []
    found = (_kept(path) for path in folder.iterdir() if _NAME.fullmatch(path.name))
    return sorted(found, key=lambda kept: (-kept.used, kept.path.name))


def _kept(path: Path) -> EntryFolder:
    """An entry; of one that is about to appear or to go, what can be seen."""
    about, used = {}, 0.0
    with contextlib.suppress(OSError, ValueError):
        used = (path / ABOUT).stat().st_mtime
        about = json.loads((path / ABOUT).read_text("utf-8"))
    files = _kept_files(path)
    return EntryFolder(path, about, len(files), sum(file.n_bytes for file in files), used)


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


def make_room(
    folder: Path, entry: Path, names: Collection[str], n_bytes: int, max_bytes: int
) -> None:
    """Removes what was not used for longest until `entry` may grow by so many bytes.

    Entries in use stay. Of the entry itself, only files of other images than `names` may go.

    Raises:
        SemsegError: there is no room; nothing is removed then.
    """
    every = kept_entries(folder)
    own = next((one for one in every if one.path == entry), None)
    stale = [file for file in _kept_files(entry) if file.name not in names]
    stale.sort(key=lambda file: file.written, reverse=True)
    stale_bytes = sum(file.n_bytes for file in stale)
    idle = [one for one in every if one.path != entry and not one.is_in_use]
    idle_bytes = sum(one.n_bytes for one in idle)
    total = sum(one.n_bytes for one in every)
    over_limit = total + n_bytes - max_bytes
    over_disk = n_bytes - shutil.disk_usage(nearest_folder(folder)).free
    if over_limit > idle_bytes + stale_bytes:
        held = total - idle_bytes - (own.n_bytes if own else 0)
        busy = f", and {_gib(held)} are in use" if held else ""
        raise SemsegError(
            f"these images need {_gib(n_bytes)} more, --cache-limit is {_gib(max_bytes)}{busy}: "
            "make it larger, or give --no-cache."
        )
    if over_disk > idle_bytes + stale_bytes:
        raise SemsegError(
            f"{folder} has {_gib(n_bytes - over_disk)} free, {_gib(n_bytes)} are needed: free some "
            "space, give another --cache-dir, or --no-cache."
        )
    to_free = max(over_limit, over_disk)
    while to_free > 0 and idle:
        oldest = idle.pop()
        log.warning("Removed activations not used for longest: %s", oldest.title)
        to_free -= remove(oldest)
    while to_free > 0 and stale:
        file = stale.pop()
        with contextlib.suppress(OSError):
            file.path.unlink(missing_ok=True)
        to_free -= file.n_bytes


def _gib(n_bytes: int) -> str:
    if n_bytes < 2**30:
        return f"{n_bytes / 2**20:.3g} MiB"
    return f"{n_bytes / 2**30:.1f} GiB"


def remove(entry: EntryFolder) -> int:
    """Removes an entry, and returns how many bytes that freed.

    A process that reads it computes what it no longer finds.
    """
    shutil.rmtree(entry.path, ignore_errors=True)
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
