"""Trials: each disturbs a command by chance, and judges what is left of it.

Nothing may be lost: what was finished is in its folder and can be stored. Nothing may be broken:
the next command works, and marks what a SIGKILL left. Nobody reads a traceback, or waits for ever.
"""

import argparse
import json
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.campaign.hand import Ended, Hand
from benchmarks.campaign.world import World, make_world
from semseg_cli.errors import SemsegError
from semseg_cli.runs.folder import RunFolder
from semseg_cli.tracking.tracked_run import FINAL

LONGEST = 60.0  # seconds that a command may wait for something else
RUNS = "semseg-runs"


@dataclass
class Trial:
    """One trial: where it works, what it draws by, and what it found."""

    number: int
    name: str
    how: str
    place: Path
    draw: np.random.Generator
    ended: str = ""
    waited: float = 0.0
    faults: list[str] = field(default_factory=list)

    def require(self, holds: bool, sentence: str) -> None:
        """Notes a fault unless it holds."""
        if not holds:
            self.faults.append(sentence)

    def require_told(self, done: Ended, what: str) -> None:
        """Notes what nobody should read: a traceback, or a failure that has no sentence."""
        self.require("Traceback" not in done.err, f"{what} prints a traceback")
        last = (done.err.strip().splitlines() or [""])[-1]
        if done.code in (1, 2):
            said = last.startswith(("semseg-cli: ", "╰"))  # ours, or the frame of a wrong option
            self.require(said, f"{what} fails without a sentence: {last[-200:]!r}")

    @property
    def runs(self) -> list[RunFolder]:
        """The runs that were begun here."""
        return [RunFolder(path.parent) for path in sorted(self.place.rglob(f"{RUNS}/*/run.json"))]

    @property
    def folders(self) -> list[RunFolder]:
        """These, and the spare one."""
        return [RunFolder(self.place / "spare"), *self.runs]


@dataclass(frozen=True)
class Case:
    """A kind of trial: what it disturbs, how, and the work itself."""

    name: str
    how: str
    work: Callable[[Trial, World, Hand], None]


def rows_of(store: Path) -> dict[str, str]:
    """Id -> status of the runs in a SQLite store; a store that is not whole raises."""
    if not store.exists():
        return {}
    with closing(sqlite3.connect(store, timeout=LONGEST)) as opened:
        if opened.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("it is damaged")
        return dict(opened.execute("SELECT run_uuid, status FROM runs").fetchall())


def require_marked(trial: Trial, store: Path | None, err: str = "") -> None:
    """Every run says in its folder, and in its store, how it ended; or `err`, what a command has
    printed, says how to store it."""
    stored = rows_of(store) if store is not None else {}
    for folder in trial.folders:
        meta, name = folder.meta, folder.path.name
        trial.require(meta["status"] in FINAL, f"{name} is {meta['status']} in run.json")
        said = stored.get(meta["mlflow_run_id"] or "", meta["status"])
        is_told = meta["status"] == "FINISHED" and f"semseg-cli upload {folder.path}" in err
        told = f"{said} in the store, {meta['status']} in run.json"
        trial.require(said == meta["status"] or is_told, f"{name} is {told}")
    known = {folder.meta["mlflow_run_id"] for folder in trial.folders}
    orphans = [one for one, status in stored.items() if status == "RUNNING" and one not in known]
    trial.require(not orphans, f"{orphans} run for ever in the store")


def require_usable(trial: Trial, hand: Hand, store: Path) -> None:
    """The next command stores everything, and what SIGKILL left is marked then."""
    before = {one.path: results_of(one) for one in trial.folders}
    folders = trial.folders
    address = f"sqlite:///{store}"
    words = ["upload", "--tracking-uri", address, *(str(one.path) for one in folders)]
    done = hand.run(words, trial.place)
    trial.require_told(done, "upload")
    trial.require(done.code == 0, f"upload ends with {done.code}: {done.err[-300:]}")
    if done.code == 0:
        stored = rows_of(store)
        for folder in folders:
            meta = folder.meta
            trial.require(meta["uploaded"], f"{folder.path.name} is not uploaded")
            is_same = stored.get(meta["mlflow_run_id"]) == meta["status"]
            trial.require(is_same, f"{folder.path.name} is otherwise in the store")
        require_marked(trial, store)
    after = {one.path: results_of(one) for one in trial.folders}
    trial.require(before == after, "upload changes results")


