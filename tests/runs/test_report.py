"""Counts to ratios, rows, files: by hand, and there and back."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semseg_cli.errors import SemsegError
from semseg_cli.runs.report import CSV_HEADER, ClassResults, Report, ratio, save
from semseg_cli.runs.report_json import report_of

SAND = ClassResults(1, "sand", 10, 9, 30, 3, {2: 8, 3: 1})
SEA = ClassResults(2, "sea", 30, 15, 10, 1, {1: 15})
NONE = ClassResults(3, "rock", 0, 0, 40, 4, {})


def report(*classes: ClassResults, **changes: Any) -> Report:
    return Report(
        **{
            "method": "auto-feat",
            "class_results": list(classes or (SAND, SEA, NONE)),
            "intervention_scale": -2.0,
            "n_images": 2,
            "n_patches": 40,
            "edit_norm": 1.5,
            **changes,
        }
    )


@st.composite
def reports(draw: st.DrawFn) -> Report:
    counts = st.integers(0, 10**12)
    rows = [
        ClassResults(
            class_id,
            draw(st.text('ab ,"\n[ü', max_size=5)),
            draw(st.integers(10**7, 10**12)),
            draw(st.integers(4 * 10**6, 10**7)),
            10**12 + draw(counts),
            draw(counts),
            draw(st.dictionaries(st.integers(1, 150), st.integers(1, 10**6), max_size=4)),
        )
        for class_id in range(1, draw(st.integers(0, 4)) + 1)
    ]
    numbers = st.floats(-1e6, 1e6)
    return report(
        class_results=rows,
        intervention_scale=draw(numbers),
        edit_norm=draw(st.none() | numbers),
        protocol=draw(st.sampled_from(["class", "label"])),
        shared_edit=draw(st.booleans()),
        n_draws=draw(st.integers(1, 50)),
        extra=draw(st.dictionaries(st.text(max_size=5), numbers, max_size=3)),
    )


def test_ratio_of_an_empty_whole_is_zero() -> None:
    assert ratio(0, 0) == 0.0
    assert ratio(3, 4) == 0.75


def test_pooled_means_divide_sums() -> None:
    assert report().mean_target_change == 24 / 40
    assert report().mean_other_change == 8 / 80
    assert report().selectivity == 24 / 40 - 8 / 80


def test_deviations_are_over_classes_with_ddof_zero_and_an_empty_class_as_zero() -> None:
    # target .9, .5, 0: mean 1.4 / 3; other .1, .1, .1
    mean = 1.4 / 3
    by_hand = (((0.9 - mean) ** 2 + (0.5 - mean) ** 2 + mean**2) / 3) ** 0.5
    assert report().target_change_std == pytest.approx(by_hand, abs=1e-12)
    assert report().other_change_std == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("min_patches", "target", "other"), [(0, 0.7, 0.1), (10, 0.7, 0.1), (11, 0.5, 0.1), (99, 0, 0)]
)
def test_macro_means_are_over_classes_with_enough_patches(
    min_patches: int, target: float, other: float
) -> None:
    made = report(min_patches=min_patches)
    assert made.macro_target_change == pytest.approx(target)
    assert made.macro_other_change == pytest.approx(other)


def test_a_report_without_classes_is_all_zero() -> None:
    empty = report(class_results=[])
    assert {empty.mean_target_change, empty.other_change_std, empty.macro_target_change} == {0.0}


def test_class_ratios() -> None:
    assert (SAND.target_change, SAND.other_change) == (0.9, 0.1)
    assert SAND.selectivity == pytest.approx(0.8)
    assert (NONE.target_change, NONE.other_change) == (0.0, 0.1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"class_id": "1"},
        {"class_id": 1.0},
        {"class_id": True},
        {"class_name": 1},
        {"n_orig_patches": 2.0},
        {"n_other_changed": None},
        {"change_distribution": {"2": 1}},
        {"change_distribution": {2: 1.0}},
        {"change_distribution": [(2, 1)]},
    ],
)
def test_a_wrong_type_in_class_results_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(wrong))):
        replace(SAND, **wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": 1},
        {"class_results": (SAND,)},
        {"class_results": [{"class_id": 1}]},
        {"intervention_scale": "-2"},
        {"intervention_scale": True},
        {"edit_norm": "long"},
        {"n_images": 1.5},
        {"shared_edit": 1},
        {"n_draws": 2.0},
        {"extra": None},
        {"extra": {"selectivity_lo": "0.1"}},
        {"extra": {"selectivity_lo": 1}},
        {"extra": {1: 0.5}},
    ],
)
def test_a_wrong_type_in_a_report_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(wrong))):
        report(**wrong)


def test_an_integer_scale_becomes_a_float() -> None:
    assert type(report(intervention_scale=-2).intervention_scale) is float


def test_csv_row_has_the_references_keys() -> None:
    row = report().to_csv_row()
    assert list(row) == ["method", "target_change", "other_change", "target_std", "other_std"]
    assert row["method"] == "auto-feat"
    assert row["target_change"] == 0.6
    assert row["other_change"] == 0.1


def test_save_writes_the_references_header_and_makes_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "results.csv"
    save([report(), report(method="rand-vec")], str(path))
    lines = path.read_text().splitlines()
    assert lines[0] == "method,target_change,target_std,other_change,other_std"
    rows = list(csv.DictReader(lines))
    assert [row["method"] for row in rows] == ["auto-feat", "rand-vec"]
    assert float(rows[0]["target_change"]) == 0.6
    assert float(rows[0]["other_std"]) == report().other_change_std


def test_save_works_for_a_bare_file_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save([], "results.csv")
    assert (tmp_path / "results.csv").read_text() == ",".join(CSV_HEADER) + "\n"


@given(reports())
def test_a_report_round_trips_through_json(made: Report) -> None:
    assert report_of(json.loads(json.dumps(made.to_dict()))) == made


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 99},
        {"class_results": None},
        {"class_results": ["sand"]},
        {"class_results": [{"class_id": 1}]},
        {"class_results": [{**report().to_dict()["class_results"][0], "change_distribution": []}]},
        {"method": None},
        {"n_images": -1},
        {"class_results": [{**report().to_dict()["class_results"][0], "n_changed_patches": 11}]},
    ],
)
def test_what_is_no_report_is_refused_in_a_sentence(change: dict[str, Any]) -> None:
    with pytest.raises(SemsegError, match="report"):
        report_of({**report().to_dict(), **change})


@pytest.mark.parametrize("data", [[], "report", None, {}])
def test_json_of_another_shape_is_refused(data: Any) -> None:
    with pytest.raises(SemsegError, match="report"):
        report_of(data)


def test_metrics_hold_the_edit_norm_only_where_it_was_measured() -> None:
    assert report().metrics()["edit_norm"] == 1.5
    assert "edit_norm" not in report(edit_norm=None).metrics()


def test_extra_metrics_are_tracked_and_change_no_other() -> None:
    made = report(extra={"selectivity_lo": 0.25, "selectivity": 9.0})
    assert made.metrics() == {**report().metrics(), "selectivity_lo": 0.25}


def test_counts_of_several_draws_are_told_from_more_patches() -> None:
    # Three draws count each patch three times: shares stay as they are.
    once = report(min_patches=10, n_patches=40, shared_edit=True)
    thrice = replace(
        once,
        n_draws=3,
        class_results=[
            ClassResults(r.class_id, r.class_name, 3 * r.n_orig_patches, 3 * r.n_changed_patches,
                         3 * r.n_other_patches, 3 * r.n_other_changed, {})
            for r in once.class_results
        ],
    )  # fmt: skip
    assert thrice.metrics() == {**once.metrics(), "n_draws": 3.0}
    assert not thrice.is_pooled_telling
    assert replace(thrice, min_patches=11).macro_target_change == 0.5
    assert replace(thrice, n_patches=43).is_pooled_telling


@pytest.mark.parametrize(
    ("shared", "n_patches", "expected"),
    [(True, 40, False), (True, 42, False), (True, 43, True), (False, 40, True)],
)
def test_pooled_numbers_tell_nothing_where_one_edit_counts_most_patches(
    shared: bool, n_patches: int, expected: bool
) -> None:
    assert report(shared_edit=shared, n_patches=n_patches).is_pooled_telling is expected
