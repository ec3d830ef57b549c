"""`env`: versions, devices and folders for bug reports, without secrets."""

import json
from pathlib import Path

import pytest
import torch
from terminal import Terminal

from semseg_cli import __version__
from semseg_cli.commands import env


def facts(terminal: Terminal, *args: str) -> dict[str, str]:
    done = terminal.type("env", "--format", "json", *args)
    assert done.code == 0, done.err
    return {row["what"]: row["value"] for row in json.loads(done.out)["rows"]}


def test_it_says_what_is_installed_and_where_things_are(terminal: Terminal, tmp_path: Path) -> None:
    found = facts(terminal, "--cache-dir", str(tmp_path / "kept"))
    assert found["semseg-cli"].startswith(f"{__version__} in ")
    assert found["torch"] == torch.__version__
    assert found["torch threads"] == str(torch.get_num_threads())
    assert found["cache"] == str(tmp_path / "kept")
    assert found["tracking store"] == f"sqlite:///{terminal.folder}/mlflow.db"


def test_no_secret_is_printed(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:hunter2@example.org/mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter3")
    monkeypatch.setenv("HF_TOKEN", "hunter4")
    shown = terminal.type("env").out
    assert "hunter" not in shown
    assert "example.org/mlflow" in shown
    found = facts(terminal)
    assert {"MLFLOW_TRACKING_PASSWORD", "HF_TOKEN"} <= set(found["variables"].split(", "))


def test_a_store_that_is_none_is_told_and_no_reason_to_stop(terminal: Terminal) -> None:
    assert facts(terminal, "--tracking-uri", "mlruns")["tracking store"].startswith("none: ")


def test_gpus_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        name, total_memory = "H100", 80 * 2**30

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _i: Properties)
    assert env.hardware()["cuda:1"] == "H100, 80 GiB"


def test_what_is_not_installed_is_said() -> None:
    assert env._version("no-such-package-here") == "not installed"
