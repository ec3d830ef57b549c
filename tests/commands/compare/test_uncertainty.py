"""Differences between runs, their tests, intervals: what artifacts add to rows."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from run_folders import fill, make_folder, make_report, write_draws

from semseg_cli.commands.compare.artifacts import Artifacts
from semseg_cli.commands.compare.command import compare
from semseg_cli.commands.compare.like_with_like import SAME, Units, pair
from semseg_cli.commands.compare.notes import warnings
from semseg_cli.commands.compare.uncertainty import run_values
from semseg_cli.commands.compare.which_runs import Candidates
from semseg_cli.runs.folder import RunFolder
from semseg_cli.runs.inference import (
    MEASURES,
    control_differences,
    holm,
    macro_differences,
    pooled_differences,
)
from semseg_cli.runs.interval_rows import run_entries
from semseg_cli.runs.per_image import COUNTED
from semseg_cli.runs.report import ClassResults, Report
from semseg_cli.settings.compare import Compare
from semseg_cli.show.tables import Table, render
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
    # An order or a number of rows makes a table of runs even of two.
    return compare(Compare(**{"top": 99, **settings}), [str(folder.path) for folder in folders])


AUTO, CONTROL = counts_of(2, 0.8), counts_of(3, 0.3)


def in_order(counts: np.ndarray) -> np.ndarray:
    """The counts in the order of the images' names, in which they are tested."""
    return counts[np.argsort(IMAGES)]


def test_a_row_holds_the_paired_differences_of_macro_and_pooled_numbers(tmp_path: Path) -> None:
    folders = made(tmp_path, "auto-feat", AUTO), made(tmp_path, "mean-diff", CONTROL)
    table = compared(*folders, baseline="mean-diff")
    row, baseline = table.rows
    one, other = in_order(AUTO), in_order(CONTROL)
    expected = {f"macro_{name}": d for name, d in macro_differences(one, other).items()}
    expected |= pooled_differences(one, other)
    for name, want in expected.items():
        assert row[f"{name}_difference"] == want.interval.value
        assert row[f"{name}_difference_lo"] == want.interval.lo
        assert row[f"{name}_difference_hi"] == want.interval.hi
        assert row[f"{name}_p"] == row[f"{name}_p_adjusted"] == want.test.p
        assert row[f"{name}_difference_mark"] == want.mark
        assert row[f"{name}_p_method"] == "flip"
        assert row[f"{name}_difference"] == pytest.approx(row[name] - baseline[name])
    assert row["macro_selectivity_difference_mark"] == "*"
    assert row["baseline"] == "mean-diff x-2"
    assert "selectivity_difference" not in baseline


def test_p_values_are_corrected_over_the_runs(tmp_path: Path) -> None:
    runs = [made(tmp_path, "auto-feat", counts_of(seed, 0.33)) for seed in (5, 6, 7)]
    rows = compared(*runs, made(tmp_path, "mean-diff", CONTROL), baseline="mean-diff").rows[:3]
    raw = [row["macro_selectivity_p"] for row in rows]
    assert [row["macro_selectivity_p_adjusted"] for row in rows] == holm(raw)
    assert holm(raw) != raw


def test_numbers_and_their_intervals_are_those_of_the_images(tmp_path: Path) -> None:
    (row,) = compared(made(tmp_path, "auto-feat", AUTO)).rows
    for name, value in run_entries(in_order(AUTO), 50).items():
        assert row[name] == value


def test_without_counts_logged_intervals_are_shown(tmp_path: Path) -> None:
    ends = {"selectivity_lo": 0.125, "selectivity_hi": 0.25}
    folder = made(tmp_path, "auto-feat", AUTO, extra=ends)
    (folder.path / "per_image.parquet").unlink()
    table = compared(folder)
    assert {name: table.rows[0][name] for name in ends} == ends
    assert "target_change_lo" not in table.rows[0]


def test_groups_of_images_are_the_samples(tmp_path: Path) -> None:
    named = [f"{'abcdefgh'[i % 8]}_{i}" for i in range(len(IMAGES))]
    folders = [
        made(tmp_path, "auto-feat", AUTO, named),
        made(tmp_path, "mean-diff", CONTROL, named),
    ]
    table = compared(*folders, baseline="mean-diff", group_by="^.")
    row = table.rows[0]
    assert row["macro_selectivity_n_images"] == row["n_groups"] == 8
    one, other = (np.stack([c[i::8].sum(axis=0) for i in range(8)]) for c in (AUTO, CONTROL))
    want = macro_differences(one, other)["selectivity"]
    assert row["macro_selectivity_difference_lo"] == want.interval.lo
    assert row["macro_selectivity_p"] == want.test.p
    assert "8 groups of images, each taken as one sample (--group-by)." in table.notes
    plain = compared(*folders, baseline="mean-diff")
    assert any("--group-by" in note and "8 groups" in note for note in plain.notes)


