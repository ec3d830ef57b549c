"""What a run warns of on the terminal stands on its page, too, and in its files."""

import json
import re
from pathlib import Path

import pytest
from terminal import Done, Terminal, options
from worlds import FIRST_NAMES, World

from semseg_cli.runs.folder import RunFolder
from semseg_cli.runs.rows import read_rows
from semseg_cli.tracking.tracked_run import describe

pytestmark = pytest.mark.usefixtures("drawn")
GROUPED = "3 groups of images, each taken as one sample (--group-by)."
DRAWN = "2 random draws for each class, counted together; patches: of one draw."
ONE_DRAW = "One random draw for each class: [ ] leaves out how far other draws (--seed) differ."
USED = "--images is 9999: validation has 3, all are used."
LACKING = (
    "floor has no latent: no patch of the lookup split has the class on at least 0.9 of its pixels "
    "(try a smaller --label-threshold)."
)


def done_by(terminal: Terminal, *args: str) -> tuple[Done, Path]:
    done = terminal.type(*args, "--no-track")
    assert done.code == 0, done.err
    return done, terminal.runs()[-1]


def warnings_on(page: Path) -> list[str]:
    box = re.search(r'<ul class="warnings"[^>]*>(.*?)</ul>', page.read_text())
    return re.findall(r"<li>(.*?)</li>", box[1]) if box else []


def test_what_is_said_of_the_numbers_stands_on_top_of_the_page(
    known_world: World, terminal: Terminal
) -> None:
    asked = ("--draws", "2", "--group-by", ".+", "--images", "9999")
    done, path = done_by(terminal, "rand-feat", *options(known_world), *asked)
    captioned = " ".join(done.out.split())
    assert GROUPED in captioned
    assert DRAWN in captioned
    assert done.err.count(USED) == 1  # before the run had a log
    groups, draws = json.loads((path / "run.json").read_text())["notes"]
    assert groups.startswith(GROUPED)
    assert draws == DRAWN
    assert warnings_on(path / "report.html") == [groups, draws, USED, LACKING]
    assert all(said in describe(RunFolder(path)) for said in ("random draws", "groups", "9999"))


def test_quiet_runs_keep_their_warnings_and_others_have_none(
    known_world: World, terminal: Terminal
) -> None:
    args = ("rand-feat", *options(known_world), "--draws", "1", "--quiet")
    done, path = done_by(terminal, *args, "--images", "9999")
    assert done.err == ""
    assert warnings_on(path / "report.html") == [ONE_DRAW, USED, LACKING]
    _, path = done_by(terminal, *args)
    assert warnings_on(path / "report.html") == [ONE_DRAW, LACKING]
    named = [word for name in FIRST_NAMES if name != "floor" for word in ("--class", name)]
    _, path = done_by(terminal, "auto-feat", *options(known_world), *named)
    assert warnings_on(path / "report.html") == []


def test_a_page_counts_the_patches_of_one_draw(known_world: World, terminal: Terminal) -> None:
    _, once = done_by(terminal, "auto-feat", *options(known_world))
    least = sorted(row["n_orig_patches"] for row in read_rows(once / "class_results.csv"))[2]
    args = options(known_world, min_patches=str(least))
    _, path = done_by(terminal, "rand-feat", *args, "--draws", "3")
    page = (path / "report.html").read_text()
    for one, three in zip(
        *(read_rows(run / "class_results.csv") for run in (once, path)), strict=True
    ):
        assert three["n_orig_patches"] == 3 * one["n_orig_patches"]
        shown = re.search(rf">{one['class_name']}</td>.*?</tr>", page)
        assert shown is not None
        assert f'data-value="{one["n_orig_patches"]}.0"' in shown[0]
    assert f"fewer than {least} predicted patches" in page
    assert page.count('<tr class="few">') == 2
    chart = (path / "plots" / "target_other.svg").read_text()
    assert f"fewer than {least} predicted" in chart
