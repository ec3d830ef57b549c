"""Room in the residual cache: what is foreseen is what is done, in any state of the folder."""

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semseg_cli.errors import SemsegError
from semseg_cli.models import cache_room
from semseg_cli.models.cache_folders import (
    IN_USE_SECONDS,
    file_of,
    kept_entries,
    names_in,
    open_entry,
    remove,
)
from semseg_cli.models.cache_room import Keeping, Wanted, foresee, make_room

SIZE = 10
LONG_AGO = 10 * IN_USE_SECONDS


def named(number: int) -> str:
    """A name as entries and images have."""
    return f"{number:032x}"


class Entry(NamedTuple):
    """What is in an entry's folder before a run, and which images the run wants of it."""

    kept: frozenset[int]
    wanted: frozenset[int]
    is_read: bool
    is_in_use: bool


ids = st.frozensets(st.integers(0, 5), max_size=4)
entries_drawn = st.lists(st.builds(Entry, ids, ids, st.booleans(), st.booleans()), max_size=4)


def fill(folder: Path, entries: Sequence[Entry]) -> list[Wanted]:
    """Writes the entries, the first used last; returns what the run reads, in its order."""
    now, found = time.time(), []
    for place, entry in enumerate(entries):
        path = folder / named(place)
        for image in sorted(entry.kept):
            write(path, named(image))
            os.utime(file_of(path, named(image)), (now, now - image))
        if entry.kept:
            open_entry(path, {})
            age = place if entry.is_in_use else LONG_AGO + place
            os.utime(path / "entry.json", (now, now - age))
        if entry.is_read:
            found.append(Wanted(path, frozenset(map(named, entry.wanted)), SIZE))
    return found


def write(entry: Path, image: str) -> None:
    file = file_of(entry, image)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(bytes(SIZE))


def n_bytes_in(folder: Path) -> int:
    return sum(entry.n_bytes for entry in kept_entries(folder))


def do(folder: Path, entries: Sequence[Wanted], max_bytes: int) -> Iterator[Keeping]:
    """What a run does: room for an entry, then its files."""
    for wanted in entries:
        new = wanted.names - names_in(wanted.path)
        refused = ""
        try:
            if new:
                make_room(folder, wanted, len(new), max_bytes)
            wanted.path.mkdir(exist_ok=True)
            open_entry(wanted.path, {})
            for image in new:
                write(wanted.path, image)
        except SemsegError as error:
            refused = str(error)
        yield Keeping(len(new), len(new) * SIZE, refused)


@given(entries_drawn, st.integers(0, 120), st.integers(0, 160))
def test_what_is_foreseen_is_what_is_done(
    entries: list[Entry], max_bytes: int, disk_bytes: int
) -> None:
    class Usage(NamedTuple):
        free: int

    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        wanted = fill(folder, entries)
        disk_bytes = max(disk_bytes, n_bytes_in(folder))
        patch.setattr(
            cache_room.shutil, "disk_usage", lambda _: Usage(disk_bytes - n_bytes_in(folder))
        )
        before = n_bytes_in(folder)
        said = foresee(folder, wanted, max_bytes)
        assert n_bytes_in(folder) == before  # nothing is touched
        for foreseen, done in zip(said, do(folder, wanted, max_bytes), strict=True):
            assert (foreseen.n_missing, foreseen.n_bytes) == (done.n_missing, done.n_bytes)
            assert done.refused.startswith(foreseen.refused)
            assert bool(foreseen.refused) == bool(done.refused)
            assert n_bytes_in(folder) <= disk_bytes
        if not any(one.refused for one in said) and any(one.n_missing for one in said):
            assert n_bytes_in(folder) <= max(max_bytes, before)


def test_stale_files_of_an_entry_make_room_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = Entry(frozenset({0, 1, 2}), frozenset({2, 3}), is_read=True, is_in_use=False)
    wanted = fill(tmp_path, [entry])

    class Full(NamedTuple):
        free: int = 0

    monkeypatch.setattr(cache_room.shutil, "disk_usage", lambda _: Full())
    assert foresee(tmp_path, wanted, 1000) == [Keeping(1, SIZE)]
    make_room(tmp_path, wanted[0], 1, 1000)
    assert names_in(wanted[0].path) == {named(0), named(2)}  # 1 was written before 0


def test_room_for_one_entry_is_made_of_the_other_that_the_run_reads_later(tmp_path: Path) -> None:
    first = Entry(frozenset(), frozenset({0, 1}), is_read=True, is_in_use=False)
    second = Entry(frozenset({0, 1}), frozenset({0, 1}), is_read=True, is_in_use=False)
    said = foresee(tmp_path, fill(tmp_path, [first, second]), 3 * SIZE)
    assert [one.n_missing for one in said] == [2, 2]
    assert said[1].refused.endswith("are in use")


def test_what_is_not_ours_is_neither_listed_nor_removed(tmp_path: Path) -> None:
    fill(tmp_path, [Entry(frozenset({0}), frozenset(), is_read=False, is_in_use=False)])
    (ours,) = kept_entries(tmp_path)
    foreign = tmp_path / named(90)
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    alike = tmp_path / named(93)
    write(alike, named(1))
    (alike / "entry.json").write_text(json.dumps({"model": "m", "dataset": "d", "split": "s"}))
    renamed = tmp_path / named(94)
    shutil.copytree(ours.path, renamed)
    (ours.path / named(0)[:2] / named(1)).write_text("no file of an image")
    (tmp_path / named(91)).symlink_to(foreign)
    (tmp_path / named(92)).write_text("a file")
    (ours.path / "notes.txt").write_text("mine")
    odd = {"entry": ours.path.name, "model": 5, "layer": "x", "dataset": "d"}
    (ours.path / "entry.json").write_text(json.dumps(odd))
    os.utime(ours.path / "entry.json", (2**39, 2**39))
    (found,) = kept_entries(tmp_path)
    assert found.about == {"entry": ours.path.name, "dataset": "d"}
    assert found.used <= time.time()
    remove(found)
    assert kept_entries(tmp_path) == []
    assert (foreign / "thesis.txt").read_text() == "mine"
    assert file_of(alike, named(1)).exists()
    assert file_of(renamed, named(0)).exists()
    left = sorted(path.name for path in ours.path.rglob("*") if path.is_file())
    assert left == sorted([named(1), "notes.txt"])