def test_groups_of_a_table_leave_no_interval_over_images(tmp_path: Path) -> None:
    """What the run logged is over images; with sums per image it is made anew, else left out."""
    ends = {"damage": 0.5, "damage_lo": 0.25, "damage_hi": 0.75, "edit_ratio": 0.5}
    folder = made(tmp_path, "auto-feat", AUTO, extra=ends)
    plain, grouped = (compared(folder, group_by=by).rows[0] for by in (None, "^image_."))
    assert (plain["damage_lo"], plain["damage"], grouped["damage"]) == (0.25, 0.5, 0.5)
    assert "damage_lo" not in grouped
    table = compared(folder, group_by="^image_")
    assert table.rows[0]["macro_selectivity"] is None
    assert {
        "macro: 0 of 3 classes; not 3 in fewer than 3 groups (class 1, class 2, class 3).",
        "1 group of images, taken as one sample (--group-by). An interval takes 5: give a pattern "
        "that tells more apart by names (image_0, ..., image_9), or FILE.csv:COLUMN.",
    } <= set(table.notes)
    assert "1 group" in render(table)
    assert "1 groups" not in render(table)


def test_the_caption_says_what_makes_intervals_of_differences_wider(tmp_path: Path) -> None:
    auto, plain = made(tmp_path, "auto-feat", AUTO), made(tmp_path, "mean-diff", CONTROL)
    many = tuple(range(1, 13))
    once = [
        made(tmp_path, command, counts_of(seed, rate, 12), class_ids=many)
        for command, seed, rate in (("auto-feat", 2, 0.8), ("rand-feat", 3, 0.3))
    ]
    wider = "same images; its [ ] is over other draws too, so wider."
    said = (
        ("same images; its [ ] is over the images under both.", [auto, plain]),
        (wider, [auto, drawn(tmp_path)]),
        (wider, once),
    )
    for words, folders in said:
        baseline = {"baseline": "mean-diff"} if plain in folders else {}
        assert any(note.endswith(words) for note in compared(*folders, **baseline).notes)


def test_an_edit_of_another_length_gets_no_p(tmp_path: Path) -> None:
    auto = made(tmp_path, "auto-feat", AUTO, edit_norm=12.5)
    for length, is_tested in ((11.3, True), (11.2, False), (13.8, True), (14.0, False)):
        other = made(tmp_path, "mean-diff", CONTROL, edit_norm=length)
        table = compared(auto, other, baseline="mean-diff")
        row = table.rows[0]
        assert (row["macro_selectivity_p"] is not None) == is_tested
        assert row["macro_selectivity_difference_lo"] is not None
        why = f"No p for auto-feat x-2: not matched in length (12.500 vs {length:.3f})."
        assert (why in table.notes) != is_tested


def test_several_baselines_are_counted_and_named_in_one_note(tmp_path: Path) -> None:
    kinds = (("auto-feat", 1.0), ("mean-diff", 2.0), ("rand-feat", 1.0), ("rand-feat", 2.0))
    counts = {"auto-feat": AUTO, "mean-diff": AUTO, "rand-feat": CONTROL}
    runs = [made(tmp_path, one, counts[one], edit_norm=length) for one, length in kinds]
    short, long = (f"rand-feat x-2 (run {run.path.name[-4:]}, seed 42)" for run in runs[2:])
    own = f"rand-feat x-2 ({runs[3].path.name[-4:]})"  # the other control's is the first of them
    said = (
        f"the nearest of 2 baselines ({short} for auto-feat x-2, {own}; {long} for mean-diff x-2)"
    )
    (note,) = (one for one in compared(*runs).notes if "baselines" in one)
    assert f"minus that of {said}, same images" in note
    assert f"Compared to {said}." in compared(*runs, per_class=True).notes


def test_pooled_and_macro_that_disagree_on_an_order_are_named(tmp_path: Path) -> None:
    large, small = AUTO.copy(), AUTO.copy()
    large[:, 2, 1] = large[:, 2, 0]
    large[:, :2, 1] //= 2
    small[:, 2, 1] = 0
    small[:, :2, 1] = small[:, :2, 0]
    for counts in (large, small):
        counts[:, 2, :2] *= 20
    table = compared(made(tmp_path, "auto-feat", large), made(tmp_path, "mean-diff", small))
    assert (
        "Pooled and macro selectivity disagree on the order of auto-feat x-2 and mean-diff x-2."
    ) in table.notes


