"""How runs end: signals, lost servers and failures leave a marked run and nothing half-written."""

import json
import os
import signal
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow_store as stores
import pytest
from mlflow.tracking import MlflowClient
from terminal import Done, Terminal, ended, options, working_in
from worlds import World

from benchmarks.campaign.hand import ERR, Hand, tell
from semseg_cli.runs.folder import RunFolder

pytestmark = pytest.mark.slow


WORKERS = {signal.SIGINT: "2", signal.SIGTERM: "0", signal.SIGHUP: "0", signal.SIGKILL: "0"}


@dataclass(frozen=True)
class Ended:
    """A command that got a signal: where it ran, the folder of its run, how it ended."""

    terminal: Terminal
    folder: Path
    done: Done


def is_evaluating(terminal: Terminal) -> bool:
    """Whether the edits have begun."""
    logs = [folder / "log.txt" for folder in terminal.runs()]
    return any("rand-vec: " in log.read_text() for log in logs if log.exists())


def stopped(hand: Hand, terminal: Terminal, number: signal.Signals, *args: str) -> Ended:
    """A command that gets a signal as soon as it evaluates."""
    process = hand.start(args, terminal.folder)
    while not is_evaluating(terminal):
        assert process.wait(0.1) is None, (terminal.folder / ERR).read_text()
    tell(process, number)
    done = ended(process, terminal.folder)
    (folder,) = terminal.runs()
    return Ended(terminal, folder, done)


@pytest.fixture(scope="module")
def stopped_runs(
    tiny_world: World, tmp_path_factory: pytest.TempPathFactory
) -> dict[signal.Signals, Ended]:
    """A run per signal: so many draws, one edited image at a time, that none gets to its end."""
    found = {}
    hand = Hand(os.environ)
    for number, workers in WORKERS.items():
        named = options(tiny_world, batch_size="1", workers=workers)
        with working_in(tmp_path_factory.mktemp(number.name)) as terminal:
            found[number] = stopped(hand, terminal, number, "rand-vec", *named, "--draws", "10000")
    return found


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (signal.SIGINT, "interrupted"),
        (signal.SIGTERM, "terminated"),
        (signal.SIGHUP, "terminated"),
    ],
)
def test_a_stopped_run_is_marked_as_killed(
    number: signal.Signals, reason: str, stopped_runs: dict[signal.Signals, Ended]
) -> None:
    folder, done = stopped_runs[number].folder, stopped_runs[number].done
    assert done.code == 128 + number, done.err
    assert done.out == ""
    assert f"Stopped ({reason}): the run is marked as KILLED" in done.err
    assert "Traceback" not in done.err
    meta = json.loads((folder / "run.json").read_text())
    assert (meta["status"], meta["reason"]) == ("KILLED", reason)
    assert not (folder / "report.json").exists()
    client = MlflowClient(f"sqlite:///{stopped_runs[number].terminal.folder}/mlflow.db")
    run = client.get_run(meta["mlflow_run_id"])
    assert run.info.status == "KILLED"
    assert run.data.tags["semseg.reason"] == reason


def test_a_killed_run_can_be_told_and_uploaded(
    stopped_runs: dict[signal.Signals, Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal, folder = stopped_runs[signal.SIGKILL].terminal, stopped_runs[signal.SIGKILL].folder
    monkeypatch.chdir(terminal.folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    begun = json.loads((folder / "run.json").read_text())
    assert (begun["status"], begun["ended"]) == ("RUNNING", None)

    for wanted in ([], [str(folder)]):
        done = terminal.type("compare", *wanted)
        assert (done.code, done.out) == (1, "")
        assert "None of these runs has finished with results" in done.err
        assert "RUNNING" in done.err
    assert terminal.type("upload", str(folder)).code == 0
    meta = json.loads((folder / "run.json").read_text())
    assert (meta["status"], meta["uploaded"]) == ("KILLED", True)
    run = MlflowClient(f"sqlite:///{terminal.folder}/mlflow.db").get_run(begun["mlflow_run_id"])
    assert run.info.status == "KILLED"
    assert run.data.tags["semseg.reason"] == "The process ended without saying how."
    assert run.info.end_time > run.info.start_time
    assert f"{meta['run_name']}: KILLED" in terminal.type("compare", str(folder)).err


def test_a_server_killed_while_a_command_logs_loses_nothing(
    tiny_world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = stores.free_port()
    place = terminal.folder / "server"
    place.mkdir()
    args = ["auto-feat", *options(tiny_world), "--tracking-uri", f"http://127.0.0.1:{port}"]
    with ExitStack() as alive, monkeypatch.context() as patch:
        alive.enter_context(stores.server(place, port))
        log_artifact, sent = MlflowClient.log_artifact, []

        def log_and_kill(*args: Any, **kwargs: Any) -> None:
            sent.append(args)
            if len(sent) == 3:
                alive.close()
            log_artifact(*args, **kwargs)

        patch.setattr(MlflowClient, "log_artifact", log_and_kill)
        done = terminal.type(*args)
    (folder,) = terminal.runs()
    assert done.code == 1
    assert f"semseg-cli upload {folder.relative_to(terminal.folder)}" in done.err
    assert "Traceback" not in done.err
    assert json.loads((folder / "run.json").read_text())["status"] == "FINISHED"
    with stores.server(place, port):
        assert terminal.type("upload", str(folder)).code == 0
        assert terminal.type(*args).code == 0
        after, normal = (stores.snapshot(RunFolder(path)) for path in terminal.runs())
    for different in ("start", "end"):
        assert after.pop(different)
        assert normal.pop(different)
    for different in ("semseg.sweep_id", "semseg.folder", "mlflow.note.content"):
        assert after["tags"].pop(different) != normal["tags"].pop(different)
    assert after == normal
