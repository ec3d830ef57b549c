"""Campaigns of faults: small slices of them hold, and what they judge by can fail."""

import signal
import sqlite3
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

import mlflow_store as stores
import numpy as np
import pytest
from run_folders import make_folder
from terminal import options
from worlds import World as Tiny

from benchmarks import kills, servers
from benchmarks.campaign import disks, trials
from benchmarks.campaign.hand import Ended, Hand
from benchmarks.campaign.trials import RUNS, Case, Trial
from benchmarks.campaign.world import World, furnish
from semseg_cli import tracking


@dataclass(frozen=True)
class Made:
    """A world, and who runs commands in it."""

    world: World
    hand: Hand


@pytest.fixture(scope="module")
def made(tiny_world: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("campaign")
    world = World(folder, tuple(options(tiny_world)))
    world.store.write_bytes(stores.empty_store())
    hand = Hand(world.environment)
    furnish(world, hand)
    return Made(world, hand)


def attempt(case: Case, number: int, made: Made) -> Trial:
    trial = trials.attempt(case, number, 0, made.world, made.hand)
    assert trial.faults == []
    return trial


RUN = kills.Target("run", lambda world: world.words("rand-vec", "--no-plots"))
UPLOAD = kills.Target("upload", lambda _: ["upload", "spare"])


@pytest.mark.parametrize(
    ("number", "target", "how"),
    [(0, RUN, signal.SIGTERM), (1, RUN, signal.SIGKILL), (2, UPLOAD, signal.SIGINT)],
    ids=["run, SIGTERM", "run, SIGKILL", "upload, SIGINT"],
)
def test_what_is_killed_is_whole_and_marked(
    number: int, target: kills.Target, how: signal.Signals, made: Made
) -> None:
    usual = kills.Usual({target.name: 1.0}, 0.0, b"")
    case = Case(target.name, how.name, lambda *rest: kills.kill(target, how, usual, False, *rest))
    attempt(case, number, made)


@pytest.mark.parametrize(("number", "command"), [(10, "rand-vec"), (11, "upload")])
def test_files_that_cannot_grow_end_a_command_in_a_sentence(
    number: int, command: str, made: Made
) -> None:
    case = Case(command, "", lambda *rest: disks.limited(command, *rest))
    attempt(case, number, made)


FEW = {"status": "compare", "https of http": "upload", "no database": "rand-vec",
       "wrong later": "upload"}  # fmt: skip


@pytest.mark.parametrize(("name", "command"), FEW.items())
def test_stores_that_go_wrong_are_told(name: str, command: str, made: Made) -> None:
    (fault,) = (one for one in servers.FAULTS if one.name == name)
    case = Case(name, command, lambda *rest: servers.face(fault, command, 60.0, *rest))
    attempt(case, 20 + list(FEW).index(name), made)


# What they judge by can fail


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    trial = Trial(0, "x", "y", tmp_path, np.random.default_rng(0))
    (tmp_path / "spare").mkdir()
    make_folder(tmp_path).path.rename(tmp_path / "kept")
    (tmp_path / "spare").rmdir()
    (tmp_path / "kept").rename(tmp_path / "spare")
    return trial


@pytest.mark.parametrize(
    ("done", "words"),
    [
        (Ended(1, "Traceback (most recent call last):\nsemseg-cli: x", 0), "prints a traceback"),
        (Ended(1, "oh no", 0), "without a sentence"),
        (Ended(1, "", 0), "without a sentence"),
    ],
)
def test_what_nobody_should_read_is_a_fault(done: Ended, words: str, trial: Trial) -> None:
    trial.require_told(done, "it")
    assert words in trial.faults[0]


def test_a_run_that_nobody_ended_is_a_fault(trial: Trial, tmp_path: Path) -> None:
    uri = stores.new_store(tmp_path)
    trials.require_marked(trial, tmp_path / "mlflow.db")
    assert trial.faults == []
    folder = make_folder(tmp_path / RUNS, status="RUNNING")
    tracking.start(uri, [folder])
    trials.require_marked(trial, tmp_path / "mlflow.db")
    assert trial.faults == [f"{folder.path.name} is RUNNING in run.json"]
    trial.faults.clear()
    folder.update(status="FINISHED")
    trials.require_marked(trial, tmp_path / "mlflow.db")
    assert "RUNNING in the store" in trial.faults[0]
    trial.faults.clear()
    trials.require_marked(trial, tmp_path / "mlflow.db", f"run `semseg-cli upload {folder.path}`")
    assert trial.faults == []


def test_a_run_of_a_store_that_no_folder_knows_is_a_fault(trial: Trial, tmp_path: Path) -> None:
    api = stores.client(stores.new_store(tmp_path))
    api.create_run("0")
    trials.require_marked(trial, tmp_path / "mlflow.db")
    assert "run for ever in the store" in trial.faults[0]


def test_a_damaged_store_is_a_fault(made: Made) -> None:
    def damage(trial: Trial, _world: World, _hand: Hand) -> None:
        (trial.place / "mlflow.db").write_bytes(b"SQLite format 3\0" + bytes(4000))
        trials.rows_of(trial.place / "mlflow.db")

    found = trials.attempt(Case("x", "y", damage), 30, 0, made.world, made.hand)
    assert "cannot be read: DatabaseError" in found.faults[0]


def test_a_command_that_computes_before_it_looks_is_a_fault(made: Made) -> None:
    uri = f"sqlite:///{made.world.store}"
    whole = servers.Fault("none", lambda *_: nullcontext(uri))
    case = Case("x", "y", lambda *rest: servers.face(whole, "upload", 60.0, *rest))
    assert trials.attempt(case, 31, 0, made.world, made.hand).faults == [
        "it does not see what is wrong"
    ]


def test_a_slow_command_is_killed_and_told(made: Made) -> None:
    place = made.world.place("slow")
    with closing(sqlite3.connect(place / "mlflow.db")) as held:
        held.execute("BEGIN EXCLUSIVE")
        started = made.hand.start(["upload", "spare"], place)
        assert started.wait(0.1) is None
        kills.finish(started)


def test_tables_count_trials_and_faults(capsys: pytest.CaptureFixture[str], trial: Trial) -> None:
    trial.ended, trial.waited = "refused", 2.0
    trial.require(False, "lost")
    trials.print_table([trial])
    assert (
        "x                                 1    2.0 s       1  1 refused" in capsys.readouterr().out
    )
