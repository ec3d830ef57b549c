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
