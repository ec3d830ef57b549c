"""Progress where there is no terminal: a line per stage and per ten percent of it."""

import time
from collections.abc import Callable

from semseg_cli.progress import Advance

PARTS = 10
PATIENCE = 1.0  # seconds between two lines of a stage, at least


def progress_lines(
    write: Callable[[str], None], clock: Callable[[], float] = time.monotonic
) -> Callable[..., Advance]:
    """A progress that writes lines: units per second, and the time left at that rate."""

    def start(description: str, total: int, unit: str = "images") -> Advance:
        stage = _Stage(f"{description}: ", total, unit, clock)
        write(f"{description}: {total} {unit}")

        def advance(n: int) -> None:
            if line := stage.line_after(n):
                write(line)

        return advance

    return start


class _Stage:
    """How far a stage is, and when it last said so."""

    def __init__(self, name: str, total: int, unit: str, clock: Callable[[], float]) -> None:
        self.name, self.total, self.unit, self.clock = name, total, unit, clock
        self.began = self.told = clock()
        self.n_done, self.part = 0, 0

    def line_after(self, n: int) -> str:
        """What to write after `n` more units; nothing where the last line still says enough."""
        self.n_done += n
        part = PARTS * self.n_done // max(1, self.total)
        now = self.clock()
        ends = self.n_done >= self.total and self.part > 0  # it said how far it is: so to the end
        if part <= self.part or (now - self.told < PATIENCE and not ends):
            return ""
        self.part, self.told = part, now
        rate = self.n_done / max(now - self.began, 1e-9)
        speed = f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"
        left = max(0, self.total - self.n_done) / rate
        end = f"{duration(left)} left" if left else f"in {duration(now - self.began)}"
        percent = 100 * self.n_done // max(1, self.total)
        return f"{self.name}{percent}%, {self.n_done}/{self.total}, {speed} {self.unit}/s, {end}"


def duration(seconds: float) -> str:
    """A length of time in two units at most: 8 s, 2 min 5 s, 3 h 20 min."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
