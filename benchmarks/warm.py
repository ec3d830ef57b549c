"""python -m benchmarks warm: processor seconds of a warm run on the demo world, by stage.

Each row is a command that does all that the row above it does, and one thing more; what differs is
that thing's cost. The demo world and its residuals are made first. Medians of several rounds, in
which the rows take turns.
"""

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.many_runs import spent
from semseg_cli.show.console import show
from semseg_cli.show.tables import Column, Table

AT_MOST = 10.0
RUN = ("auto-feat", "--preset", "demo", "--quiet")
STAGES = {
    "start": ("auto-feat", "--help"),
    "imports, ViT, images": (*RUN, "--dry-run"),
    "lookup, edits, files": (*RUN, "--no-track", "--no-plots"),
    "pictures": (*RUN, "--no-track"),
    "tracking": RUN,
}
COLUMNS = (
    Column("stage", "stage", "text", elastic=True),
    Column("own", "processor\nseconds", "ratio"),
    Column("whole", "with all\nabove", "ratio"),
)


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser("python -m benchmarks warm", description=__doc__)
    made.add_argument("--rounds", type=int, default=3)
    return made


def warm(arguments: Sequence[str]) -> bool:
    """Measures and prints; whether a whole run takes at most 10 s."""
    given = parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spent(RUN, folder)
        rounds = [
            {stage: spent(command, folder).seconds for stage, command in STAGES.items()}
            for _ in range(given.rounds)
        ]
    whole = {stage: statistics.median(one[stage] for one in rounds) for stage in STAGES}
    before = [0.0, *list(whole.values())[:-1]]
    rows = tuple(
        {"stage": stage, "own": seconds - other, "whole": seconds}
        for (stage, seconds), other in zip(whole.items(), before, strict=True)
    )
    note = f"The whole run was asked to take at most {AT_MOST:.0f} s."
    show(Table("A warm run on the demo world", COLUMNS, rows, (note,)), "table")
    return whole["tracking"] <= AT_MOST
