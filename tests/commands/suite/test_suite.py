"""`semseg-cli suite`, end to end: what it runs, what it says, that it goes on where it stopped."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, assert_readable
from terminal import Terminal, drawing, options, working_in
from worlds import World

from semseg_cli.runs.folder import RunFolder
from semseg_cli.runs.rows import parse_rows, read_rows

FEW = ("--peers", "6", "--matched-peers", "3", "--matched-images", "3")
RUNS = {
    "ablate", "auto-feat x-2", "auto-feat x-1", "auto-feat x-4", "insert", "push x-2",
    "rand-feat x-2", "rand-vec norm x-2", "other-class x-2", "auto-feat pca x-2",
    "auto-feat random x-2", "mean-diff x-2", "mean-diff project", "mean-diff lda x-2",
    "head-direction x-2",
}  # fmt: skip


def metas(terminal: Terminal) -> dict[str, list[dict[str, Any]]]:
    """What run.json says of every run, by name."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in terminal.runs():
        meta = RunFolder(path).meta
        found.setdefault(meta["run_name"], []).append({**meta, "path": path})
    return found


@pytest.fixture(scope="module")
def ran(known_world: World, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A suite of the world with known answers."""
    with working_in(tmp_path_factory.mktemp("suite")) as terminal, drawing():
        done = terminal.type("suite", *options(known_world), *FEW, "--examples", "1")
        yield terminal, done, known_world


def suite_folder(terminal: Terminal) -> Path:
    path = metas(terminal)["suite"][-1]["path"]
    assert isinstance(path, Path)
    return path


def test_a_suite_runs_every_method_as_a_flat_run_with_its_tag(ran: Any) -> None:
    terminal, done, _ = ran
    assert done.code == 0, done.err
    found = metas(terminal)
    assert set(found) >= RUNS | {"suite", "lookup f1"}
    tags = {meta["tags"]["suite"] for of_name in found.values() for meta in of_name}
    assert len(tags) == 1
    assert all(meta["status"] == "FINISHED" for of_name in found.values() for meta in of_name)
    assert all(meta["uploaded"] for of_name in found.values() for meta in of_name)


def test_it_says_its_plan_first_and_its_headline_below_the_table(ran: Any) -> None:
    _, done, _ = ran
    assert "to run: ablate, auto-feat, insert" in done.err
    assert "estimated time" in done.err
    below = done.out[done.out.index("head-direction") :]
    assert "For 0 of 4 classes the latent passes every check." in below
    assert "none is claimed. No more latents are live." in " ".join(below.split())
    assert max(map(len, done.out.splitlines())) <= 80


def test_classes_stand_where_the_known_answers_say(ran: Any) -> None:
    terminal, _, _ = ran
    rows = read_rows(suite_folder(terminal) / "calibration.csv")
    assert [row["class_id"] for row in rows] == [1, 2, 3, 4]
    for row in rows:
        assert (row["target_change"], row["other_change"], row["value"]) == (1.0, 0.0, 1.0)
        assert row["spill"] == 0.0
        assert row["rival"] < 1.0
        assert row["peers_n"] == row["matched_n"] == 3  # only planted latents ever fire
        assert row["p"] == 1 / 4
        assert row["claimed"] == 0


def test_the_own_run_and_those_of_null_saes_say_how_many_classes_are_claimed(ran: Any) -> None:
    found = metas(ran[0])
    for name in ("auto-feat x-2", "auto-feat pca x-2", "auto-feat random x-2"):
        folder = RunFolder(found[name][0]["path"])
        assert folder.report().extra["n_causal"] == 0
        assert (folder.path / "calibration.csv").exists()
        assert (folder.path / "nulls.parquet").exists()
    assert "n_causal" not in RunFolder(found["auto-feat x-1"][0]["path"]).report().extra


def test_page_and_card_hold_the_argument_and_no_folder_of_this_machine(ran: Any) -> None:
    terminal, _, world = ran
    folder = suite_folder(terminal)
    page = (folder / "suite.html").read_text("utf-8")
    for part in ("For 0 of 4 classes", "Classes among their nulls", "What is missing", "Settings",
                 "Before and after", "Latents: what they respond to", "of the lookup split",
                 "data:image/svg+xml;base64"):  # fmt: skip
        assert part in page
    assert page.count("<script") == 1
    assert page.count("<img") == 2 + 2 + 4  # nulls and curve, examples, latents
    card = (folder / "card.md").read_text("utf-8")
    assert "**For 0 of 4 classes the latent passes every check.**" in card
    assert str(world.folder) not in card
    assert "| mean-diff project |" in card
    assert len(card.splitlines()) < 80


def test_the_page_is_readable_in_a_browser(ran: Any, browser: Browser) -> None:
    assert_readable(browser, suite_folder(ran[0]) / "suite.html")


def test_numbers_of_the_suite_are_tracked_and_its_runs_can_be_compared(ran: Any) -> None:
    terminal, done, _ = ran
    numbers = json.loads((suite_folder(terminal) / "metrics.json").read_text())
    assert numbers == {"n_causal": 0.0, "n_judged": 4.0}
    rows = read_rows(suite_folder(terminal) / "suite.csv")
    assert {row["run"] for row in rows} >= RUNS
    (line,) = [line for line in done.err.splitlines() if line.startswith("Compare: ")]
    compared = terminal.type(*shlex.split(line)[2:], "--format", "csv")
    assert {row["run"] for row in parse_rows(compared.out)} >= RUNS


def test_what_is_finished_is_reused_and_what_is_missing_runs(ran: Any) -> None:
    terminal, _, world = ran
    before = metas(terminal)
    stopped = RunFolder(before["rand-feat x-2"][0]["path"])
    stopped.update(status="KILLED")
    done = terminal.type("suite", *options(world), *FEW)
    assert done.code == 0, done.err
    assert "to run: rand-feat" in done.err
    after = metas(terminal)
    grown = {name for name in after if len(after[name]) > len(before.get(name, []))}
    assert grown == {"rand-feat x-2", "suite"}
    again = terminal.type("suite", *options(world), *FEW, "--dry-run")
    assert "to run: nothing" in again.out
    assert {name: len(of_name) for name, of_name in metas(terminal).items()} == {
        name: len(of_name) for name, of_name in after.items()
    }


def test_rows_can_be_printed_for_machines(ran: Any) -> None:
    terminal, _, world = ran
    done = terminal.type(
        "suite", *options(world), *FEW, "--format", "csv", "--no-track", "--run-name", "mine"
    )
    rows = {row["run"]: row for row in parse_rows(done.out)}
    assert set(rows) >= RUNS
    assert rows["auto-feat x-2"]["n_causal"] == 0
    assert 0 < rows["ablate"]["necessity"] <= 1
    assert rows["insert"]["sufficiency"] is not None
    assert "mine" in metas(terminal)


def test_other_settings_are_another_suite(ran: Any) -> None:
    terminal, _, world = ran
    done = terminal.type("suite", *options(world), *FEW, "--seed", "7", "--dry-run")
    assert "0 runs are there" in done.out
    assert "matched peers per class on 3 images each" in " ".join(done.out.split())
    same = terminal.type("suite", *options(world, batch_size="2"), *FEW, "--dry-run")
    assert "0 runs are there" not in same.out


def test_controls_that_need_more_classes_are_left_out_and_told(
    known_world: World, terminal: Terminal
) -> None:
    done = terminal.type(
        "suite", *options(known_world), *FEW, "--class", "wall", "--scale", "-2", "--no-plots",
        "--no-track",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "Not run: other-class." in done.out
    assert "other-class x-2" not in metas(terminal)
    assert not list(suite_folder(terminal).glob("*.html"))
    card = (suite_folder(terminal) / "card.md").read_text("utf-8")
    assert "other-class was not run" in card


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("--protocol", "label"), "suite has no --protocol label"),
        (("--quick", "--full"), "--quick is given with --full"),
        (("--scale", "-2", "--scale", "-2"), "give each number once"),
    ],
)
def test_mistakes_are_told_before_anything_runs(
    known_world: World, terminal: Terminal, given: tuple[str, ...], sentence: str
) -> None:
    done = terminal.type("suite", *options(known_world), *given)
    assert done.code == 2
    assert sentence in " ".join(done.err.split())
    assert terminal.runs() == []
