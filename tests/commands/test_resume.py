"""A run that is killed goes on: the same bytes as if it had not been, or a sentence."""

import json
import multiprocessing
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_folders import make_folder
from terminal import Done, Terminal, ended, interrupted, options
from worlds import World

from benchmarks.campaign.hand import Forked, Job, settle
from semseg_cli.cli import run
from semseg_cli.commands.stopped import find_stopped
from semseg_cli.engine import evaluate
from semseg_cli.errors import SemsegError
from semseg_cli.experiment import choose_latents
from semseg_cli.runs.folder import JOURNAL_FILE, RunFolder
from semseg_cli.runs.journal import Journal
from semseg_cli.tracking import find_runs
from semseg_cli.tracking.store_address import resolve_uri
from semseg_cli.tracking.tracked_run import identity_of

METHODS = {
    "auto-feat": ("--scale", "-2", "--scale", "-1"),
    "rand-feat": ("--draws", "2"),
    "mean-diff": (),
    "rand-vec": ("--draws", "2"),
}


def killed(folder: Path, after: int, *args: str) -> None:
    """Types a command, in a real process, that is killed after so many records: the inputs, chosen
    latents, the edits, then batches."""
    done = ended(Forked(die, after, Job(args, str(folder))), folder)
    assert done.code == -signal.SIGKILL, done.err


def die(after: int, job: Job) -> None:
    """Turns this process into that command."""
    words = settle(job)
    append, written = Journal.append, []

    def dying(self: Journal, record: bytes) -> None:
        append(self, record)
        written.append(record)
        if len(written) == after:
            os.kill(os.getpid(), signal.SIGKILL)

    Journal.append = dying  # type: ignore[method-assign]
    run(words)


def command(world: World, name: str, *more: str) -> list[str]:
    return [name, *options(world, batch_size="1"), *METHODS[name], "--no-plots", "--quiet", *more]


def status_of(path: Path) -> str:
    """The status of a folder's run in the store."""
    run_id = RunFolder(path).meta["mlflow_run_id"]
    (status,) = [run.status for run in find_runs(resolve_uri(None)) if run.run_id == run_id]
    return status


def end_workers() -> None:
    """Kills the processes that load images."""
    for child in multiprocessing.active_children():
        if child.daemon and child.pid is not None:  # as torch's are
            os.kill(child.pid, signal.SIGKILL)


def bereaved(
    terminal: Terminal, world: World, monkeypatch: pytest.MonkeyPatch, then: Callable[[], None]
) -> tuple[Done, Path]:
    """A run whose loading processes are killed, with what happens then; and its folder."""
    append = Journal.append

    def losing(self: Journal, record: bytes) -> None:
        append(self, record)
        end_workers()
        then()

    args = options(world, batch_size="1", workers="1")
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", losing)
        done = terminal.type("auto-feat", *args, "--no-cache", "--no-plots")
    (folder,) = terminal.runs()
    assert "Traceback" not in done.err
    return done, folder


def test_a_run_whose_loading_process_dies_tells_it_and_can_go_on(
    terminal: Terminal, tiny_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, folder = bereaved(terminal, tiny_world, monkeypatch, lambda: None)
    assert done.code == 1
    assert "semseg-cli: A process that loads images has died (" in done.err
    assert "Give fewer --workers or a smaller --batch-size." in done.err
    assert RunFolder(folder).meta["status"] == status_of(folder) == "FAILED"
    assert f"Go on: semseg-cli auto-feat --resume semseg-runs/{folder.name}" in done.err
    assert terminal.type("auto-feat", "--resume", folder.name).code == 0


def test_a_signal_that_ends_the_loading_processes_too_stops_the_run(
    terminal: Terminal, tiny_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, folder = bereaved(
        terminal, tiny_world, monkeypatch, lambda: os.kill(os.getpid(), signal.SIGTERM)
    )
    assert done.code == 128 + signal.SIGTERM
    assert "has died" not in done.err
    assert RunFolder(folder).meta["status"] == status_of(folder) == "KILLED"


def test_a_killed_run_goes_on_to_the_same_bytes(terminal: Terminal, tiny_world: World) -> None:
    args = command(tiny_world, "auto-feat")
    killed(terminal.folder, 5, *args)
    cut = terminal.runs()
    assert [RunFolder(path).meta["status"] for path in cut] == ["RUNNING", "RUNNING"]
    assert {status_of(path) for path in cut} == {"RUNNING"}
    goes_on_to_the_same(terminal, args, cut)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "auto-feat"])
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    terminal: Terminal, tiny_world: World, name: str
) -> None:
    args = command(tiny_world, name)
    assert "--resume" not in interrupted(terminal, 4, *args)  # it is quiet
    cut = terminal.runs()
    assert {status_of(path) for path in cut} == {"KILLED"}
    goes_on_to_the_same(terminal, args, cut)


