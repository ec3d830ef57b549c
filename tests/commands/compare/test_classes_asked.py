"""Runs of some classes alone: what a table with them is over, and when they are in one."""

from dataclasses import replace
from pathlib import Path

import mlflow_store as stores
import numpy as np
import pytest
from run_folders import fill, make_folder, make_report
from test_uncertainty import AUTO, CONTROL, compared, in_order, made

from semseg_cli import tracking
from semseg_cli.commands.compare.command import compare
from semseg_cli.commands.compare.over_classes import over_what
from semseg_cli.commands.compare.run_kinds import classes_asked, kind
from semseg_cli.runs.folder import RunFolder
from semseg_cli.runs.inference import macro_differences
from semseg_cli.settings.compare import Compare
from semseg_cli.show.run_tables import summary_table
from semseg_cli.tracking.tracked_run import from_folder


def of_class(root: Path, asked: str, changed: int = 90) -> RunFolder:
    """A run of sand alone, by what the user called it."""
    folder = make_folder(root, settings=f'select = "f1"\nclass = ["{asked}"]\n', changed=changed)
    report = make_report(changed=changed)
    fill(folder, replace(report, class_results=report.class_results[:1]))
    return folder


@pytest.fixture
def store(tmp_path: Path) -> tuple[str, list[str]]:
    """A store with two runs of all classes and, newer, two of one; and the ids in that order."""
    uri = stores.new_store(tmp_path)
    root = tmp_path / "runs"
    whole = [make_folder(root), make_folder(root, "rand-feat", changed=10)]
    folders = [*whole, of_class(root, "sand", 50), of_class(root, "Sand", 60)]
    return uri, [stores.stored(uri, one).meta["mlflow_run_id"] for one in folders]


def test_a_run_of_one_class_narrows_no_table_in_which_it_is_not_named(
    store: tuple[str, list[str]],
) -> None:
    uri, ids = store
    for last in (None, 9):
        table = compare(Compare(tracking_uri=uri, last=last))
        assert [row["run_id"] for row in table.rows] == ids[:2]
        assert table.title == "2 runs of experiment semseg: 4 images, 2 classes"
        (note,) = [note for note in table.notes if "left out" in note]
        assert note == ("Runs left out: 2 of some classes (Sand, sand: name them, or --per-class).")


def test_a_named_run_of_one_class_narrows_every_column_of_the_table(
    store: tuple[str, list[str]],
) -> None:
    uri, ids = store
    table = compare(Compare(tracking_uri=uri), [ids[0], ids[1], ids[2]])
    title = "3 runs of experiment semseg: 4 images, the 1 class that all runs have"
    assert table.title == title
    end = tracking.find_run(uri, ids[0]).short_id
    assert table.notes[0] == (
        f"Over the classes that all runs have: auto-feat x-2 ({end}) has 2, rand-feat x-2 has 2."
    )
    whole, _, one = table.rows
    assert whole["macro_target_change"] == 0.9
    assert whole["other_change"] == one["other_change"] == 12 / 300
    assert whole["target_std"] == one["target_std"] == 0.0


def test_where_no_run_is_of_all_classes_those_of_some_are_shown(tmp_path: Path) -> None:
    uri = stores.new_store(tmp_path)
    for asked in ("sand", "Sand"):
        stores.stored(uri, of_class(tmp_path / "runs", asked))
    (row,) = compare(Compare(tracking_uri=uri)).rows
    assert row["n_classes"] == 1


def test_rows_of_classes_hold_the_runs_of_one_class_too(store: tuple[str, list[str]]) -> None:
    uri, ids = store
    table = compare(Compare(tracking_uri=uri, per_class=True))
    names = {key.split(": ")[0] for row in table.rows for key in row if ": " in key}
    ends = [tracking.find_run(uri, ids[i]).short_id for i in (0, 3)]
    assert names == {"rand-feat x-2", *(f"auto-feat x-2 ({end})" for end in ends)}


def test_a_class_is_the_same_however_it_was_typed(tmp_path: Path) -> None:
    runs = [from_folder(of_class(tmp_path, asked)) for asked in ("sand", "Sand")]
    assert kind(runs[0]) == kind(runs[1]) != kind(from_folder(make_folder(tmp_path)))
    assert classes_asked(runs[1]) == {"sand"}
    both = replace(runs[0], params={"class": "sea, Sand"})
    assert classes_asked(both) == {"sand", "sea"}


