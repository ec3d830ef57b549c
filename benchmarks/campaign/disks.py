"""Disks that are full: from the beginning, or suddenly in the middle of a command."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.campaign.hand import ERR, Ended, Hand, finish
from benchmarks.campaign.trials import (
    LONGEST,
    RUNS,
    Case,
    Trial,
    require_marked,
    require_usable,
)
from benchmarks.campaign.world import World

SMALL = "small"
SIZE = 8 * 2**20
FREE = (0, 4, 12, 40, 100, 400)  # KiB that are left
LIMITS = (2, 8, 20, 60, 200, 800)  # KiB that a file may have, where no disk can be mounted
SECONDS = 12.0  # about what a run takes: it is disturbed within them
ON_IT = ("runs", "store", "runs and store", "cache")
COMMANDS = ("rand-vec", "auto-feat", "lookup", "stats", "upload")


def can_mount() -> bool:
    """Whether this process may make a small disk."""
    return os.geteuid() == 0


@contextmanager
def small_disk(at: Path) -> Iterator[None]:
    """A disk of its own below a folder, in memory."""
    at.mkdir()
    size = f"size={SIZE}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", str(at)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


def fill(disk: Path, n_left: int) -> None:
    """Takes all of a disk's space but for some bytes."""
    with (disk / "fill").open("wb", buffering=0) as file:
        with suppress(OSError):
            while file.write(bytes(1024)):
                pass
        file.truncate(max(0, file.seek(0, os.SEEK_END) - n_left))


def words_of(command: str, where: str, trial: Trial, world: World, base: Path) -> list[str]:
    """A command whose runs, store or cache lie in `base`."""
    place = trial.place
    dump_to = base / RUNS if "runs" in where else place / RUNS
    store = base / "mlflow.db" if "store" in where else place / "mlflow.db"
    common = ["--tracking-uri", f"sqlite:///{store}"]
    if command == "upload":
        return [command, "spare", *common]
    common += ["--dump-to", str(dump_to)]
    common += ["--cache-dir", str(base / "cache")] if where == "cache" else []
    images = ["--lookup-images", "12"] + (["--images", "8"] if command != "stats" else [])
    return world.words(command, *(images if command != "lookup" else images[:2]), *common)


def full(command: str, where: str, trial: Trial, world: World, hand: Hand) -> None:
    """A command on a disk that is, or becomes, full."""
    base = trial.place / SMALL
    with small_disk(base):
        words = words_of(command, where, trial, world, base)
        n_left = 1024 * int(trial.draw.choice(FREE))
        moment = 0.0 if trial.draw.random() < 0.3 else trial.draw.random() * SECONDS
        if moment == 0.0:
            fill(base, n_left)
        started = hand.start(words, trial.place)
        code = started.wait(moment)
        if code is None and moment:
            fill(base, n_left)
        began = time.monotonic()
        code = started.wait(SECONDS + 10 * LONGEST) if code is None else code
        trial.waited = time.monotonic() - began
        if code is None:
            finish(started)
        (base / "fill").unlink(missing_ok=True)
        judge(trial, code, where, hand, base)


def limited(command: str, trial: Trial, world: World, hand: Hand) -> None:
    """A command that may write small files only."""
    words = words_of(command, "", trial, world, trial.place)
    world.give_store(trial.place)
    most = 1024 * int(trial.draw.choice(LIMITS))
    started = hand.start(words, trial.place, most=most)
    began = time.monotonic()
    code = started.wait(10 * LONGEST)
    trial.waited = time.monotonic() - began
    if code is None:
        finish(started)
    judge(trial, code, "store", hand, trial.place)


def judge(trial: Trial, code: int | None, where: str, hand: Hand, base: Path) -> None:
    """The command ended by itself, said why, and all that is left can be stored."""
    done = Ended(code, (trial.place / ERR).read_text("utf-8", "replace"), trial.waited)
    trial.ended = {0: "whole", 1: "refused", None: "not at all"}.get(code, f"with {code}")
    trial.require(code in (0, 1), f"it ends with {code}: {done.err[-300:]}")
    trial.require_told(done, "the command")
    store = (base if "store" in where else trial.place) / "mlflow.db"
    require_marked(trial, None if "store" in where else store, done.err)
    require_usable(trial, hand, store)


def plan(n_trials: int, world: World, _draw: np.random.Generator) -> list[Case]:
    """Commands, and what lies on the disk, in turn; every fifth time a file may not be large."""
    found = []
    for i in range(n_trials):
        command, where = COMMANDS[i % len(COMMANDS)], ON_IT[i // len(COMMANDS) % len(ON_IT)]
        if i % len(COMMANDS) == len(COMMANDS) - 1 or not can_mount():
            command = COMMANDS[i // len(COMMANDS) % len(COMMANDS)]
            found.append(Case("files that cannot grow", command, partial(limited, command)))
        else:
            found.append(Case(f"full disk: {where}", command, partial(full, command, where)))
    return found