def test_images_are_paired_by_name_not_by_place(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(len(IMAGES))
    straight = made(tmp_path, "mean-diff", CONTROL)
    mixed = made(tmp_path, "mean-diff", CONTROL[order], [IMAGES[i] for i in order])
    auto = made(tmp_path, "auto-feat", AUTO)
    tables = [compared(auto, other, baseline="mean-diff") for other in (straight, mixed)]
    for key in ("macro_selectivity_difference_lo", "selectivity_p"):
        assert tables[0].rows[0][key] == tables[1].rows[0][key]


def test_all_numbers_are_over_the_classes_that_all_runs_have(tmp_path: Path) -> None:
    auto = made(tmp_path, "auto-feat", AUTO[:, :2], class_ids=(1, 3))
    control = made(tmp_path, "mean-diff", CONTROL)
    table = compared(auto, control, baseline="mean-diff")
    expected = run_entries(in_order(CONTROL)[:, [0, 2]], 50)
    assert {key: table.rows[1][key] for key in expected} == expected
    want = macro_differences(in_order(AUTO)[:, :2], in_order(CONTROL)[:, [0, 2]])["selectivity"]
    assert table.rows[0]["macro_selectivity_difference"] == want.interval.value
    assert table.title.endswith(": 40 images, the 2 classes that all runs have")
    assert table.notes[0] == "Over the classes that all runs have: mean-diff x-2 has 3."
    assert "edit_norm" not in table.rows[1]  # its sums were not kept: not known of these classes


@pytest.mark.parametrize("tag", [*SAME, "protocol"])
def test_unlike_runs_get_no_paired_test_and_the_caption_says_so(tmp_path: Path, tag: str) -> None:
    auto, control = made(tmp_path, "auto-feat", AUTO), made(tmp_path, "rand-feat", CONTROL)
    runs = [from_folder(folder) for folder in (auto, control)]
    runs[0] = replace(runs[0], tags={**runs[0].tags, f"semseg.{tag}": "another"})
    baselines = {run.run_id: runs[1] for run in runs}
    assert pair(runs[0], runs[1], Artifacts(), Units()) is None
    values = run_values(Candidates(tuple(runs), baselines=baselines), Artifacts(), Units())
    assert not any("difference" in key for key in values[runs[0].run_id])
    notes = warnings(Candidates(tuple(runs), baselines=baselines), ["a", "b"], Artifacts())
    why = {"digest.evaluation": "other images", "protocol": "another protocol"}
    expected = why.get(tag, f"another {SAME.get(tag)}")
    assert f"Not paired with rand-feat x-2: a ({expected})." in notes


def test_runs_on_other_images_are_not_paired_even_if_their_tags_agree(tmp_path: Path) -> None:
    auto = made(tmp_path, "auto-feat", AUTO)
    control = made(tmp_path, "rand-feat", CONTROL, [f"other_{i}" for i in range(len(IMAGES))])
    table = compared(auto, control)
    assert "selectivity_difference" not in table.rows[0]
    assert "Not paired with rand-feat x-2: auto-feat x-2 (other images by name)." in table.notes


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


def drawn(root: Path, n_draws: int = 6) -> RunFolder:
    """A control of several draws, whose target change grows from draw to draw."""
    counts = np.zeros((n_draws, 3, 4), dtype=np.int64)
    counts[..., 0] = counts[..., 2] = 1000
    counts[..., 1] = 10 * np.arange(n_draws)[:, None] * np.array([1, 2, 3])
    folder = made(root, "rand-feat", n_draws * CONTROL, n_draws=n_draws)
    write_draws(folder, counts, (1, 2, 3))
    return folder


def test_a_run_is_compared_with_a_control_and_the_luck_of_its_draws(tmp_path: Path) -> None:
    folder = drawn(tmp_path)
    row = compared(made(tmp_path, "auto-feat", AUTO), folder).rows[0]
    (draws,) = [Artifacts().draws(from_folder(folder))]
    assert draws is not None
    want = control_differences(
        in_order(AUTO), 6 * in_order(CONTROL), draws.on([1, 2, 3]), min_patches=1
    )
    for name in MEASURES:
        assert row[f"macro_{name}_difference_lo"] == want[name].interval.lo
        assert row[f"macro_{name}_p"] == want[name].test.p
    turned = compared(folder, made(tmp_path, "auto-feat", AUTO), baseline="auto-feat").rows[0]
    assert turned["macro_selectivity_difference_hi"] == -row["macro_selectivity_difference_lo"]
    assert turned["macro_selectivity_p"] == row["macro_selectivity_p"]


def test_a_control_of_too_few_draws_gives_no_p_but_says_what_to_run(tmp_path: Path) -> None:
    table = compared(made(tmp_path, "auto-feat", AUTO), made(tmp_path, "rand-feat", CONTROL))
    row = table.rows[0]
    assert row["macro_selectivity_difference"] is not None
    assert row["macro_selectivity_p"] is None
    assert row["macro_selectivity_difference_lo"] is None
    (note,) = [note for note in table.notes if note.startswith("No p for auto-feat x-2")]
    assert "run the control with --draws 3." in note


def test_missing_draws_are_noted(tmp_path: Path) -> None:
    folder = drawn(tmp_path)
    (folder.path / "draws.csv").unlink()
    table = compared(made(tmp_path, "auto-feat", AUTO), folder)
    assert table.rows[0]["macro_selectivity_p"] is None
    assert table.rows[0]["macro_selectivity_difference_lo"] is None
    assert "draws.csv of rand-feat x-2 cannot be read: no p value against the draws." in table.notes


@pytest.mark.parametrize("more", [[], ["--per-class"]])
def test_sums_of_draws_that_cannot_be_read_are_not_taken_for_one_draw(
    tmp_path: Path, more: list[str]
) -> None:
    """Eight classes would do for one draw."""
    class_ids = tuple(range(1, 9))
    folder = made(tmp_path, "rand-feat", 6 * counts_of(3, 0.3, 8), class_ids=class_ids, n_draws=6)
    auto = made(tmp_path, "auto-feat", counts_of(2, 0.8, 8), class_ids=class_ids)
    for sides in ((auto, folder), (folder, auto)):
        baseline = "rand-feat" if sides[0] is auto else "auto-feat"
        table = compared(*sides, baseline=baseline, per_class=bool(more))
        ends = [key for row in table.rows for key in row if key.endswith("difference_lo")]
        assert ends
        assert {row[key] for row in table.rows for key in ends if key in row} == {None}
        assert any("the draws of the control cannot be read" in note for note in table.notes)


def test_another_class_s_latents_are_a_draw(tmp_path: Path) -> None:
    """Two permutations of classes differ by luck, and cannot be drawn more often."""
    one, two = (
        made(tmp_path, "other-class", counts_of(seed, rate)) for seed, rate in ((2, 0.8), (3, 0.3))
    )
    table = compared(one, two, baseline=str(two.path))
    row = table.rows[0]
    assert row["macro_selectivity_p"] is None
    assert row["macro_selectivity_p_reason"].endswith(
        "this control has no --draws: compare over more classes"
    )


def test_draws_are_read_from_a_store_too(tmp_path: Path) -> None:
    run = from_folder(drawn(tmp_path))
    artifacts = tmp_path / "artifacts" / "results"
    artifacts.mkdir(parents=True)
    (artifacts / "draws.csv").write_bytes((Path(run.source) / "draws.csv").read_bytes())
    stored = TrackedRun(
        run.run_id, run.name, run.experiment, run.status, run.started, "sqlite:///none.db",
        metrics=run.metrics, artifacts=artifacts.parent.as_uri(),
    )  # fmt: skip
    kept, local = Artifacts().draws(stored), Artifacts().draws(run)
    assert kept is not None
    assert local is not None
    assert np.array_equal(kept.counts_dc4, local.counts_dc4)


@pytest.mark.parametrize(
    ("uri", "path"),
    [("file:///a%20b/c", "/a b/c"), ("/a/b", "/a/b"), ("", None), ("mlflow-artifacts:/1/2", None),
     ("s3://bucket/x", None), ("file://elsewhere/a", None)],
)  # fmt: skip
def test_artifacts_on_this_machine_are_read_in_place(uri: str, path: str | None) -> None:
    assert local_path(uri) == (Path(path) if path else None)


def test_two_runs_are_set_against_each_other(tmp_path: Path) -> None:
    one = made(tmp_path, "auto-feat", AUTO, edit_norm=12.5)
    two = made(tmp_path, "mean-diff", CONTROL, edit_norm=12.0)
    table = compare(Compare(), [str(one.path), str(two.path)])
    assert table.title == "auto-feat x-2 minus mean-diff x-2: 40 images, 3 classes"
    rows = {row["key"]: row for row in table.rows}
    assert list(rows)[:3] == ["macro_target_change", "macro_other_change", "macro_selectivity"]
    want = macro_differences(in_order(AUTO), in_order(CONTROL))["selectivity"]
    found = rows["macro_selectivity"]
    assert found["difference"] == want.interval.value
    assert (found["difference_lo"], found["p"]) == (want.interval.lo, want.test.p)
    assert found["one_lo"] is not None
    assert rows["edit_norm"]["difference"] == 0.5
    assert rows["n_images"]["one"] == "40"
    text = render(table)
    assert "macro selectivity" in text
    assert max(map(len, text.splitlines())) <= 80


def test_two_runs_show_the_settings_that_differ(tmp_path: Path) -> None:
    one = make_folder(tmp_path, settings='select = "f1"\ntop_k = 3\n')
    two = make_folder(tmp_path, settings='select = "causal"\ntop_k = 3\n')
    table = compare(Compare(), [str(one.path), str(two.path)])
    (row,) = [row for row in table.rows if row["what"].startswith("--")]
    assert (row["what"], row["one"], row["two"]) == ("--select", "f1", "causal")