def test_a_choice_by_cause_is_not_made_again(
    terminal: Terminal, tiny_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = command(tiny_world, "auto-feat", "--select", "causal")
    interrupted(terminal, 2, *args)  # the inputs and the latents are there, no edit is
    cut = terminal.runs()
    with monkeypatch.context() as patch:
        patch.setattr(choose_latents, "choose_latents", None)
        done = terminal.type("auto-feat", "--resume", str(cut[0]), "--quiet")
    assert done.code == 0, done.err
    assert terminal.type(*args, "--no-track", "--dump-to", "whole").code == 0
    wholes = {RunFolder(path).meta["run_name"]: path for path in Path("whole").iterdir()}
    for path in cut:
        for name in ("lookup.csv", "class_results.csv", "report.json"):
            whole = wholes[RunFolder(path).meta["run_name"]] / name
            assert (path / name).read_bytes() == whole.read_bytes()


def test_images_of_one_batch_are_kept_in_parts(
    terminal: Terminal, tiny_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "LEAST_KEPT", 1)
    args = command(tiny_world, "mean-diff", "--batch-size", "128")
    interrupted(terminal, 5, *args)
    done = terminal.type("mean-diff", "--resume", terminal.runs()[0].name)
    assert done.code == 0, done.err
    assert re.search(r"after the [1-5] of 6 images that were counted", done.err)


def goes_on_to_the_same(terminal: Terminal, args: list[str], cut: list[Path]) -> None:
    """Goes on with stopped runs, and holds them against uninterrupted ones."""
    done = terminal.type(args[0], "--resume", str(cut[0]), "--no-plots", "--quiet")
    assert done.code == 0, done.err
    assert set(terminal.runs()) == set(cut)
    assert {status_of(path) for path in cut} == {"FINISHED"}
    assert terminal.type(*args, "--no-track", "--dump-to", "whole").code == 0
    wholes = {RunFolder(path).meta["run_name"]: path for path in Path("whole").iterdir()}
    assert len(wholes) == len(cut)
    for path in cut:
        whole = wholes[RunFolder(path).meta["run_name"]]
        assert {file.name for file in path.iterdir()} == {file.name for file in whole.iterdir()}
        for file in whole.iterdir():
            if file.name not in ("run.json", "log.txt"):
                assert (path / file.name).read_bytes() == file.read_bytes(), file


def test_a_torn_record_is_counted_again(terminal: Terminal, tiny_world: World) -> None:
    args = command(tiny_world, "mean-diff")
    said = interrupted(terminal, 5, *[arg for arg in args if arg != "--quiet"])
    (path,) = terminal.runs()
    assert f"Go on: semseg-cli mean-diff --resume {path.relative_to(terminal.folder)}" in said
    journal = path / JOURNAL_FILE
    journal.write_bytes(journal.read_bytes()[:-3])
    # By its name and with another batch size; and stopped once more.
    interrupted(terminal, 1, "mean-diff", "--resume", "mean-diff x-2", "--batch-size", "2")
    done = terminal.type("mean-diff", "--resume", path.name, "--format", "json")
    assert done.code == 0, done.err
    assert terminal.runs() == [path]
    whole = terminal.type(*args, "--format", "json")
    assert _counts(done.out) == _counts(whole.out)


def _counts(printed: str) -> list[dict[str, Any]]:
    rows = json.loads(printed)
    assert rows
    return [{key: row[key] for key in row if "change" in key or key == "class"} for row in rows]


def test_what_cannot_go_on_is_one_sentence_and_stays_as_it_is(
    terminal: Terminal, tiny_world: World
) -> None:
    interrupted(terminal, 4, *command(tiny_world, "mean-diff"))
    (path,) = terminal.runs()
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    for args, said in {
        ("--seed", "7"): "was begun otherwise (--seed): give what it was begun with",
        ("--scale", "-1"): "was begun otherwise (--scale)",
        ("--images", "2"): "was begun otherwise (--images, evaluation images)",
    }.items():
        done = terminal.type("mean-diff", "--resume", str(path), *args)
        assert (done.code, said in " ".join(done.err.split())) == (2, True), done.err
    other = terminal.type("rand-vec", "--resume", str(path))
    assert other.code == 2, other.err
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    unknown = terminal.type("mean-diff", "--resume", "no-such-run")
    assert unknown.code == 1
    assert "--resume finds nothing in semseg-runs" in unknown.err


@pytest.mark.parametrize("run_id", [None, "3f0e11d2c4b5a69788796a5b4c3d2e1f"])
def test_a_run_is_what_tables_call_it_tracked_or_not(tmp_path: Path, run_id: str | None) -> None:
    stopped = make_folder(tmp_path, status="KILLED")
    stopped.update(mlflow_run_id=run_id)
    other = make_folder(tmp_path, status="KILLED", sweep_id="another")
    run = identity_of(stopped)
    for wanted in (stopped.path.name, run.short_id, f"{run.name} ({run.short_id})", run.run_id):
        assert find_stopped(wanted, tmp_path) == [stopped]
    with pytest.raises(SemsegError, match="2 runs are called"):
        find_stopped(run.name, tmp_path)
    assert find_stopped(str(other.path), tmp_path) == [other]


def test_a_finished_run_says_so(terminal: Terminal, tiny_world: World) -> None:
    assert terminal.type(*command(tiny_world, "mean-diff")).code == 0
    (path,) = terminal.runs()
    again = terminal.type("mean-diff", "--resume", path.name)
    assert again.code == 2
    assert "is finished, nothing of it is left to do" in " ".join(again.err.split())


def test_a_suite_goes_on_in_the_runs_that_were_stopped(
    terminal: Terminal, tiny_world: World
) -> None:
    args = ["suite", *options(tiny_world, batch_size="1"), "--peers", "3", "--matched-peers", "2",
            "--matched-images", "2", "--no-plots", "--quiet"]  # fmt: skip
    interrupted(terminal, 4, *args)
    begun = {path for path in terminal.runs() if (path / JOURNAL_FILE).exists()}
    assert len(begun) == 1
    n_before = len(terminal.runs())
    assert terminal.type(*args).code == 0
    assert {RunFolder(path).meta["status"] for path in terminal.runs()} == {"FINISHED"}
    names = [RunFolder(path).meta["run_name"] for path in terminal.runs()]
    assert len(names) == len(set(names)) > n_before
