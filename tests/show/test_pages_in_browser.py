"""Pages of runs in a real browser: sorted by mouse and keyboard, light and dark, on a telephone."""

from pathlib import Path

import pytest
from browser import Browser, assert_readable
from run_folders import fill, make_folder
from terminal import Terminal, options
from worlds import World

from semseg_cli.runs.folder import RunFolder
from semseg_cli.runs.report import ClassResults, Report
from semseg_cli.runs.rows import read_rows
from semseg_cli.show.run_pictures import add_all_pictures

FIRST_COLUMN = """Array.from(document.querySelector("table").tBodies[0].rows,
  row => row.cells[0].textContent)"""
SIZES = '[document.querySelector(".wide").clientWidth, document.querySelector(".wide").scrollWidth]'
HINT = 'getComputedStyle(document.querySelector(".wide + figcaption"), "::before").content'
HEAD = 'document.querySelectorAll("thead th")[{}].querySelector("button")'
NUMBERS = [("few", 9, 9), ("class 2", 100, 10), ("class 10", 100, 90), ("empty", 0, 0)]


def column(browser: Browser, number: int) -> list[str]:
    """The names of the classes after a press on the head of a column of the first table."""
    browser.ask(f"{HEAD.format(number)}.click()")
    found = browser.ask(FIRST_COLUMN)
    assert isinstance(found, list)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run with a class of few patches, one without any, and a warning."""
    made = make_folder(tmp_path)
    results = [
        ClassResults(i, name, n, changed, 300, 12, {2: changed} if changed else {})
        for i, (name, n, changed) in enumerate(NUMBERS, start=1)
    ]
    fill(made, Report("auto-feat", results, -2.0, n_images=4, n_patches=400, min_patches=50))
    log = "2026-01-01 10:00:00,000 WARNING The head is another one's.\n"
    (made.path / "log.txt").write_text(log, "utf-8")
    add_all_pictures([made])
    return made


@pytest.mark.usefixtures("drawn")
def test_the_page_of_a_real_run_is_readable(
    terminal: Terminal, known_world: World, browser: Browser
) -> None:
    args = ["auto-feat", "--scale=-3", "--scale=-1", "--examples", "1", "--no-track"]
    assert terminal.type(*args, *options(known_world)).code == 0
    folder = terminal.runs()[0]
    assert_readable(browser, folder / "report.html")
    rows = read_rows(folder / "class_results.csv")
    names = sorted(str(row["class_name"]) for row in rows)
    assert column(browser, 0) == names
    assert column(browser, 0) == names[::-1]
    by_latent = sorted(rows, key=lambda row: (-row["latent"], row["class_id"]))
    assert column(browser, 1) == [row["class_name"] for row in by_latent]


def test_numbers_are_sorted_as_numbers_and_few_patches_stay_last(
    folder: RunFolder, browser: Browser
) -> None:
    browser.open(folder.path / "report.html")
    heads = browser.ask('Array.from(document.querySelectorAll("thead th"), h => h.textContent)')
    assert browser.ask(FIRST_COLUMN) == ["class 10", "class 2", "few", "empty"]
    assert column(browser, heads.index("class")) == ["class 2", "class 10", "empty", "few"]
    target = heads.index("target")
    assert column(browser, target) == ["class 10", "class 2", "few", "empty"]
    assert column(browser, target) == ["class 2", "class 10", "few", "empty"]
    said = "Array.from(document.querySelectorAll('thead th'), h => h.getAttribute('aria-sort'))"
    assert browser.ask(said)[target] == "ascending"


def test_a_table_is_sorted_by_keyboard(folder: RunFolder, browser: Browser) -> None:
    browser.open(folder.path / "report.html")
    browser.ask(f"{HEAD.format(0)}.focus()")
    browser.press("Enter", 13)
    assert browser.ask(FIRST_COLUMN) == ["class 2", "class 10", "empty", "few"]


def test_charts_that_a_telephone_does_not_hold_keep_their_size_and_say_that_they_scroll(
    folder: RunFolder, browser: Browser
) -> None:
    add_all_pictures([folder])
    for width, is_told in ((400, True), (1280, False)):
        browser.open(folder.path / "report.html", width=width)
        box, drawn = browser.ask(SIZES)
        assert (drawn > box) == is_told
        assert ("Scroll sideways" in browser.ask(HINT)) == is_told


def test_warnings_stand_above_everything(folder: RunFolder, browser: Browser) -> None:
    browser.open(folder.path / "report.html", width=400)
    assert browser.ask('document.querySelector(".warnings").textContent') == (
        "The head is another one's."
    )
    first = 'document.querySelector("header").nextElementSibling.className'
    assert browser.ask(first) == "warnings"


def test_a_broken_page_is_noticed(tmp_path: Path, browser: Browser) -> None:
    for name, body in (
        ("wide", '<div style="width: 900px">x</div>'),
        ("script", "<script>throw Error('x')</script>"),
        ("picture", '<img src="none.png" alt="none">'),
        ("bright", "<p>white in the dark</p>"),
    ):
        page = tmp_path / f"{name}.html"
        page.write_text(f"<style>body {{ background: #ffffff }}</style>{body}", "utf-8")
        with pytest.raises(AssertionError):
            assert_readable(browser, page)
