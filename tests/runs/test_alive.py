"""The file of a living run: its lock, and the room for its last words."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from run_folders import make_folder

from semseg_cli import tracking
from semseg_cli.errors import SemsegError
from semseg_cli.runs import alive
from semseg_cli.runs.folder import RunFolder

_LIVES = """
import sys
from pathlib import Path
from semseg_cli.runs import alive
alive.begin(Path(sys.argv[1]), 10)
print("began", flush=True)
sys.stdin.read()
"""


def test_a_run_is_alive_as_long_as_its_process(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, status=None)
    alive.end(folder.path)
    assert folder.whose == ""
    with subprocess.Popen(
        [sys.executable, "-c", _LIVES, str(folder.path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        assert folder.whose == f"process {process.pid} on {os.uname().nodename}"
        with pytest.raises(SemsegError, match="still going on"):
            tracking.upload(folder, f"sqlite:///{tmp_path}/m.db")
        assert folder.meta["status"] == "RUNNING"
        process.kill()
    assert (folder.path / alive.NAME).exists()
    assert folder.whose == ""


def test_a_run_that_goes_on_is_alive_again(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, status=None)
    folder.mark("KILLED", "interrupted")
    code = (
        "import sys; from pathlib import Path; from semseg_cli.runs.folder import RunFolder\n"
        "RunFolder(Path(sys.argv[1])).go_on(); print('on', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder.path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        assert folder.meta["status"] == "RUNNING"
        assert folder.meta["reason"] is folder.meta["ended"] is None
        with pytest.raises(SemsegError, match="still going on"):
            tracking.upload(folder, f"sqlite:///{tmp_path}/m.db")
    assert folder.whose == ""


def test_a_full_disk_has_room_for_how_a_run_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(tmp_path, status=None)

    def full(*_: object) -> None:
        raise SemsegError("no space")

    monkeypatch.setattr(RunFolder, "write", full)
    folder.mark("FAILED", "no space " * 1000)
    meta = folder.meta
    assert meta["status"] == "FAILED"
    assert meta["reason"].startswith("no space ")
    assert not (folder.path / alive.NAME).exists()


def test_links_out_of_a_folder_are_left_out_or_refused(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "runs")
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    (folder.path / "notes.txt").symlink_to(secret)
    from semseg_cli.tracking.tracked_run import files_of

    assert "notes.txt" not in {path.name for path, _ in files_of(folder)}
    (folder.path / "settings.toml").unlink()
    (folder.path / "settings.toml").symlink_to(secret)
    with pytest.raises(SemsegError, match="outside of the run's folder"):
        tracking.upload(folder, f"sqlite:///{tmp_path}/m.db")
