"""Commands that are killed at any moment: nothing is lost, nothing is broken, all of it is marked.

`python -m benchmarks kills` kills 60 commands by four signals at moments drawn by chance, and fills
the disk of 30 others.
"""

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.campaign import disks, trials
from benchmarks.campaign.hand import ERR, Ended, Hand, Started, finish, tell
from benchmarks.campaign.trials import LONGEST, Case, Trial, require_marked, require_usable
from benchmarks.campaign.world import World
from semseg_cli.runs.folder import JOURNAL_FILE

SIGNALS = {
    signal.SIGKILL: (-signal.SIGKILL,),
    signal.SIGTERM: (143, -signal.SIGTERM),
    signal.SIGINT: (130, -signal.SIGINT),
    signal.SIGHUP: (129, -signal.SIGHUP),
}
"""Signal -> how a command ends by it: by our code, or by itself before Python listens."""
RUN = ("--images", "8", "--lookup-images", "12", "--batch-size", "1")
SUITE = (
    "--quick", "--class", "sky", "--images", "4", "--lookup-images", "12", "--peers", "3",
    "--matched-peers", "3", "--draws", "2",
)  # fmt: skip
COLD = 4  # every so manieth command loads by itself
Words = Callable[[World], list[str]]


def run_words(world: World) -> list[str]:
    """A run."""
    return world.words("auto-feat", *RUN, "--no-plots")


def suite_words(world: World) -> list[str]:
    """A suite."""
    return world.words("suite", *SUITE)


@dataclass(frozen=True)
class Target:
    """What is killed: its words, whether a store is there before, what comes first and after."""

    name: str
    words: Words
    has_store: bool = True
    is_resumed: bool = False
    next_words: Words | None = None


TARGETS = (
    Target("run, new store", run_words, has_store=False, next_words=run_words),
    Target("run, existing store", run_words, next_words=run_words),
    Target("run, resumed", run_words, is_resumed=True),
    Target("suite", suite_words, next_words=suite_words),
    Target("upload, new store", lambda _: ["upload", "spare"], has_store=False),
    Target("upload, existing store", lambda _: ["upload", "spare"]),
)


@dataclass(frozen=True)
class Usual:
    """How long a command takes that nothing disturbs, and what a run finds then."""

    seconds: dict[str, float]
    loading: float
    found: bytes


def measured(world: World, targets: Sequence[Target]) -> Usual:
    """Runs every target once."""
    hand = Hand(world.environment)
    seconds, found = {}, b""
    for number, target in enumerate(targets):
        place = world.place(f"usual-{number}")
        if target.has_store:
            world.give_store(place)
        done = hand.run(target.words(world), place)
        if done.code:
            raise RuntimeError(f"{target.name} fails undisturbed: {done.err}")
        seconds[target.name] = done.seconds
        if target.words is run_words:
            (path,) = place.glob(f"{trials.RUNS}/*/class_results.csv")
            found = path.read_bytes()
    began = time.monotonic()
    place = world.place("usual-loading")
    hand.start(["upload", "spare"], place, cold=True).wait(10 * LONGEST)
    loading = max(0.0, time.monotonic() - began - min(seconds.values()))
    return Usual(seconds, loading, found)


def kill(target: Target, number: signal.Signals, usual: Usual, cold: bool, trial: Trial,
         world: World, hand: Hand) -> None:  # fmt: skip
    """One command, killed; then the next one, and all that is left is stored."""
    store = trial.place / "mlflow.db"
    if target.has_store:
        world.give_store(trial.place)
    words = target.words(world)
    if target.is_resumed:
        words = stopped_early(trial, words, hand)
    moment = trial.draw.random() * (usual.seconds[target.name] + cold * usual.loading)
    done = disturbed(trial, hand.start(words, trial.place, cold=cold), moment, number)
    trial.require(
        done.code in (0, *SIGNALS[number]), f"it ends with {done.code}: {done.err[-300:]}"
    )
    trial.require_told(done, "the command")
    if number != signal.SIGKILL:
        require_marked(trial, store, done.err)
    if target.is_resumed:
        resume(trial, hand, usual)
    elif target.next_words is not None:
        after(trial, hand, target.next_words(world), "the next command")
    require_usable(trial, hand, store)


def disturbed(trial: Trial, started: Started, moment: float, number: int) -> Ended:
    """A command that gets a signal after some seconds, unless it has ended."""
    code = started.wait(moment)
    trial.ended, began = "before", time.monotonic()
    if code is None:
        tell(started, number)
        code = started.wait(LONGEST)
        trial.ended = "by the signal" if code else "whole"
        trial.waited = time.monotonic() - began
    if code is None:
        finish(started)
        trial.faults.append(f"it does not end within {LONGEST:g} s of the signal")
    return Ended(code, (trial.place / ERR).read_text("utf-8", "replace"), trial.waited)


def stopped_early(trial: Trial, words: list[str], hand: Hand) -> list[str]:
    """Begins a run and stops it as soon as it has kept some counts; the words to go on with it."""
    started = hand.start(words, trial.place)
    end = time.monotonic() + 10 * LONGEST
    while started.wait(0.02) is None and time.monotonic() < end:
        if any(path.stat().st_size > 1000 for path in journals(trial.place)):
            tell(started, signal.SIGTERM)
            started.wait(LONGEST)
            break
    (folder,) = trial.runs
    is_stopped = folder.meta["status"] == "KILLED"
    return ["auto-feat", "--resume", str(folder.path)] if is_stopped else words


def journals(place: Path) -> list[Path]:
    """What unfinished runs have counted."""
    return list(place.glob(f"{trials.RUNS}/*/{JOURNAL_FILE}"))


def resume(trial: Trial, hand: Hand, usual: Usual) -> None:
    """Goes on with what is not finished; it finds what an undisturbed run finds."""
    for folder in trial.runs:
        if folder.meta["status"] != "FINISHED":
            words = ["auto-feat", "--resume", str(folder.path)]
            after(trial, hand, words, "--resume")
        path = folder.path / "class_results.csv"
        same = path.exists() and path.read_bytes() == usual.found
        trial.require(same, f"{folder.path.name} finds something else than an undisturbed run")


def after(trial: Trial, hand: Hand, words: Sequence[str], what: str) -> None:
    """A command that has to work."""
    done = hand.run(words, trial.place)
    trial.require_told(done, what)
    trial.require(done.code == 0, f"{what} ends with {done.code}: {done.err[-300:]}")


def plan(n_trials: int, world: World, _draw: np.random.Generator) -> list[Case]:
    """Targets and signals in turn."""
    targets = TARGETS[: max(1, n_trials)]
    usual = measured(world, targets) if n_trials else None
    found = []
    for i in range(n_trials):
        target, number = targets[i % len(targets)], list(SIGNALS)[i // len(targets) % len(SIGNALS)]
        assert usual is not None
        cold = i % COLD == COLD - 1
        how = f"{number.name}{', cold' if cold else ''}"
        found.append(Case(target.name, how, partial(kill, target, number, usual, cold)))
    return found


def main(words: Sequence[str]) -> bool:
    """Prints what came of each kind; whether nothing was lost, broken, or not told."""
    plans = {"kills": (60, plan), "disks": (30, disks.plan)}
    return trials.main("python -m benchmarks kills", words, __doc__, plans)
