"""How runs end: signals, lost servers and failures leave a marked run and nothing half-written."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import mlflow_store as stores
import pytest
from mlflow.tracking import MlflowClient
from terminal import Terminal, options
from worlds import World

from semseg_cli.runs.folder import RunFolder

pytestmark = pytest.mark.slow


def start(terminal: Terminal, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "semseg_cli", *args],
        cwd=terminal.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_until_evaluating(terminal: Terminal, process: subprocess.Popen[str]) -> Path:
    """The run folder, once the edits have begun."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        for folder in terminal.runs():
            log = folder / "log.txt"
            if log.exists() and "auto-feat: " in log.read_text():
                return folder
        time.sleep(0.1)
    raise AssertionError("the run did not begin")


def start_long_run(terminal: Terminal, world: World, workers: str) -> subprocess.Popen[str]:
    """90 scales of 5 classes, one edited image at a time: minutes of work."""
    scales = [arg for step in range(1, 91) for arg in ("--scale", str(step / 10))]
    return start(terminal, "auto-feat", *options(world, batch_size="1", workers=workers), *scales)


@pytest.mark.parametrize(
    ("number", "reason", "workers"),
    [
        (signal.SIGINT, "interrupted", "2"),
        (signal.SIGTERM, "terminated", "0"),
        (signal.SIGHUP, "terminated", "0"),
    ],
)
def test_a_stopped_run_is_marked_as_killed(
    number: signal.Signals, reason: str, workers: str, tiny_world: World, terminal: Terminal
) -> None:
    process = start_long_run(terminal, tiny_world, workers)
    folder = wait_until_evaluating(terminal, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert f"Stopped ({reason}): the run is marked as KILLED" in err
    assert "Traceback" not in err
    meta = json.loads((folder / "run.json").read_text())
    assert (meta["status"], meta["reason"]) == ("KILLED", reason)
    assert not (folder / "report.json").exists()
    client = MlflowClient(f"sqlite:///{terminal.folder}/mlflow.db")
    run = client.get_run(meta["mlflow_run_id"])
    assert run.info.status == "KILLED"
    assert run.data.tags["semseg.reason"] == reason


def test_a_killed_run_can_be_told_and_uploaded(tiny_world: World, terminal: Terminal) -> None:
    process = start_long_run(terminal, tiny_world, "0")
    folder = wait_until_evaluating(terminal, process)
    process.kill()
    process.communicate(timeout=60)
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
    for different in ("semseg.sweep_id", "mlflow.note.content"):  # the note names the folder
        assert after["tags"].pop(different) != normal["tags"].pop(different)
    assert after == normal
