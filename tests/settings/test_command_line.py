"""Printed commands run when they are pasted."""

import shlex
from pathlib import Path

from semseg_cli.settings.command_line import command_line


def test_a_printed_command_is_read_back_by_a_shell_as_it_was_meant() -> None:
    for name in ("plain", "with space", "-dash", "it's", "$HOME;x"):
        words = shlex.split(command_line("auto-feat", "--lookup", Path(name)))
        assert words[:3] == ["semseg-cli", "auto-feat", "--lookup"]
        assert not words[3].startswith("-")
        assert Path(words[3]) == Path(name)


def test_a_word_with_single_quotes_stands_in_double_ones_unless_a_shell_would_read_into_them() -> (
    None
):
    said = command_line("compare", "--filter", "tags.suite = 'a1'")
    assert said == """semseg-cli compare --filter "tags.suite = 'a1'\""""
    for word in ("it's $HOME", "it's `x`", 'it\'s "x"', "it's \\", "it's!"):
        assert shlex.split(command_line(word)) == ["semseg-cli", word]
        assert not command_line(word).startswith('semseg-cli "it')
