"""What runs leave behind, as it is handed back: reports, tables, pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from matplotlib.figure import Figure

from semseg_cli.api.comparing import Comparison, compared
from semseg_cli.api.own_folder import OwnFolder
from semseg_cli.api.tables import Shown, frame_of
from semseg_cli.errors import UsageError
from semseg_cli.runs.report import Report
from semseg_cli.runs.rows import Row, per_draw
from semseg_cli.show.charts import class_chart, comparison_chart, dose_chart
from semseg_cli.show.run_tables import by_selectivity, class_table
from semseg_cli.show.tables import Table, cell


@dataclass(frozen=True, repr=False)
class Run(Shown):
    """One method at one scale.

    Attributes:
        name: as the commands call it: method and scale.
        method: its command.
        report: the numbers.
        rows: one per class, as class_results.csv has them.
        folder: the run's folder; None if nothing was to be written.
    """

    name: str
    method: str
    report: Report
    rows: Sequence[Row]
    folder: Path | None

    def to_frame(self) -> pd.DataFrame:
        """One row per class: counts, changes with their intervals, latent, outcomes."""
        return frame_of(self.rows)

    def plot(self) -> Figure:
        """Target and other change of every class."""
        rows = per_draw(self.rows, self.report.n_draws)
        return class_chart(rows, self.report.min_patches)

    def in_a_line(self) -> str:
        """Its name and what it comes to."""
        report = self.report
        n_classes, n_images = len(report.macro_results), report.n_images
        over = (
            f"{n_classes} class{'es' * (n_classes != 1)}, {n_images} image{'s' * (n_images != 1)}"
        )
        return f"{self.name}, macro selectivity {cell(report.macro_selectivity)} over {over}"

    def tables(self) -> Sequence[Table]:
        """The classes by selectivity; those with few patches last."""
        rows = per_draw(self.rows, self.report.n_draws)
        ordered = by_selectivity(rows, self.report.min_patches)
        return [class_table(ordered, f"Classes by selectivity: {self.name}")]


class Result(Shown):
    """One or several runs that shared a pass over the images; `result[NAME]` is one of them."""

    def __init__(
        self,
        runs: Sequence[Run],
        tables: Sequence[Table],
        paths: Sequence[Path],
        temporary: OwnFolder | None,
    ) -> None:
        self.runs = {run.name: run for run in runs}
        self._tables, self._paths = tables, paths
        self._temporary = temporary  # goes with this object

    def __getitem__(self, name: str) -> Run:
        """A run by its name, or by its method where that has one run.

        Raises:
            KeyError: there is none.
        """
        if name in self.runs:
            return self.runs[name]
        of_method = [run for run in self if run.method == name]
        if len(of_method) != 1:
            raise KeyError(f"{name!r} names {len(of_method)} runs of {', '.join(self.runs)}")
        return of_method[0]

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs.values())

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def only(self) -> Run:
        """The run.

        Raises:
            UsageError: there are several.
        """
        if len(self) != 1:
            raise UsageError(
                f"There are {len(self)} runs ({', '.join(self.runs)}): take one, "
                f"result[{next(iter(self.runs))!r}]"
            )
        return next(iter(self))

    @property
    def report(self) -> Report:
        """The numbers of the only run."""
        return self.only.report

    @property
    def folder(self) -> Path | None:
        """The folder of the only run; None if nothing was to be written."""
        return self.only.folder

    def to_frame(self, per: Literal["class", "run"] = "class") -> pd.DataFrame:
        """One row per run and class, or one per run, unrounded, with intervals."""
        if per == "run":
            return frame_of([_run_row(run) for run in self])
        if per != "class":
            raise UsageError(f"per is {per!r}: give 'class' or 'run'")
        return frame_of([{"run": run.name, **row} for run in self for row in run.rows])

    def plot(self) -> Figure:
        """The classes of the only run; several scales of a method as a curve; else the runs."""
        if len(self) == 1:
            return self.only.plot()
        rows = [_run_row(run) for run in self]
        methods = {run.method for run in self}
        return dose_chart(rows, methods.pop()) if len(methods) == 1 else comparison_chart(rows)

    def compare(self, **options: Any) -> Comparison:
        """The runs side by side, with the paired tests of the command `compare`.

        Args:
            options: of `compare`, by their names: baseline, per_class, classes, columns, ...

        Raises:
            UsageError: there is one run alone, or no such option.
        """
        return compared(self._paths, options)

    def in_a_line(self) -> str:
        """The run, or the names of several."""
        return (
            self.only.in_a_line() if len(self) == 1 else f"{len(self)} runs, {', '.join(self.runs)}"
        )

    def tables(self) -> Sequence[Table]:
        """The runs, then the most and least selective classes of the first that is no control."""
        return self._tables


def _run_row(run: Run) -> dict[str, Any]:
    report = run.report
    return {"run": run.name, "method": report.method, "protocol": report.protocol,
            **report.metrics()}  # fmt: skip
