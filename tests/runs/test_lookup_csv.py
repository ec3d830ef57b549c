"""The lookup table as a file: there and back, other people's tables, and bad ones."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import members

from semseg_cli.errors import SemsegError
from semseg_cli.runs.lookup_csv import (
    COLUMNS,
    LookupRow,
    Member,
    chosen_latents,
    lookup_from_path,
    lookup_text,
    read_lookup,
)

NAMES = ["wall", "sky, blue", "sea"]
ROW = LookupRow(1, "wall", 1, 7, True, 0.6, 0.2, 0.9, 1.0, 0.8, 0.8, 10, 0.01, 3.0)


def row(class_id: int, latent: int, rank: int = 1, chosen: bool = True) -> LookupRow:
    return replace(
        ROW,
        class_id=class_id,
        class_name=NAMES[class_id - 1],
        latent=latent,
        rank=rank,
        chosen=chosen,
    )


@given(st.dictionaries(st.integers(1, 3), st.integers(0, 99), min_size=1))
def test_the_chosen_latents_round_trip_through_the_file(latents: dict[int, int]) -> None:
    rows = [row(c, latent) for c, latent in latents.items()]
    rows += [row(c, 5, rank=2, chosen=False) for c in latents]
    assert chosen_latents(rows) == members(latents)
    assert read_lookup(lookup_text(rows), NAMES, 100, "x") == members(latents)


def test_the_file_holds_every_field_and_empty_effects() -> None:
    header, line = lookup_text([ROW]).splitlines()
    assert header.split(",") == COLUMNS
    assert line == "1,wall,1,7,1,0.6,0.2,0.9,1.0,0.8,0.8,10,0.01,3.0,,,,,,,,"


def test_other_tables_need_a_latent_and_a_class_only() -> None:
    assert read_lookup("latent,class_id\n4,1\n2,3\n", NAMES, 9, "x") == members({1: 4, 3: 2})
    assert read_lookup("class_name,latent\n sea ,8\n", NAMES, 9, "x") == members({3: 8})
    assert read_lookup('class_name,latent\n"sky, blue",0\n', NAMES, 9, "x") == members({2: 0})
    text = "class_id,latent,chosen\n1,4,0\n1,5,True\n"
    assert read_lookup(text, NAMES, 9, "x") == members({1: 5})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "it lacks the column latent, it has none"),
        ("class_id,feature\n1,2\n", "it lacks the column latent, it has class_id, feature"),
        ("latent\n2\n", "class_id or class_name"),
        ("class_id,latent\n", "names no latent"),
        ("class_id,latent,chosen\n1,2,0\n", "names no latent"),
        ("class_id,latent\n4,2\n", r"x, row 2: class id '4' is not one of 1 to 3"),
        ("class_id,latent\n0,2\n", "class id '0'"),
        ("class_id,latent\n-1,2\n", "class id '-1'"),
        ("class_id,latent\none,2\n", "class id 'one'"),
        ("class_name,latent\nsea,1\nrock,2\n", r"x, row 3: the class 'rock' is not in"),
        ("class_id,latent\n1,9\n", "latent '9' is not one of 0 to 8"),
        ("class_id,latent\n1,-1\n", "latent '-1'"),
        ("class_id,latent\n1,2.5\n", "latent '2.5'"),
        ("class_id,latent\n1\n", "row 2 has 1 cells, the header 2"),
        ("class_id,latent,chosen\n1,2,maybe\n", "chosen is 'maybe', expected 1 or 0"),
        ("class_id,latent\n1," + "1" * 200_000, r"x cannot be read \(no CSV: field larger"),
        ("class_id,latent\n1,2\n1,2\n", "latent 2 is there twice for wall"),
        ("class_id,latent,coefficient\n1,2,much\n", "coefficient 'much' is no finite number"),
        ("class_id,latent,coefficient\n1,2,nan\n", "coefficient 'nan'"),
    ],
)
def test_a_bad_table_is_refused_in_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(SemsegError, match=sentence):
        read_lookup(text, NAMES, 9, "x")


def test_several_rows_of_a_class_make_a_group_with_coefficients() -> None:
    text = "class_name,latent,threshold,coefficient\nsea,4,0.3,0.5\nwall,1,,\nsea,2,,-1\n"
    expected = {3: [Member(4, 0.5), Member(2, -1.0)], 1: [Member(1)]}
    assert read_lookup(text, NAMES, 9, "x") == expected


def test_a_table_is_read_from_a_file_or_a_run_folder(tmp_path: Path) -> None:
    (tmp_path / "lookup.csv").write_text("class_id,latent\n")
    assert lookup_from_path(str(tmp_path)) == "class_id,latent\n"
    assert lookup_from_path(str(tmp_path / "lookup.csv")) == "class_id,latent\n"


def test_a_table_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "picture.csv").write_bytes(b"\xff\xd8\xff")
    for source in ("nowhere.csv", "picture.csv", ""):
        with pytest.raises(SemsegError, match="cannot be read"):
            lookup_from_path(str(tmp_path / source))


def test_names_with_spaces_and_two_of_one_name_are_those_of_their_ids() -> None:
    names = ["wall ", "door", "door", " sea"]
    rows = [
        replace(ROW, class_id=c, class_name=name, latent=10 + c)
        for c, name in enumerate(names, start=1)
    ]
    groups = read_lookup(lookup_text(rows), names, 99, "here")
    assert {c: [one.latent for one in group] for c, group in groups.items()} == {
        c: [10 + c] for c in (1, 2, 3, 4)
    }
    other = read_lookup("class_id,class_name,latent\n9,door,1\n", names, 99, "here")
    assert list(other) == [2]  # of another dataset: the first of its name
