"""Rows as CSV: written and read back alike."""

import csv
import io
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semseg_cli.runs.rows import csv_text, parse_rows, per_draw

NUMBERS = st.one_of(
    st.none(), st.integers(-(10**12), 10**12), st.floats(allow_nan=False, allow_infinity=False)
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {"class_name": st.text("ab, \"'", min_size=1), "x": NUMBERS}, optional={"y": NUMBERS}
    ),
    min_size=1,
)


@given(ROWS)
def test_every_row_is_read_back_as_it_was_written(rows: list[dict[str, Any]]) -> None:
    keys = {key for row in rows for key in row}
    assert parse_rows(csv_text(rows)) == [{key: row.get(key) for key in keys} for row in rows]


def test_patches_of_several_draws_are_counted_once() -> None:
    row = {"class_name": "sea", "target_change": 0.25, "n_orig_patches": 120, "n_images": 7,
           "n_changed_patches": 30, "n_other_patches": 600, "n_other_changed": 1}  # fmt: skip
    (once,) = per_draw([row], 3)
    assert once == {"class_name": "sea", "target_change": 0.25, "n_orig_patches": 40,
                    "n_images": 7, "n_other_patches": 200}  # fmt: skip
    assert per_draw([row], 1) == [row]


def test_nothing_stands_for_none_for_nan_and_for_a_key_that_a_row_lacks() -> None:
    rows: list[dict[str, Any]] = [{"a": 1, "b": None}, {"a": math.nan, "c": 0.1}, {"c": -0.0}]
    assert csv_text(rows) == "a,b,c\n1,,\n,,0.1\n,,-0.0\n"


def test_a_header_orders_the_columns_and_stands_over_no_rows() -> None:
    assert csv_text([{"a": 1, "b": 2}], ["b", "a"]) == "b,a\n2,1\n"
    assert csv_text([], ["b", "a"]) == "b,a\n"
    with pytest.raises(ValueError, match="c"):
        csv_text([{"c": 1}], ["b", "a"])


def test_names_are_quoted_where_they_must_be() -> None:
    name = 'table, "round"'
    (row,) = csv.DictReader(io.StringIO(csv_text([{"class_name": name}])))
    assert row["class_name"] == name