def results_of(folder: RunFolder) -> dict[str, bytes]:
    """The result files of a run that is finished."""
    if folder.meta["status"] != "FINISHED":
        return {}
    names = ("report.json", "class_results.csv", "per_image.parquet", "lookup.csv")
    return {name: (folder.path / name).read_bytes() for name in names
            if (folder.path / name).exists()}  # fmt: skip


def attempt(case: Case, number: int, seed: int, world: World, hand: Hand) -> Trial:
    """One trial of a kind, by its own chance."""
    place = world.place(f"{number:03d}")
    trial = Trial(number, case.name, case.how, place, np.random.default_rng([seed, number]))
    try:
        case.work(trial, world, hand)
    except (SemsegError, OSError, sqlite3.Error, json.JSONDecodeError, KeyError) as error:
        trial.faults.append(f"what is left cannot be read: {type(error).__name__}: {error}")
    return trial


def campaign(cases: Sequence[Case], world: World, seed: int, n_jobs: int) -> list[Trial]:
    """All trials, several at a time; places of those without a fault are removed."""
    hand = Hand(world.environment)

    def one(number: int) -> Trial:
        trial = attempt(cases[number], number, seed, world, hand)
        report(trial)
        return trial

    with ThreadPoolExecutor(n_jobs) as pool:
        return list(pool.map(one, range(len(cases))))


def report(trial: Trial) -> None:
    """Says a trial that found a fault; else removes its place."""
    head = f"{trial.number:3d} {trial.name}, {trial.how}: {trial.ended}, {trial.waited:.1f} s"
    print(head, *(f"    FAULT: {one}" for one in trial.faults), sep="\n", file=sys.stderr)
    if not trial.faults:
        shutil.rmtree(trial.place, ignore_errors=True)


def print_table(trials: Sequence[Trial]) -> None:
    """One row per kind of trial: how many, how they ended, the longest wait, faults."""
    print(f"{'what':28}{'trials':>7}{'longest':>9}{'faults':>8}  how they ended")
    for name in dict.fromkeys(trial.name for trial in trials):
        own = [trial for trial in trials if trial.name == name]
        ends = Counter(trial.ended for trial in own).most_common()
        n_faults = sum(bool(trial.faults) for trial in own)
        longest = f"{max(trial.waited for trial in own):.1f} s"
        said = ", ".join(f"{n} {end}" for end, n in ends)
        print(f"{name:28}{len(own):7d}{longest:>9}{n_faults:8d}  {said}")


Plan = Callable[[int, World, np.random.Generator], Sequence[Case]]


def main(
    title: str, words: Sequence[str], about: str | None, plans: Mapping[str, tuple[int, Plan]]
) -> bool:
    """Runs the campaigns of a program; whether no trial found a fault."""
    parser = argparse.ArgumentParser(title, description=about)
    for name, (n_most, _) in plans.items():
        parser.add_argument(f"--{name}", type=int, default=n_most, help="how many trials")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="trials at a time")
    parser.add_argument("--keep", type=Path, help="work in this new folder, keep what has faults")
    given = parser.parse_args(words)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        world = make_world(folder.absolute())
        draw = np.random.default_rng(given.seed)
        cases = [case for name, (_, plan) in plans.items()
                 for case in plan(getattr(given, name), world, draw)]  # fmt: skip
        trials = campaign(cases, world, given.seed, given.jobs)
    print_table(trials)
    n_faults = sum(bool(trial.faults) for trial in trials)
    print(f"{len(trials)} trials, {n_faults} with a fault, {time.monotonic() - began:.0f} s")
    return not n_faults
