"""Help of every command: examples first, two screens at most, everything by --help-all."""

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pytest
from _pytest.capture import CaptureFixture

from semseg_cli.cli import root_command, run
from semseg_cli.settings.entries import item_type
from semseg_cli.settings.examples import EXAMPLES, example_lines
from semseg_cli.settings.help_page import COMMON
from semseg_cli.settings.toml_files import KNOWN

TWO_SCREENS = 48
WIDTH = 80
TITLES = ("Arguments", "Commands", "Common options", "Options")


def walk(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every command and group, by the words that call it."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from walk(below, f"{path} {name}".strip())


COMMANDS = dict(walk(root_command()))


@pytest.fixture(autouse=True)
def _at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))


def printed(capsys: CaptureFixture[str], path: str, option: str) -> list[str]:
    with pytest.raises(SystemExit) as ended:
        run([*path.split(), option])
    assert ended.value.code == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("path", COMMANDS)
def test_help_fits_two_screens_and_shows_examples_first(
    path: str, capsys: CaptureFixture[str]
) -> None:
    lines = printed(capsys, path, "--help")
    assert len(lines) <= TWO_SCREENS
    assert max(map(len, lines)) <= WIDTH
    assert lines[0].startswith(f"Usage: {' '.join(['semseg-cli', path]).strip()} ")
    first = lines.index("Examples")
    assert lines[first + 1] == f"  {example_lines(path)[0]}"
    assert first < min(lines.index(title) for title in TITLES if title in lines)


def takes_all(command: Any) -> bool:
    return any("--help-all" in param.opts for param in command.params)


@pytest.mark.parametrize("path", [path for path, one in COMMANDS.items() if takes_all(one)])
def test_help_all_shows_every_option(path: str, capsys: CaptureFixture[str]) -> None:
    lines = printed(capsys, path, "--help-all")
    words = {word.strip(",") for line in lines for word in line.split()}
    names = {name for param in COMMANDS[path].params for name in param.opts if name[0] == "-"}
    assert names <= words
    assert max(map(len, lines)) <= WIDTH


def test_help_says_how_to_see_the_rest_where_there_is_more(capsys: CaptureFixture[str]) -> None:
    assert printed(capsys, "auto-feat", "--help")[-1].endswith("semseg-cli auto-feat --help-all")
    assert not any("--help-all" in line for line in printed(capsys, "ui", "--help"))


def test_help_all_needs_no_settings_that_can_be_read(capsys: CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(["auto-feat", "--preset", "none-such", "--help-all"])
    assert ended.value.code == 0
    assert "--memory-budget" in capsys.readouterr().out


def test_every_command_has_examples_of_itself_and_no_other_has() -> None:
    assert set(EXAMPLES) == set(COMMANDS)
    for path, examples in EXAMPLES.items():
        assert any(words.startswith(path) for words, _ in examples)
        assert max(map(len, example_lines(path))) <= WIDTH - 2


def test_common_options_are_options() -> None:
    flags = {
        name.removeprefix("--")
        for command in COMMANDS.values()
        for param in command.params
        for name in param.opts
    }
    assert set(COMMON) - flags == set()


def test_every_choice_is_named_by_the_option_or_its_help(capsys: CaptureFixture[str]) -> None:
    shown = [printed(capsys, path, "--help-all") for path in ("auto-feat", "lookup")]
    pages = "".join(f"{line}\n" for lines in shown for line in lines)
    for entry in KNOWN.values():
        kind, _ = item_type(entry.field)
        if get_origin(kind) is Literal and f"\n  {entry.flag} " in pages:
            section = pages.split(f"\n  {entry.flag} ", 1)[1].split("\n  --", 1)[0]
            missing = [str(one) for one in get_args(kind) if str(one) not in section]
            assert missing == [], entry.flag
