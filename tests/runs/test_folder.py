"""Run folders: made new, changed atomically, read back or refused."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from run_folders import make_folder, make_report

from semseg_cli.errors import FileError, SemsegError
from semseg_cli.runs.folder import RunFolder, git_commit, make_run_folder, write_atomic
from semseg_cli.runs.report import SCHEMA_VERSION
from semseg_cli.tracking.tracked_run import from_folder

META = {"experiment": "e", "command": "auto-feat", "method": "m", "tags": {}, "datasets": []}


def test_a_new_folder_says_that_its_run_is_running(tmp_path: Path) -> None:
    folder = make_run_folder(
        tmp_path / "deep" / "runs", META | {"run_name": "auto-feat x-2", "a": 1}
    )
    meta = folder.meta
    assert (meta["status"], meta["ended"], meta["uploaded"]) == ("RUNNING", None, False)
    assert (meta["schema_version"], meta["a"]) == (SCHEMA_VERSION, 1)
    assert "auto-feat-x-2" in folder.path.name
    assert sorted(p.name for p in folder.path.iterdir()) == [".running", "run.json"]


def test_runs_of_before_are_read_with_their_method_as_it_is_called_now(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    for file in ("run.json", "report.json"):
        text = (folder.path / file).read_text()
        assert '"method": "auto-feat"' in text
        old = text.replace('"method": "auto-feat"', '"method": "automatic-feature"')
        (folder.path / file).write_text(old)
    assert folder.meta["method"] == folder.report().method == "auto-feat"
    tags = {"semseg.method": "random-feature"}
    tracked = replace(from_folder(folder), tags=tags)
    assert tracked.tag("method") == "rand-feat"


@pytest.mark.parametrize("name", ["../../etc", "a/b", "...", "", "x" * 300, "naïve ☃"])
def test_any_run_name_gives_a_folder_directly_below(tmp_path: Path, name: str) -> None:
    folder = make_run_folder(tmp_path, META | {"run_name": name})
    assert folder.path.parent == tmp_path
    assert len(folder.path.name) < 100
    assert folder.meta["run_name"] == name


def test_two_runs_in_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    made = {make_run_folder(tmp_path, {"run_name": "same"}).path for _ in range(5)}
    assert len(made) == 5


def test_updates_keep_the_other_entries(tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path, META | {"run_name": "x", "scale": -2.0})
    folder.update(status="FINISHED", note="ü")
    assert (folder.meta["status"], folder.meta["note"], folder.meta["scale"]) == (
        "FINISHED", "ü", -2.0,
    )  # fmt: skip


def test_the_report_is_read_back(tmp_path: Path) -> None:
    assert make_folder(tmp_path).report() == make_report()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '"x"', "null"])
def test_a_bad_report_is_refused(tmp_path: Path, text: str) -> None:
    folder = make_folder(tmp_path)
    (folder.path / "report.json").write_text(text)
    with pytest.raises(SemsegError, match="report"):
        folder.report()


@pytest.mark.parametrize("text", [None, "", "{", "[]", '"x"', '{"schema_version": 99}'])
def test_what_is_no_run_folder_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(SemsegError, match=r"no run folder|schema version"):
        _ = RunFolder(tmp_path).meta


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("run_name", None), ("tags", {"a": 1}), ("tags", []), ("datasets", [1]), ("digests", "x"),
        ("datasets", [{"role": "lookup"}]), ("created", "yesterday"), ("tracking_uri", 5),
        ("ended", "never"), ("scale", "-2"), ("status", ["FINISHED"]),
    ],
)  # fmt: skip
def test_an_entry_of_another_kind_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    folder = make_folder(tmp_path)
    folder.write_json("run.json", {**folder.meta, name: value})
    with pytest.raises(FileError, match=r"run\.json cannot be read \(.*expected what a run"):
        _ = folder.meta


def test_a_lacking_entry_is_named(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    meta = folder.meta
    del meta["datasets"]
    folder.write_json("run.json", meta)
    with pytest.raises(FileError, match="it lacks datasets"):
        _ = folder.meta


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    write_atomic(path, b"old")

    def full(self: Path, data: bytes) -> Any:
        with self.open("wb") as file:
            file.write(data[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(SemsegError, match=r"Cannot write .*a\.json \(No space left.*--dump-to"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SemsegError, match="--dump-to"):
        make_run_folder(tmp_path / "file", {"run_name": "x"})


def test_the_commit_is_that_of_the_repository_around(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit() is None
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for args in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", *args], check=True, capture_output=True)
    commit = git_commit()
    assert commit is not None
    assert len(commit) == 40
    assert json.dumps(commit)
