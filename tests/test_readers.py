"""Files that are not what they should be: one sentence, and no wait."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from semseg_cli.errors import FileError, SemsegError, printable
from semseg_cli.readers import parse_csv, parse_json, read_bytes, read_json, read_text, read_toml

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


MADE: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda path: None, "No such file"),
    "a pipe": (pipe, "it is a pipe, not a file"),
    "a device": (device, "it is a device, not a file"),
    "a folder": (Path.mkdir, "it is a folder, not a file"),
    "a pointer": (lambda path: path.write_text(POINTER), "Git LFS pointer.*git lfs pull"),
    "Latin-1": (lambda path: path.write_bytes(b"a = 'caf\xe9'"), "not UTF-8: byte 8"),
    "deep": (lambda path: path.write_text("a = " + "[" * 10_000), "nested too deeply"),
    "deep tables": (lambda path: path.write_text("[" + "a." * 500 + "a]"), "nested too deeply"),
    "no TOML": (lambda path: path.write_text("a ="), "no TOML"),
}


@pytest.mark.parametrize(("make", "sentence"), MADE.values(), ids=MADE.keys())
def test_what_is_no_toml_file_is_told(
    make: Callable[[Path], object], sentence: str, tmp_path: Path
) -> None:
    make(tmp_path / "a.toml")
    with pytest.raises(FileError, match=rf"^The file .*{sentence}") as caught:
        read_toml(tmp_path / "a.toml", f"The file {tmp_path / 'a.toml'}", "expected TOML")
    assert str(caught.value).endswith(".")


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfb = 1")
    assert read_text(tmp_path / "a", "a", "") == "b = 1"
    assert read_toml(tmp_path / "a", "a", "") == {"b": 1}


def test_a_file_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(11))
    assert read_bytes(tmp_path / "a", "a", "", most=11) == bytes(11)
    with pytest.raises(FileError, match="it is larger than"):
        read_bytes(tmp_path / "a", "a", "", most=10)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("NaN", "it holds NaN"),
        ('{"a": -Infinity}', "it holds -Infinity"),
        ("1e999", "beyond all floats"),
        ("9" * 400, "a whole number has 400 digits"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("[" * 70 + "]" * 70, "nested too deeply"),
        ("{", "no JSON"),
        ("", "no JSON"),
    ],
)
def test_what_is_no_json_of_ours_is_told(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(FileError, match=f"^a.json cannot be read .*{sentence}.*: expected it"):
        read_json(tmp_path / "a.json", "a.json", "expected it")


def test_json_of_other_programs_may_hold_odd_numbers() -> None:
    assert parse_json('{"a": Infinity, "b": 1' + "0" * 30 + "}", "a", "", is_strict=False) == {
        "a": float("inf"),
        "b": 10**30,
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "it lacks the column a, it has none"),
        ("b,c\n1,2\n", "it lacks the column a, it has b, c"),
        ("a,a\n1,2\n", "two columns have one name"),
        ("a,b\n1\n", "row 2 has 1 cells, the header 2"),
        ("a,b\n1,2\n1,2,3\n", "row 3 has 3 cells"),
        ('a,b\n"1,2\n', "no CSV"),
        ("a,b\n" + "1" * 200_000 + ",2\n", "no CSV: field larger"),
    ],
)
def test_what_is_no_table_is_told(text: str, sentence: str) -> None:
    with pytest.raises(FileError, match=f"^the file cannot be read .*{sentence}"):
        parse_csv(text, "the file", "expected it", ["a"])


def test_a_table_is_read_by_its_header() -> None:
    text = 'a,b\n1,"x, y"\n\n2,\n'
    assert parse_csv(text, "x", "") == [{"a": "1", "b": "x, y"}, {"a": "2", "b": ""}]


def test_names_cannot_command_a_terminal() -> None:
    assert printable("sky\x1b]0;owned\a\x9b2K\r\n") == r"sky\x1b]0;owned\x07\x9b2K\r\n"
    assert printable("a\nb", keep="\n") == "a\nb"
    assert printable("\u202egnp.exe \udcff") == r"\u202egnp.exe \udcff"
    assert printable("Gebäude, 建筑 [b t d]") == "Gebäude, 建筑 [b t d]"
    assert str(SemsegError("no class \x1b[2K")) == r"no class \x1b[2K"
