"""A run is named by its folder, the folder's name, its id or its own name; never by a guess."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from mlflow_store import new_store
from run_folders import make_folder
from terminal import Terminal

from semseg_cli import tracking
from semseg_cli.commands.reused_lookup import read_reused
from semseg_cli.errors import SemsegError
from semseg_cli.runs.folder import RunFolder
from semseg_cli.tracking.named_run import (
    NoSuchRunError,
    find_folder,
    find_named,
    folders_below,
    pick,
)
from semseg_cli.tracking.tracked_run import TrackedRun


def run(name: str, run_id: str = "", status: str = "FINISHED") -> TrackedRun:
    started = datetime(2026, 1, 2, 12, 30, tzinfo=UTC)
    return TrackedRun(run_id or f"{name}-id", name, "semseg", status, started, Path("none"))


def test_ids_come_before_names_and_names_before_beginnings() -> None:
    one, two = run("abc", "1"), run("1", "abc1")
    assert pick("1", [one, two]) is one
    assert pick("abc", [one, two]) is one
    assert pick("abc1", [one, two]) is two


def test_beginnings_of_ids_must_fit_one_run() -> None:
    one, two = run("x", "abc"), run("y", "abd")
    assert pick("abC", [one, two]) is one
    with pytest.raises(
        SemsegError, match=r"stands for 2 runs \(x \(abc\) of 2026-01-0.*, y \(abd\)"
    ):
        pick("ab", [one, two])
    with pytest.raises(NoSuchRunError, match="`semseg-cli compare` lists the runs"):
        pick("zzz", [one, two])
    with pytest.raises(NoSuchRunError, match="did you mean auto-feat x-2"):
        pick("auto-feat x2", [run("auto-feat x-2")])


def test_what_tables_call_a_run_names_it() -> None:
    one, two = run("x", "abc"), run("x", "abd")
    one, two = (
        replace(r, tags={"semseg.folder": f"20260102-123000-x-{end}"})
        for r, end in ((one, "ee04"), (two, "1f3a"))
    )
    assert pick("1F3a", [one, two]) is two
    assert pick("x (ee04)", [one, two]) is one
    assert pick("x (abd)", [one, two]) is two
    with pytest.raises(NoSuchRunError):
        pick("04", [one, two])
    with pytest.raises(SemsegError, match="'ee04' stands for 2 runs"):
        pick("ee04", [one, replace(two, tags=one.tags)])


def test_an_exact_end_comes_before_the_beginning_of_a_strangers_id() -> None:
    stranger = run("y", "ee04" * 8)
    meant = replace(run("x", "abc"), tags={"semseg.folder": "20260102-123000-x-ee04"})
    assert pick("ee04", [stranger, meant]) is meant
    assert pick("ee04", [stranger], [meant]) is meant
    assert pick("ee0", [stranger, meant]) is stranger
    assert pick("20260102-123000-x-ee04", [stranger, meant]) is meant


def test_the_end_of_what_only_a_folder_has_comes_before_a_strangers_id(made: RunFolder) -> None:
    end = made.path.name[-4:]
    assert find_named(end, [run("y", f"{end}{end}")]).source == made.path
    assert find_named(end[:3], [run("y", f"{end}{end}")]).name == "y"


def test_each_of_several_runs_is_listed_by_what_names_it_alone(made: RunFolder) -> None:
    make_folder(Path("semseg-runs"), run_name="mine")
    with pytest.raises(SemsegError) as told:
        find_folder("mine")
    listed = re.findall(r"mine \(\w+\)", str(told.value))
    assert {find_folder(one).path for one in listed} == {one.path for one in folders_below()}
    same = [replace(run("x", i), tags={"semseg.folder": "20260102-123000-x-ee04"}) for i in "ab"]
    with pytest.raises(SemsegError, match=r"x \(a\) of .*, x \(b\) of"):
        pick("ee04", same)


def test_a_name_of_several_runs_lists_them() -> None:
    many = [run("a", str(i)) for i in range(7)]
    listed = (
        r"^7 runs are called 'a' \(a \(0\) of .* a \(4\) of .*, \.\.\.\): give what is in brackets"
    )
    with pytest.raises(SemsegError, match=listed):
        pick("a", many)


def test_the_one_that_finished_is_meant() -> None:
    assert pick("a", [run("a", "2", "RUNNING"), run("a", "1")]).run_id == "1"


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return make_folder(Path("semseg-runs"), run_name="mine")


def test_a_folder_goes_by_its_path_its_name_and_the_runs_name(made: RunFolder) -> None:
    for wanted in (str(made.path), made.path.name, "mine", made.path.name[:19]):
        assert find_named(wanted, []).source == made.path
        assert find_folder(wanted).path == made.path
    with pytest.raises(NoSuchRunError):
        find_folder("")
    with pytest.raises(NoSuchRunError):
        find_folder("mine", Path("elsewhere"))


def test_what_a_store_has_comes_before_what_only_a_folder_has(made: RunFolder) -> None:
    stored = run("mine")
    assert find_named("mine", [stored]) is stored


def test_folders_come_newest_first_and_unreadable_ones_are_passed_over(made: RunFolder) -> None:
    newer = make_folder(Path("semseg-runs"), run_name="newer")
    newer.update(created="2999-01-01T00:00:00+00:00")
    broken = Path("semseg-runs/broken")
    broken.mkdir()
    (broken / "run.json").write_text("{")
    assert [folder.path for folder in folders_below()] == [newer.path, made.path]


def test_two_folders_of_one_name_are_told_apart_by_their_own(made: RunFolder) -> None:
    other = make_folder(Path("semseg-runs"), run_name="mine")
    with pytest.raises(SemsegError, match="2 runs are called 'mine'"):
        find_folder("mine")
    assert find_folder(other.path.name).path == other.path


def test_a_lookup_goes_by_the_name_of_its_run_or_folder(made: RunFolder) -> None:
    text = (made.path / "lookup.csv").read_text()
    for wanted in ("mine", made.path.name, str(made.path)):
        assert read_reused(wanted, None).text == text
    with pytest.raises(SemsegError, match="neither a file nor a run folder below semseg-runs nor"):
        read_reused("none-such", None)


def test_compare_and_upload_take_all_of_them(terminal: Terminal) -> None:
    folder = make_folder(Path("semseg-runs"), run_name="mine")
    other = make_folder(Path("semseg-runs"), "rand-feat", run_name="its control")
    Path("mlflow.db").unlink()
    for wanted in ("mine", folder.path.name):
        done = terminal.type("compare", wanted, "its control", "--format", "csv")
        assert done.code == 0, done.err
        assert "mine minus its control" in terminal.type("compare", wanted, "its control").out
    new_store(terminal.folder)
    assert terminal.type("upload", "mine", other.path.name).code == 0
    run_id = folder.meta["mlflow_run_id"]
    for wanted in ("mine", run_id, run_id[:10]):
        assert terminal.type("compare", wanted, "its control").code == 0
    assert terminal.type("upload", run_id[:10]).code == 0
    uri = tracking.resolve_uri(None)
    assert tracking.find_run(uri, run_id[:10]).name == "mine"
    assert replace(tracking.find_run(uri, "mine"), artifacts="").run_id == run_id


def test_what_is_no_run_is_told_in_one_sentence(terminal: Terminal) -> None:
    done = terminal.type("upload", "none-such")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "No run has the id, name or folder 'none-such'" in done.err
