"""What a command prints last: where its results are, and how to go on with them."""

from collections.abc import Sequence

from semseg_cli import tracking
from semseg_cli.runs.folder import JOURNAL_FILE, RunFolder
from semseg_cli.settings.command_line import command_line
from semseg_cli.settings.output import EXPERIMENT, Recorded
from semseg_cli.show import console
from semseg_cli.tracking.store_address import store_option, ui_command


def compare_commands(store: str | None, folders: Sequence[RunFolder]) -> list[str]:
    """The command that compares these runs, from this working directory."""
    if store is None:
        paths = [folder.path for folder in folders]
        return [
            f"Compare: {command_line('compare', *paths)}",
            f"Track:   {command_line('upload', *paths)}",
        ]
    experiment = folders[0].meta["experiment"]
    named = [] if experiment == EXPERIMENT else _option("--experiment", experiment)
    return [f"Compare: {command_line('compare', *named, *store_option(store))}"]


def _option(name: str, value: str) -> list[str]:
    """An option as typed; a value that begins with a dash would pass for another."""
    return [f"{name}={value}"] if value.startswith("-") else [name, value]


def print_where(
    folders: Sequence[RunFolder], store: str | None, output: Recorded, commands: Sequence[str]
) -> None:
    """Where the results are, and the commands to go on with."""
    lines = ["", *(f"Results: {folder.path}" for folder in folders), *commands]
    if store is not None:
        lines.append(f"MLflow:  {ui_command(store)}")
        links = [tracking.run_link(folder) for folder in folders]
        lines += [f"Run:     {link}" for link in links if link]
    for line in lines:
        console.say(line, quiet=output.quiet)


def go_on(folders: Sequence[RunFolder]) -> str:
    """The command that goes on with stopped runs; nothing where they keep no counts."""
    if not (folders[0].path / JOURNAL_FILE).exists():
        return ""
    return f"Go on: {command_line(folders[0].meta['command'], '--resume', folders[0].path)}"
