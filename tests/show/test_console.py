"""The console: as wide as asked, and several tables in one answer."""

import io
import json
import sys

import pytest

from semseg_cli.show import console
from semseg_cli.show.tables import Column, Table

ONE = Table("One", (Column("a", "a", "text"),), ({"a": "x"},))
TWO = Table("Two", (Column("b", "b", "text"),), ({"b": "y"},), notes=("Said.",))


@pytest.mark.parametrize(
    ("columns", "width"),
    [(None, 80), ("120", 120), ("200", 200), ("3", 40), ("wide", 80), ("", 80), ("9" * 20, 80)],
)
def test_a_pipe_is_as_wide_as_columns_says(
    columns: str | None, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    assert console.stdout().width == width


def printed(tables: list[Table], format: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    console.show_all(tables, format)
    return out.getvalue(), err.getvalue()


def test_several_tables_are_one_json_object(monkeypatch: pytest.MonkeyPatch) -> None:
    out, _ = printed([ONE, TWO], "json", monkeypatch)
    assert json.loads(out) == {
        "tables": [
            {"title": "One", "notes": [], "rows": [{"a": "x"}]},
            {"title": "Two", "notes": ["Said."], "rows": [{"b": "y"}]},
        ]
    }
    alone, _ = printed([ONE], "json", monkeypatch)
    assert json.loads(alone) == {"title": "One", "notes": [], "rows": [{"a": "x"}]}


def test_csv_has_the_first_table_and_names_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = printed([ONE, TWO], "csv", monkeypatch)
    assert out.splitlines() == ["a", "x"]
    assert "--format json has the others, too: Two." in err
    assert printed([ONE], "csv", monkeypatch) == (out, "")


@pytest.mark.parametrize("format", ["table", "markdown", "latex"])
def test_other_forms_show_all_tables(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out, _ = printed([ONE, TWO], format, monkeypatch)
    assert out.index("One") < out.index("Two") < out.index("Said")
