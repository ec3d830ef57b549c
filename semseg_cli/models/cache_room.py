"""Room for new entries of the residual cache: one planner, and one actor on its plan.

What was not used for longest goes first, then files of the growing entry that nothing needs any
more. A forecast plays the same plans on a picture of the folder, and touches nothing.
"""

import contextlib
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from semseg_cli.errors import SemsegError
from semseg_cli.files import nearest_folder
from semseg_cli.models.cache_folders import EntryFolder, KeptFile, file_of, kept_entries, remove

log = logging.getLogger("semseg_cli")


@dataclass(frozen=True)
class Wanted:
    """An entry that a run reads and fills: the names of its images, and the bytes of one's file."""

    path: Path
    names: frozenset[str]
    image_bytes: int


@dataclass(frozen=True)
class Keeping:
    """What the cache lacks of an entry; `refused` says why a run does not add it."""

    n_missing: int
    n_bytes: int
    refused: str = ""


@dataclass(frozen=True)
class Room:
    """A plan: how many bytes to free, and what may go for it, first things first.

    `refused` says why there is no room, and `advice` what would help; nothing goes then.
    """

    n_bytes: int
    may_go: Sequence[EntryFolder | KeptFile] = ()
    refused: str = ""
    advice: str = ""


@dataclass(frozen=True)
class Kept:
    """The cache at one moment: its entries, the last used first, and the free bytes of its disk."""

    folder: Path
    entries: Sequence[EntryFolder]
    free: int

    @classmethod
    def now(cls, folder: Path) -> "Kept":
        """What is there."""
        free = shutil.disk_usage(nearest_folder(folder)).free
        return cls(folder, kept_entries(folder), free)

    def entry(self, path: Path) -> EntryFolder:
        """The entry at this path, an empty one where there is none."""
        return next((e for e in self.entries if e.path == path), EntryFolder(path, {}, (), 0.0))

    def missing(self, wanted: Wanted) -> frozenset[str]:
        """The images of an entry that have no file."""
        return wanted.names - {file.name for file in self.entry(wanted.path).files}

    def plan(self, wanted: Wanted, n_new: int, max_bytes: int) -> Room:
        """What makes room for so many new files of an entry.

        Entries in use stay. Of the entry itself, only files of other images may go.
        """
        own = self.entry(wanted.path)
        stale = [file for file in own.files if file.name not in wanted.names]
        stale.sort(key=lambda file: file.written)
        others = [entry for entry in reversed(self.entries) if entry.path != wanted.path]
        idle = [entry for entry in others if not entry.is_in_use]
        n_bytes = n_new * wanted.image_bytes
        over_limit = sum(entry.n_bytes for entry in self.entries) + n_bytes - max_bytes
        over_disk = n_bytes - self.free
        may_go: list[EntryFolder | KeptFile] = [*idle, *stale]
        can_free = sum(one.n_bytes for one in may_go)
        if over_limit > can_free:
            held = sum(entry.n_bytes for entry in others if entry.is_in_use)
            return _beyond_limit(n_bytes, max_bytes, held)
        if over_disk > can_free:
            return _beyond_disk(n_bytes, self.free, self.folder)
        return Room(max(over_limit, over_disk, 0), may_go)

    def after(self, room: Room, wanted: Wanted, new: frozenset[str]) -> "Kept":
        """What will be there once this plan is carried out and the new files are written."""
        gone = set(_first_to_go(room))
        now = time.time()
        files = [file for file in self.entry(wanted.path).files if file.path not in gone]
        size = wanted.image_bytes
        files += [KeptFile(file_of(wanted.path, name), size, now) for name in sorted(new)]
        own = replace(self.entry(wanted.path), files=tuple(files), used=now)
        others = [e for e in self.entries if e.path not in gone and e.path != wanted.path]
        grown = sum(e.n_bytes for e in (own, *others)) - sum(e.n_bytes for e in self.entries)
        return Kept(self.folder, [own, *others], self.free - grown)


def _beyond_limit(n_bytes: int, max_bytes: int, held: int) -> Room:
    busy = f", and {_size(held)} are in use" if held else ""
    reason = f"these images need {_size(n_bytes)} more, --cache-limit is {_size(max_bytes)}{busy}"
    return Room(0, refused=reason, advice="make it larger, or give --no-cache")


def _beyond_disk(n_bytes: int, free: int, folder: Path) -> Room:
    reason = f"{folder} has {_size(free)} free, {_size(n_bytes)} are needed"
    advice = "free some space, give another --cache-dir, or --no-cache"
    return Room(0, refused=reason, advice=advice)


def _size(n_bytes: int) -> str:
    if n_bytes < 2**30:
        return f"{n_bytes / 2**20:.3g} MiB"
    return f"{n_bytes / 2**30:.1f} GiB"


def _first_to_go(room: Room) -> Iterator[Path]:
    """The folders and files that go, where each frees what it holds."""
    left = room.n_bytes
    for one in room.may_go:
        if left <= 0:
            return
        yield one.path
        left -= one.n_bytes


def foresee(folder: Path, entries: Sequence[Wanted], max_bytes: int) -> list[Keeping]:
    """What a run adds to each of these entries, in the order of their use; nothing is written."""
    kept, found = Kept.now(folder), []
    for wanted in entries:
        new = kept.missing(wanted)
        room = kept.plan(wanted, len(new), max_bytes) if new else Room(0)
        found.append(Keeping(len(new), len(new) * wanted.image_bytes, room.refused))
        if not room.refused:
            kept = kept.after(room, wanted, new)
    return found


def make_room(folder: Path, wanted: Wanted, n_new: int, max_bytes: int) -> None:
    """Removes what has to go until so many new files of an entry have room.

    Raises:
        SemsegError: there is no room; nothing is removed then.
    """
    room = Kept.now(folder).plan(wanted, n_new, max_bytes)
    if room.refused:
        raise SemsegError(f"{room.refused}: {room.advice}.")
    left = room.n_bytes
    for one in room.may_go:
        if left <= 0:
            return
        left -= _remove(one)


def _remove(one: EntryFolder | KeptFile) -> int:
    """How many bytes that freed."""
    if isinstance(one, EntryFolder):
        log.warning("Removed residuals not used for longest: %s", one.title)
        return remove(one)
    with contextlib.suppress(OSError):
        one.path.unlink(missing_ok=True)
    return one.n_bytes
