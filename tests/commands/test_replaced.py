"""What a file that is written anew replaces is kept, once each."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from terminal import Terminal
from torch import nn

from semseg_cli import files
from semseg_cli.commands.replaced import keeping
from semseg_cli.errors import SemsegError
from semseg_cli.models.head import load_head, save_head


def write(path: Path, data: bytes) -> None:
    """Writes a file of one and the same time."""
    path.write_bytes(data)
    os.utime(path, (0, 0))


def copies(path: Path) -> list[bytes]:
    return sorted(one.read_bytes() for one in path.parent.iterdir() if one != path)


def test_files_of_the_same_time_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "head.pt"
    for data in (b"1", b"2", b"3", b"4"):
        with keeping(path, quiet=True):
            write(path, data)
    assert copies(path) == [b"1", b"2", b"3"]
    assert path.read_bytes() == b"4"
    assert {one.stat().st_mtime for one in tmp_path.iterdir()} == {0}


def test_what_stays_the_same_has_no_copy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "head.pt"
    for _ in range(2):
        with keeping(path, quiet=False):
            write(path, b"1")
    with pytest.raises(ZeroDivisionError), keeping(path, quiet=False):
        raise ZeroDivisionError  # and nothing is written
    assert copies(path) == []
    assert capsys.readouterr().err == ""


def test_a_kept_head_keeps_the_images_that_it_was_made_with(tmp_path: Path) -> None:
    path = tmp_path / "head.pt"
    heads = [nn.Linear(2, 3), nn.Linear(2, 3)]
    for head, seen in zip(heads, (["older"], ["newer"]), strict=True):
        with keeping(path, quiet=True):
            save_head(path, head, "--save", seen)
    with keeping(path, quiet=True):
        save_head(path, heads[1], "--save", ["newer"])
    (kept,) = tmp_path.glob("head.*-*.pt")
    assert load_head(kept).seen == {"older"}
    assert load_head(path).seen == {"newer"}
    assert len(list(tmp_path.iterdir())) == 4  # two heads with their images


def test_the_images_of_a_head_are_found_through_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "folder" / "head.pt", tmp_path / "link.pt"
    real.parent.mkdir()
    save_head(real, nn.Linear(2, 3), "--save", ["older"])
    link.symlink_to(real)
    assert load_head(link).seen == {"older"}
    with keeping(link, quiet=True):
        save_head(link, nn.Linear(2, 3), "--save", ["newer"])
    (kept,) = tmp_path.glob("link.*-*.pt")
    assert load_head(kept).seen == load_head(real).seen == {"older"}
    assert load_head(link).seen == {"newer"}


@pytest.mark.parametrize("command", ["train-head", "stats"])
def test_what_cannot_be_written_is_refused_before_anything_is_computed(
    command: str, terminal: Terminal
) -> None:
    Path("made.safetensors").mkdir()
    done = terminal.type(command, "--save", "made.safetensors")
    assert done.code == 1, done.err
    assert "(Is a directory): give another --save." in done.err
    assert not terminal.runs()


def test_a_probe_leaves_nothing(tmp_path: Path) -> None:
    files.make_room(tmp_path / "new" / "head.pt", "--save")
    assert list(tmp_path.rglob("*")) == [tmp_path / "new"]
    with pytest.raises(
        SemsegError, match=r"Cannot write .*\(Is a directory\): give another --save"
    ):
        files.make_room(tmp_path / "new", "--save")


def test_what_cannot_be_kept_whole_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "head.pt"
    write(path, b"1")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(SemsegError, match="free some space or give another --save"):
        files.keep_old(path, "--save")
    assert copies(path) == []
