"""Rows and columns of a comparison: sorted, cut, named in short, refused with close names."""

from pathlib import Path
from typing import Any

import pytest

from semseg_cli.commands.compare.rows_and_columns import arranged, check_columns, wanted_columns
from semseg_cli.errors import UsageError
from semseg_cli.settings.compare import View

ROWS: list[dict[str, Any]] = [
    {"run": "b", "selectivity": 0.1, "x: selectivity": 3, "select": "f1"},
    {"run": "a", "selectivity": None, "x: selectivity": 1, "select": "causal"},
    {"run": "c", "selectivity": 0.9, "x: selectivity": 2, "select": None},
]


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        (None, "bac"),
        ("selectivity", "cba"),
        ("-selectivity", "bca"),
        ("run", "cba"),
        ("-run", "abc"),
        ("-select", "abc"),
    ],
)
def test_rows_are_sorted_and_those_without_a_value_come_last(sort: str | None, order: str) -> None:
    assert "".join(row["run"] for row in arranged(ROWS, View(sort=sort))) == order


def test_a_plain_name_means_the_first_runs_column() -> None:
    rows = arranged(ROWS, View(sort="selectivity"), "x: ")
    assert [row["run"] for row in rows] == ["b", "c", "a"]


def test_top_cuts_after_sorting() -> None:
    assert [row["run"] for row in arranged(ROWS, View(sort="selectivity", top=1))] == ["c"]


def test_sorting_by_what_is_no_column_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="--sort has no column 'selectvity': did you mean sel"):
        arranged(ROWS, View(sort="selectvity"))


def test_columns_may_be_named_in_short() -> None:
    view = View(columns=" target, p ,seed,,")
    assert wanted_columns(view) == ("target_change", "macro_selectivity_p_adjusted", "seed")
    of_classes = View(columns="target,p", per_class=True)
    assert wanted_columns(of_classes) == ("target_change", "selectivity_p")
    with pytest.raises(UsageError, match=r"no column 'zzz': take macro_target, .*--format csv"):
        check_columns(["a", "zzz"], ["a", "b", "a"], view)


@pytest.mark.parametrize(
    ("output", "format", "form"),
    [(None, "auto", "table"), ("a.csv", "auto", "csv"), ("a.TEX", "auto", "latex"),
     ("a.md", "json", "json"), ("a.txt", "auto", "table")],
)  # fmt: skip
def test_the_form_follows_the_file(output: str | None, format: Any, form: str) -> None:
    assert View(output=Path(output) if output else None, format=format).output_format == form


@pytest.mark.parametrize("wrong", [{"top": 0}, {"precision": 0}])
def test_bounds_are_kept(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        View(**wrong)
