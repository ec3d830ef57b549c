"""Large numbers of a page: each says what it is over, and comes with its definition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from semseg_cli.runs.metrics import RUNS
from semseg_cli.runs.report import Report
from semseg_cli.show.run_notes import n_target_patches
from semseg_cli.show.run_tables import to_column
from semseg_cli.show.tables import cell, interval


@dataclass(frozen=True)
class Tile:
    """A large number with its name, its interval (or ""), what it is over, and its definition,
    which shows where the mouse rests."""

    name: str
    value: str
    interval: str
    over: str
    definition: str = ""


def tiles_of(
    numbers: Mapping[str, float], report: Report, keys: Sequence[str] | None = None
) -> list[Tile]:
    """The tiles of a run's numbers, as far as it has them: those of `keys`, else all."""
    return [
        Tile(
            metric.name,
            cell(numbers[metric.key]),
            interval(numbers, to_column(metric)),
            metric.over.format(**_what(report)),
            metric.help.replace("`", ""),
        )
        for metric in RUNS
        if (metric.key in keys if keys else "tiles" in metric.shown) and metric.key in numbers
    ]


def _what(report: Report) -> dict[str, str]:
    n_macro, n_all = len(report.macro_results), report.n_asked
    counted = f"{n_macro} of {n_all}" if n_macro < n_all else f"{n_all}"
    return {
        "classes": f"{counted} class{'es' * (n_all != 1)}",
        "patches": f"{n_target_patches(report):,} patches",
    }
