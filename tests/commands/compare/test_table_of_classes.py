"""Classes as rows: measures of one run, selectivities of several, stars corrected over classes."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from run_folders import make_folder
from test_uncertainty import AUTO, CONTROL, compared, drawn, in_order, made

from semseg_cli.commands.compare.table_of_runs import is_beside
from semseg_cli.errors import SemsegError, UsageError
from semseg_cli.runs.folder import RunFolder
from semseg_cli.runs.inference import (
    MEASURES,
    benjamini_hochberg,
    class_differences,
    control_class_differences,
)
from semseg_cli.runs.interval_rows import class_entries
from semseg_cli.runs.metrics import CLASSES, RUNS, find
from semseg_cli.runs.per_image import read_draws
from semseg_cli.settings.output import FORMATS
from semseg_cli.show.tables import Table, render


def by_class(*folders: RunFolder, **settings: Any) -> Table:
    baseline = {"baseline": "mean-diff"} if any("mean" in str(f.path) for f in folders) else {}
    return compared(*folders, per_class=True, **{**baseline, **settings})


@pytest.fixture
def both(tmp_path: Path) -> list[RunFolder]:
    return [made(tmp_path, "auto-feat", AUTO), made(tmp_path, "mean-diff", CONTROL)]


def test_the_table_of_one_run_is_pinned(both: list[RunFolder]) -> None:
    assert render(by_class(both[0])) == (
        "Target, other, selectivity by class, auto-feat x-2\n"
        "class    latent     target      other  selectivity  images  patches\n"
        "───────────────────────────────────────────────────────────────────\n"
        "class 3      10      0.808      0.115        0.693      39      765\n"
        "                 [.69,.89]  [.08,.16]    [.57,.78]\n"
        "class 1       8      0.771      0.096        0.675      37      802\n"
        "                 [.64,.87]  [.06,.15]    [.54,.77]\n"
        "class 2       9      0.749      0.093        0.656      40      993\n"
        "                 [.63,.84]  [.05,.16]    [.51,.76]\n"
        "[ ], >=, <=: 95% interval over other images like these, for the same latents.\n"
        "More: docs/compare.md.\n"
    )


def test_the_table_of_several_runs_is_pinned(both: list[RunFolder]) -> None:
    assert render(by_class(*both)) == (
        "Selectivity by class, 2 runs of experiment semseg\n"
        "                           auto-feat  mean-diff\n"
        "class    images  patches         x-2        x-2\n"
        "───────────────────────────────────────────────\n"
        "class 3      39      765      0.693*      0.169\n"
        "                           [.57,.78]  [.03,.33]\n"
        "class 1      37      802      0.675*      0.177\n"
        "                           [.54,.77]  [.07,.30]\n"
        "class 2      40      993      0.656*      0.155\n"
        "                           [.51,.76]  [.05,.27]\n"
        f"Compared to mean-diff x-2 (run {both[1].path.name[-4:]}, seed 42).\n"
        "[ ], >=, <=: 95% interval over other images like these, for the same latents.\n"
        "*: unlike mean-diff: p <= .05 over classes (Benjamini-Hochberg), 0 outside the\n"
        "difference's interval.\n"
        "More: docs/compare.md.\n"
    )


def test_values_and_intervals_are_those_of_each_class(both: list[RunFolder]) -> None:
    rows = by_class(both[0], sort="-class_id").rows
    found = class_entries(in_order(AUTO))
    for c, row in enumerate(rows):
        orig, changed, other, other_changed = AUTO.sum(axis=0)[c].tolist()
        assert row["n_orig_patches"] == orig
        assert row["target_change"] == changed / orig
        assert row["selectivity"] == pytest.approx(changed / orig - other_changed / other)
        assert {key: row[key] for key in found[c]} == pytest.approx(found[c])


def test_settings_that_tell_the_runs_apart_stand_below(tmp_path: Path) -> None:
    folders = [make_folder(tmp_path, settings=f"max_freq = {x}\n") for x in (0.1, 0.5, 0.5)]
    table = by_class(*folders)
    name = f"auto-feat x-2 ({folders[0].path.name[-4:]})"
    assert f"max-freq: 0.1 in {name}; else 0.5." in table.notes


def test_p_values_are_corrected_over_classes(both: list[RunFolder]) -> None:
    rows = by_class(*both, sort="-class_id").rows
    expected = class_differences(in_order(AUTO), in_order(CONTROL))["selectivity"]
    p_values = [difference.test.p for difference in expected]
    assert [row["auto-feat x-2: selectivity_p"] for row in rows] == p_values
    key = "auto-feat x-2: selectivity_p_adjusted"
    assert [row[key] for row in rows] == benjamini_hochberg(p_values)
    assert not any(k.startswith("mean-diff x-2: selectivity_p") for row in rows for k in row)


def test_classes_with_few_patches_are_shown_and_named_but_not_tested(tmp_path: Path) -> None:
    few = AUTO.copy()
    few[1:, 2] = [0, 0, 64, 3]
    few[0, 2] = [30, 20, 34, 3]
    weak = few.copy()
    weak[..., 1] //= 2
    folders = [made(tmp_path, "auto-feat", few), made(tmp_path, "mean-diff", weak)]
    table = by_class(*folders, sort="-class_id")
    key = "auto-feat x-2: selectivity_p_adjusted"
    assert [row[key] is None for row in table.rows] == [False, False, True]
    assert table.rows[2]["auto-feat x-2: target_change_n_touched"] == 1
    assert "1/1 img" in render(by_class(folders[0]))
    note = "macro: 2 of 3 classes; not 1 with fewer than 50 predicted patches (class 3)."
    assert note in table.notes
    assert note in compared(*folders).notes


@pytest.mark.parametrize("sort", ["selectivity", "-patches", "class", "-selectivity", None])
def test_classes_with_few_patches_come_last_however_rows_are_sorted(
    tmp_path: Path, sort: str | None
) -> None:
    few = AUTO.copy()
    few[:, 1] = 0
    few[0, 1] = [1, 1, 40, 0]  # one patch, all of it changed
    folders = [made(tmp_path, "auto-feat", few), made(tmp_path, "mean-diff", few)]
    for runs in (folders[:1], folders):
        assert by_class(*runs, sort=sort).rows[-1]["class_name"] == "class 2"
        top = by_class(*runs, sort=sort, top=2).rows
        assert {row["class_name"] for row in top} == {"class 1", "class 3"}


def test_patches_of_several_draws_are_counted_once(tmp_path: Path) -> None:
    once = by_class(made(tmp_path, "auto-feat", AUTO), sort="-class_id").rows
    thrice = by_class(made(tmp_path, "auto-feat", 3 * AUTO, n_draws=3), sort="-class_id").rows
    for key in ("n_orig_patches", "target_change", "selectivity_lo"):
        assert [row[key] for row in thrice] == pytest.approx([row[key] for row in once])


def test_a_class_is_compared_with_its_own_draws(tmp_path: Path) -> None:
    control = drawn(tmp_path)
    table = by_class(made(tmp_path, "auto-feat", AUTO), control, sort="-class_id")
    draws = read_draws((control.path / "draws.csv").read_text()).on([1, 2, 3])
    expected = control_class_differences(in_order(AUTO), 6 * in_order(CONTROL), draws)
    for name in MEASURES:
        assert [row[f"auto-feat x-2: {name}_p"] for row in table.rows] == [
            difference.test.p for difference in expected[name]
        ]


def test_a_class_against_one_draw_gets_no_p_but_says_how_many_it_needs(tmp_path: Path) -> None:
    table = by_class(made(tmp_path, "auto-feat", AUTO), made(tmp_path, "rand-feat", CONTROL))
    assert {row["auto-feat x-2: selectivity_p"] for row in table.rows} == {None}
    assert any("run the control with --draws 6" in note for note in table.notes)


def test_a_class_without_patches_has_no_target(tmp_path: Path) -> None:
    none = AUTO.copy()
    none[:, 2] = [0, 0, 64, 3]
    folders = [made(tmp_path, name, none) for name in ("auto-feat", "mean-diff")]
    table = by_class(*folders, columns="target,selectivity")
    assert table.rows[-1]["class_name"] == "class 3"
    assert table.rows[-1]["auto-feat x-2: target_change"] is None
    json.loads(render(table, "json"), parse_constant=lambda text: pytest.fail(text))


# --- rows and columns --------------------------------------------------------------------------


def test_classes_are_chosen_by_name_or_id_and_imply_per_class(both: list[RunFolder]) -> None:
    rows = compared(*both, classes=("class 3", "1"), sort="-class_id").rows
    assert [row["class_name"] for row in rows] == ["class 1", "class 3"]
    with pytest.raises(UsageError, match="--class has no class 'sand': choose of class 1, class 2"):
        compared(*both, classes=("sand",))


def test_top_and_sort_choose_rows(both: list[RunFolder]) -> None:
    values = {r["class_name"]: r["auto-feat x-2: selectivity"] for r in by_class(*both).rows}
    (best,) = by_class(*both, top=1).rows
    (worst,) = by_class(*both, top=1, sort="-selectivity").rows
    assert best["class_name"] == max(values, key=lambda name: values[name])
    assert worst["class_name"] == min(values, key=lambda name: values[name])


def test_columns_are_shown_for_every_run(both: list[RunFolder]) -> None:
    keys = [column.key for column in by_class(*both, columns="patches,target,p").columns]
    assert keys == [
        "class_name", "n_orig_patches", "auto-feat x-2: target_change",
        "mean-diff x-2: target_change", "auto-feat x-2: selectivity_p",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="--columns has no column 'targets': did you mean target"):
        by_class(*both, columns="targets")


def test_all_columns_show_everything_at_80_columns(both: list[RunFolder]) -> None:
    table = by_class(*both, all_columns=True)
    text = render(table)
    assert max(map(len, text.splitlines())) <= 80
    shown = {column.key for column in table.columns}
    missing = {key for row in table.rows for key in row} - shown
    assert all(is_beside(key) for key in missing)


def test_the_best_run_of_each_class_stands_out(both: list[RunFolder]) -> None:
    table = by_class(*both)
    assert table.strong == {(n, "auto-feat x-2: selectivity") for n in range(3)}
    assert by_class(both[0]).strong == frozenset()


@pytest.mark.parametrize("format", FORMATS)
def test_every_form_holds_every_class(both: list[RunFolder], format: str) -> None:
    text = render(by_class(*both), format)
    assert all(f"class {c}" in text for c in (1, 2, 3))


def test_csv_has_one_row_per_class_with_all_of_it(both: list[RunFolder]) -> None:
    rows = list(csv.DictReader(io.StringIO(render(by_class(*both), "csv"))))
    assert len(rows) == 3
    assert {"auto-feat x-2: selectivity_lo", "mean-diff x-2: other_change"} <= set(rows[0])


# --- what is missing ----------------------------------------------------------------------------


def test_without_counts_the_class_rows_still_show(both: list[RunFolder]) -> None:
    (both[0].path / "per_image.parquet").unlink()
    table = by_class(*both)
    assert "auto-feat x-2: selectivity" in table.rows[0]
    assert "mean-diff x-2: selectivity_lo" in table.rows[0]
    assert any("per_image.parquet of auto-feat x-2 cannot be read" in n for n in table.notes)


def test_without_class_rows_the_counts_still_show_under_the_other_runs_names(
    both: list[RunFolder],
) -> None:
    whole = by_class(*both).rows
    (both[0].path / "class_results.csv").unlink()
    rows = by_class(*both).rows
    key = "auto-feat x-2: selectivity"
    assert [(r["class_name"], r[key]) for r in rows] == [(r["class_name"], r[key]) for r in whole]


def test_without_names_classes_go_by_their_id(both: list[RunFolder]) -> None:
    (both[0].path / "class_results.csv").unlink()
    assert {row["class_name"] for row in by_class(both[0]).rows} == {"1", "2", "3"}


def test_without_any_class_there_is_one_sentence(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    for name in ("class_results.csv", "per_image.parquet"):
        (folder.path / name).unlink()
    with pytest.raises(SemsegError, match="None of these runs has classes to show"):
        by_class(folder)


def test_unlike_classes_of_other_datasets_are_rows_of_their_own(tmp_path: Path) -> None:
    plain, other = make_folder(tmp_path), made(tmp_path, "rand-vec", CONTROL)
    names = [row["class_name"] for row in by_class(plain, other, sort="-class_id").rows]
    assert sorted(names) == ["class 1", "class 2", "class 3", "sand", "sea [b t d]"]


def test_every_number_of_a_comparison_has_a_row_in_the_table_of_metrics(tmp_path: Path) -> None:
    auto = made(tmp_path, "auto-feat", AUTO)
    control = drawn(tmp_path)
    texts = {"run", "method", "protocol", "experiment", "status", "started", "run_id", "baseline"}
    texts |= {"baseline_run_id", "between", "unmatched"}
    for row in compared(auto, control).rows:
        unknown = {key for key in row if find(RUNS, key) is None} - texts
        assert all(key.endswith(("_mark", "_p_method", "_p_reason")) for key in unknown)
    keys = {key.split(": ")[-1] for row in by_class(auto, control).rows for key in row}
    assert "selectivity_p_adjusted" in keys
    unknown = {key for key in keys if find(CLASSES, key) is None} - {"class_name"}
    assert all(key.endswith(("_mark", "_p_method", "_p_reason")) for key in unknown)


def test_why_classes_have_no_p_is_said_of_each_run_once_a_rule(tmp_path: Path) -> None:
    thin, control = AUTO.copy(), CONTROL.copy()
    thin[4:, 0, :2] = control[4:, 0, :2] = 0
    control[:-3, 1] = thin[:-3, 1]
    paired = by_class(made(tmp_path, "auto-feat", thin), made(tmp_path, "mean-diff", control))
    said = [note for note in paired.notes if note.startswith("No p")]
    assert set(said) == {
        "No p for auto-feat x-2 in class 2: identical on all but few images, of which it takes "
        "6: 3.",
        "No p for auto-feat x-2 in class 1: an interval needs 5 images: 4.",
    }
    drawn_once = by_class(made(tmp_path, "auto-feat", AUTO), made(tmp_path, "rand-feat", CONTROL))
    assert (
        "No p for auto-feat x-2: one draw of one class cannot tell skill from luck: run the "
        "control with --draws 6."
    ) in drawn_once.notes
