"""Which images belong together: by name, by table, and when it should be asked."""

from pathlib import Path

import numpy as np
import pytest

from semseg_cli.errors import SemsegError, UsageError
from semseg_cli.runs.groups import (
    BY_PREFIX,
    group_names,
    is_sequence,
    obvious_groups,
    sampling_notes,
    suggestion,
)

DRIVES = [f"{drive}_{number:05}" for drive in ("0001TP", "Seq05VD") for number in range(6)]


def test_an_expression_names_groups_by_its_first_group_or_its_match() -> None:
    assert group_names(["a1_x", "a2_x", "b1_y"], "^[a-z]") == ["a", "a", "b"]
    assert group_names(["a1_x", "a2_x", "b1_y"], "_(.)$") == ["x", "x", "y"]


def test_a_column_of_a_table_names_groups(tmp_path: Path) -> None:
    table = tmp_path / "patients.csv"
    table.write_text("image,patient\none,p1\ntwo,p2\nthree,p1\n")
    assert group_names(["one", "two", "three"], f"{table}:patient") == ["p1", "p2", "p1"]
    with pytest.raises(UsageError, match=r"no column 'age': it has image, patient"):
        group_names(["one"], f"{table}:age")
    with pytest.raises(UsageError, match=r"no group for 1 of 2 images \(four\)"):
        group_names(["one", "four"], f"{table}:patient")


@pytest.mark.parametrize("wrong", ["(", "zzz", "gone.csv:column"])
def test_what_groups_nothing_is_refused(wrong: str) -> None:
    with pytest.raises(SemsegError, match="--group-by"):
        group_names(DRIVES, wrong)


def test_below_tables_stands_that_images_are_grouped_or_should_be() -> None:
    nothing = np.zeros((3, 2), np.int64)
    assert sampling_notes(["a", "b", "c"], None, nothing) == []
    (said,) = sampling_notes(["a", "b", "c"], ["x", "x", "y"], nothing)
    assert said.startswith("2 groups of images, each ")
    assert sampling_notes(["a", "b"], ["x", "x"], nothing)[0].startswith("1 group of images")
    assert sampling_notes(DRIVES, None, nothing) == [suggestion(DRIVES)]


def test_names_that_begin_alike_are_said_to_be_groups() -> None:
    assert dict(obvious_groups(DRIVES)) == {"0001TP": 6, "Seq05VD": 6}
    said = suggestion(DRIVES)
    assert said is not None
    assert "2 groups" in said
    assert BY_PREFIX in said
    assert set(group_names(DRIVES, BY_PREFIX)) == {"0001TP", "Seq05VD"}


@pytest.mark.parametrize(
    "names",
    [
        [f"ADE_val_{number:08}" for number in range(9)],  # all begin alike
        [f"2007_{number:06}" for number in range(5)] + [f"2008_{n:06}" for n in range(5)],
        [f"{number:012}" for number in range(9)],
        [f"img{number}_x" for number in range(9)],
    ],
)
def test_names_that_tell_no_groups_are_not_said_to(names: list[str]) -> None:
    assert suggestion(names) is None


def test_a_film_is_told_from_photographs_by_the_patches_of_its_classes() -> None:
    draw = np.random.default_rng(0)
    photographs = draw.integers(0, 50, (200, 6))
    film = 500 + np.cumsum(draw.integers(-2, 3, (200, 6)), axis=0)
    assert not is_sequence(photographs)
    assert is_sequence(film)
    names = [f"{number:03}" for number in range(200)]
    said = suggestion(names, film)
    assert said is not None
    assert "Consecutive images" in said
    assert said.endswith("in their names (000, ..., 199), or by FILE.csv:COLUMN.")
    assert suggestion(names, photographs) is None


@pytest.mark.parametrize(
    "name", ["2011_09_26_drive_{0:04}_{1:010}", "frame_{1:05}", "{2}_{1:05}", "0016E5_{1:05}"]
)
def test_the_advice_on_a_film_claims_nothing_of_its_names(name: str) -> None:
    film = 500 + np.cumsum(np.random.default_rng(0).integers(-2, 3, (200, 6)), axis=0)
    names = [name.format(n // 50, n, 2000 + n // 50) for n in range(200)]
    said = suggestion(names, film)
    assert said is not None
    shown = f"({names[0]}, ..., {names[-1]})"
    assert f"by a pattern that finds it in their names {shown}, or by FILE.csv:COLUMN" in said
    assert "tell nothing" not in said
    assert BY_PREFIX not in said  # alike in all, or years


def test_too_few_groups_are_told_with_names_to_find_more_in() -> None:
    nothing = np.zeros((2, 1), dtype=np.int64)
    (said,) = sampling_notes(["a1", "a2"], ["a", "a"], nothing)
    assert said.endswith("give a pattern that tells more apart by names (a1, ..., a2), or "
                         "FILE.csv:COLUMN.")  # fmt: skip
    (said,) = sampling_notes(DRIVES, ["all"] * len(DRIVES), np.zeros((len(DRIVES), 1)))
    assert "--group-by '^[^_-]+' finds more in names (0001TP_00000, ..., Seq" in said


def test_the_pattern_in_use_is_no_remedy_for_too_few_groups() -> None:
    cities = [
        f"{city}_00000{n}_000019" for city in ("frankfurt", "lindau", "munster") for n in "123"
    ]
    (said,) = sampling_notes(cities, group_names(cities, BY_PREFIX), np.zeros((9, 1)))
    assert BY_PREFIX not in said
    assert "give a pattern that tells more apart by names (frankfurt_" in said
