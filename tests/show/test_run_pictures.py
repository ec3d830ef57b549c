"""Pictures of run folders that real commands made; and runs that outlive a failed picture."""

import html
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from _pytest.capture import CaptureFixture
from pictures_made import drawing, picture
from PIL import Image
from run_folders import fill, make_folder, make_report
from terminal import Terminal, options
from worlds import World

from semseg_cli.experiment.examples import add_examples
from semseg_cli.runs.folder import RunFolder
from semseg_cli.runs.inference import Interval, bounds_text
from semseg_cli.runs.report import ClassResults, Report
from semseg_cli.runs.rows import csv_text, read_rows
from semseg_cli.show import charts
from semseg_cli.show.chart_style import DPI
from semseg_cli.show.run_pictures import add_all_pictures, add_pictures, dose_row
from semseg_cli.tracking.tracked_run import files_of

DRAWN = ["best_worst", "changes", "dose_response", "target_other"]


def both(*stems: str) -> list[str]:
    """Each picture as pixels and as lines."""
    return [f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")]


def folders_of(terminal: Terminal, world: World, *args: str) -> list[RunFolder]:
    """The run folders that a command left, not drawn yet."""
    fit = {"min_patches": "", "seg_ckpt": ""} if args[0] == "lookup" else {}
    done = terminal.type(*args, "--no-track", "--no-plots", *options(world, **fit))
    assert done.code == 0, done.err
    return [RunFolder(path) for path in terminal.runs()]


def names(folder: RunFolder, part: str) -> list[str]:
    return sorted(path.name for path in (folder.path / part).glob("*"))


def test_a_sweep_gets_all_pictures_and_a_page(terminal: Terminal, known_world: World) -> None:
    folders = folders_of(terminal, known_world, "auto-feat", "--scale=-3", "--scale=-1")
    add_all_pictures(folders)
    assert len(folders) == 2
    for folder in folders:
        assert names(folder, "plots") == both(*DRAWN)
        for stem in DRAWN:
            assert picture(folder.path / "plots" / f"{stem}.png").shape[1] >= 7 * DPI
            drawing(folder.path / "plots" / f"{stem}.svg")
        page = (folder.path / "report.html").read_text()
        assert page.count('src="data:image/svg+xml;base64,') == 4
        sent = {f"{at}/{path.name}" if at else path.name for path, at in files_of(folder)}
        assert {"report.html", *(f"plots/{name}" for name in both(*DRAWN))} <= sent


def test_a_page_of_150_classes_and_a_sweep_stays_below_5_mb(tmp_path: Path) -> None:
    folders, generator = [], np.random.default_rng(0)
    for scale in (-1.0, -2.0, -4.0):
        folder = make_folder(tmp_path, scale=scale)
        results = [
            ClassResults(i, f"class number {i}", 100, n := i % 99 + 1, 300, 9, {i % 150 + 1: n})
            for i in range(1, 151)
        ]
        fill(folder, Report("auto-feat", results, scale, n_images=4, n_patches=400))
        flows = [
            {"class_id": i, "class_name": f"class number {i}", "new_class_id": j,
             "new_class_name": f"class number {j}", "n_patches": i + j}
            for i in range(1, 151) for j in (i % 150 + 1, 3 * i % 150 + 1)
        ]  # fmt: skip
        pd.DataFrame(flows).to_parquet(folder.path / "change_matrix.parquet")
        folders.append(folder)
    first = folders[0].path
    for part in ("examples", "latents"):
        (first / part).mkdir()
    for i in range(20):
        picture = Image.fromarray(generator.integers(0, 255, (118, 450, 3), np.uint8))
        picture.resize((1800, 472), Image.Resampling.BICUBIC).save(first / f"examples/{i}.png")
    top = [
        {"class_id": i, "class_name": f"class number {i}", "latent": i, "rank": 1, "image": "a",
         "activation": 1.0, "split": "training", "n_images": 128}
        for i in range(1, 151)
    ]  # fmt: skip
    (first / "top_images.csv").write_text(csv_text(top), "utf-8")
    noise = Image.fromarray(generator.integers(0, 255, (196, 196, 3), np.uint8))
    for i in range(1, 151):
        noise.save(first / f"latents/{i}.jpg", quality=50)
    add_pictures(folders[0], [dose_row(folder) for folder in folders])
    page = (first / "report.html").read_text("utf-8")
    assert len(page) < 5_000_000
    (n_examples,) = map(int, re.findall(r"(\d+) more in the folder examples/\.", page))
    (n_latents,) = map(int, re.findall(r"(\d+) more classes: in ", page))
    assert 0 < n_examples < 20
    assert 0 < n_latents < 150
    assert page.count("data:image/jpeg") == 20 - n_examples + 150 - n_latents
    assert page.count("data:image/svg+xml") == len(DRAWN)


def test_a_single_run_has_no_curve(terminal: Terminal, known_world: World) -> None:
    (folder,) = folders_of(terminal, known_world, "rand-feat")
    add_all_pictures([folder])
    assert names(folder, "plots") == both("best_worst", "changes", "target_other")


def test_a_lookup_gets_a_page_only(terminal: Terminal, known_world: World) -> None:
    (folder,) = folders_of(terminal, known_world, "lookup")
    add_all_pictures([folder])
    assert names(folder, "plots") == []
    assert "Latents by class" in (folder.path / "report.html").read_text()


def test_the_page_of_a_real_run_shows_real_intervals(terminal: Terminal, tiny_world: World) -> None:
    (folder,) = folders_of(terminal, tiny_world, "auto-feat", "--scale=-2")
    add_pictures(folder)
    rows = read_rows(folder.path / "class_results.csv")
    page = (folder.path / "report.html").read_text()
    ends = [
        (Interval(row[key], row[f"{key}_lo"], row[f"{key}_hi"], None, 0, ""), row[key])
        for row in [*rows, dose_row(folder)]
        for key in ("target_change", "selectivity")
        if row.get(f"{key}_lo") is not None
    ]
    assert ends
    for interval, value in ends:
        assert interval.lo is not None
        assert interval.hi is not None
        assert interval.lo <= value <= interval.hi
        assert interval.lo < interval.hi
        assert html.escape(bounds_text(interval)) in page


# --- commands -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("drawn")
def test_a_command_draws_and_shows_examples(terminal: Terminal, known_world: World) -> None:
    args = ["auto-feat", "--scale=-3", "--scale=-1", "--examples", "1", "--no-track"]
    assert terminal.type(*args, *options(known_world)).code == 0
    for folder in map(RunFolder, terminal.runs()):
        assert names(folder, "plots") == both(*DRAWN)
        assert len(names(folder, "examples")) == 2
        n_latents = len(names(folder, "latents"))
        assert n_latents > 0
        page = (folder.path / "report.html").read_text()
        assert page.count("data:image/jpeg;base64,") == 2 + n_latents


def test_a_command_draws_nothing_where_it_is_told_so(
    terminal: Terminal, known_world: World
) -> None:
    (folder,) = folders_of(terminal, known_world, "auto-feat")
    assert not (folder.path / "plots").exists()
    assert not (folder.path / "report.html").exists()


@pytest.mark.usefixtures("drawn")
def test_a_lookup_makes_a_page(terminal: Terminal, known_world: World) -> None:
    args = options(known_world, min_patches="", seg_ckpt="")
    assert terminal.type("lookup", "--no-track", *args).code == 0
    assert (terminal.runs()[0] / "report.html").exists()


# --- failures -----------------------------------------------------------------------------------


def test_a_failed_picture_is_reported_and_the_others_are_made(
    terminal: Terminal,
    known_world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    (folder,) = folders_of(terminal, known_world, "rand-feat")

    def fail(*_args: Any) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr(charts, "class_figure", fail)
    add_all_pictures([folder])
    assert names(folder, "plots") == both("best_worst", "changes")
    assert (folder.path / "report.html").exists()
    said = " ".join(capsys.readouterr().err.split())
    assert "No picture target_other.png (RuntimeError: no ink): the results themselves" in said
    assert "Traceback" in caplog.text


def test_a_broken_file_costs_only_what_is_read_from_it(
    tmp_path: Path, capsys: CaptureFixture[str]
) -> None:
    folder = make_folder(tmp_path)
    for name in ("per_image", "change_matrix"):
        (folder.path / f"{name}.parquet").write_bytes(b"none")
    add_all_pictures([folder])
    assert names(folder, "plots") == both("best_worst", "target_other")
    assert "sand" in (folder.path / "report.html").read_text()
    assert "No picture changes.png" in capsys.readouterr().err


def test_a_run_of_the_only_class_draws_what_it_can(
    tmp_path: Path, capsys: CaptureFixture[str]
) -> None:
    folder = make_folder(tmp_path)
    alone = ClassResults(1, "sand", 400, 90, 0, 0, {2: 90})
    fill(folder, replace(make_report(), class_results=[alone]))
    add_all_pictures([folder])
    assert names(folder, "plots") == both("target_other")
    assert "TypeError" not in capsys.readouterr().err
    assert "sand" in (folder.path / "report.html").read_text()


def test_failed_examples_are_reported(tmp_path: Path, capsys: CaptureFixture[str]) -> None:
    nothing: Any = None
    add_examples(make_folder(tmp_path), nothing, nothing, 1)
    assert "No examples (AttributeError" in capsys.readouterr().err


def test_an_interrupt_is_not_swallowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(charts, "class_figure", interrupt)
    with pytest.raises(KeyboardInterrupt):
        add_pictures(make_folder(tmp_path))
