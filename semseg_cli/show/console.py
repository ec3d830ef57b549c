"""The terminal: results on stdout, messages and progress on stderr."""

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from semseg_cli import interrupts
from semseg_cli.errors import SemsegError, printable
from semseg_cli.progress import ASIDE, Advance, Progress, silent
from semseg_cli.ranks import group as ranks
from semseg_cli.show.progress_lines import progress_lines
from semseg_cli.show.tables import Table, render, render_all

DEFAULT_WIDTH, LEAST_WIDTH = 80, 40
log = logging.getLogger("semseg_cli")
_live: list[Console] = []  # the console whose progress bars are on the screen


def stdout() -> Console:
    """The console for results; without a terminal as wide as COLUMNS says, else 80 columns."""
    return _console(stderr=False)


def stderr() -> Console:
    """The console for messages and progress."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    is_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, width=None if is_terminal else _asked_width(), highlight=False)


def _asked_width() -> int:
    """What COLUMNS says; 80 where it says nothing, or less than a table can be."""
    text = os.environ.get("COLUMNS", "")
    return max(int(text), LEAST_WIDTH) if text.isdecimal() and len(text) < 6 else DEFAULT_WIDTH


def say(message: str, *, quiet: bool = False) -> None:
    """A message for the user on stderr, above the progress bars, and in the run's log."""
    message = printable(message, keep="\n")
    log.info(message)
    if not quiet:
        console = _live[-1] if _live else stderr()
        console.print(message, markup=False, soft_wrap=True)


class _Warnings(logging.Handler):
    """Shows warnings of the library to the user; keeps those that no run's log has."""

    def __init__(self, *, quiet: bool) -> None:
        super().__init__(logging.WARNING)
        self.quiet = quiet
        self.unlogged: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one warning."""
        has_log = any(isinstance(other, logging.FileHandler) for other in log.handlers)
        if not has_log and not hasattr(record, ASIDE):
            self.unlogged.append(record)
        if not self.quiet:
            console = _live[-1] if _live else stderr()
            console.print(printable(record.getMessage(), keep="\n"), markup=False, soft_wrap=True)


@contextmanager
def showing_warnings(*, quiet: bool = False) -> Iterator[None]:
    """Shows warnings of the library to the user, unless quiet."""
    handler = _Warnings(quiet=quiet)
    handler.addFilter(lambda record: record.levelno == logging.WARNING)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def unlogged_warnings() -> list[logging.LogRecord]:
    """What was warned of since the command began, while no run had a log: runs that begin now are
    as concerned by it. Not what was said aside."""
    handlers = [one for one in log.handlers if isinstance(one, _Warnings)]
    return [record for one in handlers for record in one.unlogged]


def show(
    table: Table, format: str = "table", output: Path | None = None, precision: int = 3
) -> None:
    """Prints a table on stdout, or writes it to a file.

    Raises:
        SemsegError: the file cannot be written.
    """
    if output is None:
        out = stdout()
        text = render(table, format, out, precision)
        # Files keep names as they are; on a screen they must not command it.
        out.file.write(printable(text, keep="\n") if format in ("csv", "json") else text)
        return
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(render(table, format, precision=precision), encoding="utf-8")
    except OSError as error:
        raise SemsegError(
            f"Cannot write {output} ({error.strerror}): give another --output."
        ) from error
    say(f"Wrote {output}")


def show_all(tables: Sequence[Table], format: str = "table") -> None:
    """Prints tables that belong together on stdout; those that CSV has no place for are named."""
    out = stdout()
    text = render_all(tables, format, out)
    out.file.write(printable(text, keep="\n") if format in ("csv", "json") else text)
    if format == "csv" and len(tables) > 1:
        left = ", ".join(table.title for table in tables[1:])
        say(f"CSV is of the first table alone; --format json has the others, too: {left}.")


class Rate(ProgressColumn):
    """Finished units per second."""

    def render(self, task: Task) -> Text:
        """The rate as text; empty until one is known."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.0f}/s" if speed else "", style="dim")


@contextmanager
def progress_bars(*, quiet: bool = False) -> Iterator[Progress]:
    """Progress as bars on a terminal, as lines in a log, not at all if quiet.

    Either way tasks are logged by their start, and are where a Ctrl-C or the failure of another
    rank is noticed at the latest.
    """
    console = stderr()
    if quiet:
        with showing_warnings(quiet=True):
            yield _logged(silent)
        return
    if not console.is_terminal:
        with showing_warnings():
            yield _logged(progress_lines(_say_line))
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=14),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        Rate(),
        TimeElapsedColumn(),
        TextColumn("left", style="dim"),
        TimeRemainingColumn(),
    )
    with showing_warnings(), Bars(*columns, console=console, transient=True) as bars:
        _live.append(console)

        def start(description: str, total: int, unit: str = "images") -> Advance:
            task = bars.add_task(description, total=total, unit=unit)
            return lambda n: bars.advance(task, n)

        try:
            yield _logged(start)
        finally:
            _live.pop()


def _say_line(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)


def _logged(progress: Progress) -> Progress:
    def start(description: str, total: int, unit: str = "images") -> Advance:
        log.info("%s: %d %s", description, total, unit)
        advance = progress(description, total, unit)

        def checked(n: int) -> None:
            interrupts.check()
            ranks.check()
            advance(n)

        return checked

    return start
