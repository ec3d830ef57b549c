"""How runs end: Ctrl-C, SIGTERM and failures leave a marked run and nothing half-written."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import Terminal, options
from mlflow.tracking import MlflowClient
from worlds import World

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


@pytest.mark.parametrize(
    ("number", "reason", "workers"),
    [(signal.SIGINT, "interrupted", "2"), (signal.SIGTERM, "terminated", "0")],
)
def test_a_stopped_run_is_marked_as_killed(
    number: signal.Signals, reason: str, workers: str, tiny_world: World, terminal: Terminal
) -> None:
    # 90 scales of 5 classes, one edited image at a time: minutes of work.
    scales = [arg for step in range(1, 91) for arg in ("--scale", str(step / 10))]
    args = options(tiny_world, batch_size="1", workers=workers)
    process = start(terminal, "auto-feat", *args, *scales)
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
