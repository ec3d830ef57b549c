"""Differences between runs, p values against draws, intervals: what artifacts add to rows."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from run_folders import fill, make_folder, make_report, write_draws

from semseg_cli.commands.compare.command import compare
from semseg_cli.commands.compare.notes import warnings
from semseg_cli.commands.compare.uncertainty import SAME, Artifacts, pair, run_values
from semseg_cli.commands.compare.which_runs import Candidates
from semseg_cli.runs import bootstrap
from semseg_cli.runs.folder import RunFolder
from semseg_cli.runs.per_image import COUNTED
from semseg_cli.runs.report import ClassResults, Report
from semseg_cli.settings.compare import Compare
from semseg_cli.show.tables import Table
from semseg_cli.tracking.store_address import local_path
from semseg_cli.tracking.tracked_run import TrackedRun, from_folder

IMAGES = tuple(f"image_{i}" for i in range(40))


def counts_of(seed: int, rate: float, n_classes: int = 3) -> np.ndarray:
    """Counts [images, classes, 4] of 64 patches per image."""
    shared, own = np.random.default_rng(1), np.random.default_rng(seed)
    orig = shared.multinomial(64, shared.dirichlet(np.ones(n_classes), len(IMAGES)))
    rates = np.clip(rate + shared.normal(0, 0.1, (len(IMAGES), 1)), 0, 1)
    other = 64 - orig
    changed, rest = own.binomial(orig, rates), own.binomial(other, 0.1)
    return np.stack([orig, changed, other, rest], axis=-1)


def parquet(counts: np.ndarray, images: Sequence[str], class_ids: Sequence[int]) -> bytes:
    columns: dict[str, Any] = {
        "image": np.repeat(images, len(class_ids)),
        "class_id": np.tile(class_ids, len(images)),
    }
    columns |= {name: counts[..., i].ravel() for i, name in enumerate(COUNTED)}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue().to_pybytes())


def report_of(counts: np.ndarray, class_ids: Sequence[int], base: Report) -> Report:
    rows = [
        ClassResults(class_id, f"class {class_id}", n_orig, n_changed, n_other, n_rest, {})
        for class_id, (n_orig, n_changed, n_other, n_rest) in zip(
            class_ids, counts.sum(axis=0).tolist(), strict=True
        )
    ]
    return replace(base, class_results=rows, n_images=len(counts), n_patches=64 * len(counts))


def made(
    root: Path,
    command: str,
    counts: np.ndarray,
    images: Sequence[str] = IMAGES,
    class_ids: Sequence[int] = (1, 2, 3),
    **report: Any,
) -> RunFolder:
    """A run folder with these counts."""
    folder = make_folder(root, command)
    whole = report_of(counts, class_ids, replace(make_report(command), **report))
    fill(folder, whole)
    (folder.path / "per_image.parquet").write_bytes(parquet(counts, images, class_ids))
    return folder


def compared(*folders: RunFolder, **settings: Any) -> Table:
    return compare(Compare(**settings), [str(folder.path) for folder in folders])


AUTO, CONTROL = counts_of(2, 0.8), counts_of(3, 0.3)


def test_a_row_holds_the_paired_difference_of_pooled_counts(tmp_path: Path) -> None:
    table = compared(made(tmp_path, "auto-feat", AUTO), made(tmp_path, "rand-feat", CONTROL))
    one, other = (counts.sum(axis=1, keepdims=True) for counts in (AUTO, CONTROL))
    expected = bootstrap.differences(one, other)
    row, baseline = table.rows
    for name in bootstrap.MEASURES:
        want = expected[name][0]
        assert row[f"{name}_difference"] == pytest.approx(want.value)
        assert row[f"{name}_difference_lo"] == pytest.approx(want.lo)
        assert row[f"{name}_difference_hi"] == pytest.approx(want.hi)
        assert row[f"{name}_p"] == want.p_value
    assert row["selectivity_difference"] == pytest.approx(
        row["selectivity"] - baseline["selectivity"]
    )
    assert row["baseline"] == "rand-feat x-2"
    assert "selectivity_difference" not in baseline


def test_intervals_are_computed_where_none_were_logged(tmp_path: Path) -> None:
    (row,) = compared(made(tmp_path, "auto-feat", AUTO)).rows
    for name, value in bootstrap.intervals(AUTO, 50).items():
        assert row[name] == pytest.approx(value)


def test_logged_intervals_are_shown_as_they_are_and_nothing_is_read(tmp_path: Path) -> None:
    ends = {"selectivity_lo": 0.125, "selectivity_hi": 0.25}
    folder = made(tmp_path, "auto-feat", AUTO, extra=ends)
    (folder.path / "per_image.parquet").unlink()
    table = compared(folder)
    assert {name: table.rows[0][name] for name in ends} == ends
    assert "target_change_lo" not in table.rows[0]
    assert not any("cannot be read" in note for note in table.notes)


def test_images_are_paired_by_name_not_by_place(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(len(IMAGES))
    straight = made(tmp_path, "rand-feat", CONTROL)
    mixed = made(tmp_path, "rand-feat", CONTROL[order], [IMAGES[i] for i in order])
    auto = made(tmp_path, "auto-feat", AUTO)
    rows = [compared(auto, other).rows[0] for other in (straight, mixed)]
    assert rows[0]["selectivity_difference_lo"] == rows[1]["selectivity_difference_lo"]


def test_differences_are_over_the_classes_that_both_runs_have(tmp_path: Path) -> None:
    auto = made(tmp_path, "auto-feat", AUTO[:, :2], class_ids=(1, 3))
    control = made(tmp_path, "rand-feat", CONTROL)
    table = compared(auto, control)
    one, other = AUTO[:, [0, 1]].sum(axis=(0, 1)), CONTROL[:, [0, 2]].sum(axis=(0, 1))
    want = bootstrap.measures(one)["selectivity"] - bootstrap.measures(other)["selectivity"]
    assert table.rows[0]["selectivity_difference"] == pytest.approx(float(want))
    assert any("For auto-feat x-2 over the classes that both have" in n for n in table.notes)


@pytest.mark.parametrize("tag", [*SAME, "protocol"])
def test_unlike_runs_get_no_paired_test_and_the_caption_says_so(tmp_path: Path, tag: str) -> None:
    auto, control = made(tmp_path, "auto-feat", AUTO), made(tmp_path, "rand-feat", CONTROL)
    runs = [from_folder(folder) for folder in (auto, control)]
    runs[0] = replace(runs[0], tags={**runs[0].tags, f"semseg.{tag}": "another"})
    baselines = {run.run_id: runs[1] for run in runs}
    assert pair(runs[0], runs[1], Artifacts()) is None
    values = run_values(runs, baselines, Artifacts(), 200)
    assert not any("difference" in key for key in values[runs[0].run_id])
    notes = warnings(Candidates(tuple(runs), baselines=baselines), ["a", "b"])
    assert any("No paired test for a." in note for note in notes)


def test_runs_on_other_images_are_not_paired_even_if_their_tags_agree(tmp_path: Path) -> None:
    auto = made(tmp_path, "auto-feat", AUTO)
    control = made(tmp_path, "rand-feat", CONTROL, [f"other_{i}" for i in range(len(IMAGES))])
    assert "selectivity_difference" not in compared(auto, control).rows[0]


@pytest.mark.parametrize("damage", ["missing", "broken"])
def test_a_missing_artifact_takes_nothing_from_the_rest(tmp_path: Path, damage: str) -> None:
    auto, control = made(tmp_path, "auto-feat", AUTO), made(tmp_path, "rand-feat", CONTROL)
    path = control.path / "per_image.parquet"
    path.unlink() if damage == "missing" else path.write_bytes(b"PAR1")
    table = compared(auto, control)
    assert "selectivity_lo" in table.rows[0]
    assert "selectivity_difference" not in table.rows[0]
    assert (
        "per_image.parquet of rand-feat x-2 cannot be read: no differences, and no intervals that "
        "were not logged."
    ) in table.notes


def drawn(root: Path, n_draws: int = 19) -> RunFolder:
    """A control whose selectivity grows from draw to draw: 0, .01, .02, ..."""
    counts = np.zeros((n_draws, 3, 4), dtype=np.int64)
    counts[..., 0] = counts[..., 2] = 1000
    counts[..., 1] = 10 * np.arange(n_draws)[:, None]
    folder = made(root, "rand-feat", CONTROL, n_draws=n_draws)
    write_draws(folder, counts, (1, 2, 3))
    return folder


def test_a_run_is_judged_against_the_draws_of_its_baseline(tmp_path: Path) -> None:
    table = compared(made(tmp_path, "auto-feat", AUTO), drawn(tmp_path))
    assert table.rows[0]["p_draws"] == 1 / 20
    assert "p_draws" not in table.rows[1]
    low, high = np.percentile(np.arange(19) / 100, [2.5, 97.5])
    assert (
        f"Of the 19 draws of rand-feat x-2 (median selectivity 0.090, 95% from {low:.3f} to "
        f"{high:.3f}) 0 do as well as auto-feat x-2 (p 0.050)."
    ) in table.notes


def test_a_run_no_better_than_the_draws_is_told_so(tmp_path: Path) -> None:
    weak = AUTO.copy()
    weak[..., 1] = 0
    table = compared(made(tmp_path, "auto-feat", weak), drawn(tmp_path))
    assert table.rows[0]["p_draws"] == 1.0


def test_pooled_draws_do_where_there_are_none_by_class(tmp_path: Path) -> None:
    folder = drawn(tmp_path)
    counts = np.array([[[100, 10 * draw, 100, 0]] for draw in range(4)])
    write_draws(folder, counts, (0,))
    table = compared(made(tmp_path, "auto-feat", AUTO), folder)
    assert table.rows[0]["p_draws"] == 1 / 5


def test_missing_draws_are_noted(tmp_path: Path) -> None:
    folder = drawn(tmp_path)
    (folder.path / "draws.csv").unlink()
    table = compared(made(tmp_path, "auto-feat", AUTO), folder)
    assert "p_draws" not in table.rows[0]
    assert "draws.csv of rand-feat x-2 cannot be read: no p value against the draws." in table.notes


def test_draws_are_read_from_a_store_too(tmp_path: Path) -> None:
    run = from_folder(drawn(tmp_path))
    artifacts = tmp_path / "artifacts" / "results"
    artifacts.mkdir(parents=True)
    (artifacts / "draws.csv").write_bytes((Path(run.source) / "draws.csv").read_bytes())
    stored = TrackedRun(
        run.run_id, run.name, run.experiment, run.status, run.started, "sqlite:///none.db",
        metrics=run.metrics, artifacts=artifacts.parent.as_uri(),
    )  # fmt: skip
    assert Artifacts().null_range(stored) == Artifacts().null_range(run)


@pytest.mark.parametrize(
    ("uri", "path"),
    [("file:///a%20b/c", "/a b/c"), ("/a/b", "/a/b"), ("", None), ("mlflow-artifacts:/1/2", None),
     ("s3://bucket/x", None), ("file://elsewhere/a", None)],
)  # fmt: skip
def test_artifacts_on_this_machine_are_read_in_place(uri: str, path: str | None) -> None:
    assert local_path(uri) == (Path(path) if path else None)