def test_runs_without_a_class_in_common_say_so(tmp_path: Path) -> None:
    folders = [made(tmp_path, "auto-feat", AUTO[:, k : k + 1], class_ids=[k + 1]) for k in range(2)]
    table = compared(*folders)
    assert table.title.endswith(": 40 images, 1 class each, not the same")


def test_a_difference_is_over_the_classes_of_its_row_or_there_is_none(tmp_path: Path) -> None:
    """Three runs share nothing, two of them a class: each row is over its own classes."""
    both = made(tmp_path, "auto-feat", AUTO[:, :2], class_ids=[1, 2])
    one = made(tmp_path, "mean-diff", CONTROL[:, :1], class_ids=[1])
    other = made(tmp_path, "ablate", CONTROL[:, 1:2], class_ids=[2])
    table = compared(both, one, other, baseline=str(one.path))
    assert "macro_selectivity_difference" not in table.rows[0]
    notes = [note for note in table.notes if note.startswith("Not paired with mean-diff x-2")]
    assert notes == [
        "Not paired with mean-diff x-2: auto-feat x-2 (fewer classes), ablate x-2 (no class in "
        "common).",
    ]
    pair = compared(both, one, baseline=str(one.path)).rows[0]
    want = macro_differences(in_order(AUTO)[:, :1], in_order(CONTROL)[:, :1])["selectivity"]
    assert pair["macro_selectivity_difference"] == want.interval.value


@pytest.mark.parametrize(
    ("rows", "classes", "words"),
    [
        ([], [], ""),
        ([{"n_images": 1, "n_classes": 1}], [], "1 image, 1 class"),
        ([{"n_images": 40, "n_classes": 3}, {"n_images": 101, "n_classes": 3}], [[1], [1]],
         "40-101 images, 3 classes"),
        ([{"n_images": 4, "n_classes": 3, "n_classes_compared": 2}], [[1, 2]],
         "4 images, the 2 classes that all runs have"),
        ([{"n_images": 4, "n_classes": 2}, {"n_images": 4, "n_classes": 3}], [[1, 2], [3, 4, 5]],
         "4 images, 2-3 classes each, not the same"),
    ],
)  # fmt: skip
def test_what_numbers_are_over_in_words(
    rows: list[dict[str, int]], classes: list[list[int]], words: str
) -> None:
    assert over_what(rows, classes) == words


def test_classes_without_a_latent_are_told_from_those_that_numbers_are_over() -> None:
    rows = [{"n_images": 101, "n_classes": 10}]
    assert over_what(rows, [[1]], 11) == "101 images, 10 of 11 classes"
    assert over_what(rows, [[1]], 10) == "101 images, 10 classes"
    assert over_what([{"n_images": 1, "n_classes": 1}], [], 2) == "1 image, 1 of 2 classes"


def test_a_comparison_counts_classes_as_the_runs_do(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    fill(folder, replace(folder.report(), no_latent=["pole"]))
    assert compared(folder).title.endswith(": 4 images, 2 of 3 classes")
    (note,) = (n for n in summary_table({"a": folder.report()}).notes if n.startswith("Protocol"))
    assert "4 images, 2 of 3 classes." in note


def test_runs_on_other_images_show_how_many_each_class_has(tmp_path: Path) -> None:
    few = np.ascontiguousarray(AUTO[:25])
    fewer = made(tmp_path, "auto-feat", few, [f"image_{i}" for i in range(25)])
    fewer.update(datasets=[{**one, "digest": "0" * 64} for one in fewer.meta["datasets"]])
    table = compared(made(tmp_path, "mean-diff", CONTROL), fewer, per_class=True, sort="-class_id")
    in_few, in_all = (int((c[..., 0, 0] > 0).sum()) for c in (few, CONTROL))
    row = table.rows[0]
    assert (row["auto-feat x-2: n_class_images"], row["mean-diff x-2: n_class_images"]) == (
        in_few, in_all
    )  # fmt: skip
    assert row["n_class_images_range"] == f"{in_few}-{in_all}"
    assert "n_class_images" not in row
    assert [column.header for column in table.columns][1:3] == ["images", "patches"]
    asked = compared(
        *[made(tmp_path, "mean-diff", CONTROL), fewer], classes=["1"], columns="images"
    )
    assert [column.key for column in asked.columns][1:] == [
        "mean-diff x-2: n_class_images", "auto-feat x-2: n_class_images"
    ]  # fmt: skip
