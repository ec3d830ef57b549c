"""What a comparison is made of and how it is shown."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from semseg_cli.settings.base import Settings, option
from semseg_cli.settings.controls import RandFeat, RandVec
from semseg_cli.settings.output import FORMATS, Format, named_experiment, store_option

SUFFIXES = {".csv": "csv", ".json": "json", ".md": "markdown", ".tex": "latex"}


@dataclass(frozen=True, kw_only=True)
class View(Settings):
    """How to print a comparison."""

    panel: ClassVar[str] = "Table"

    per_class: bool = option(
        False, "Rows are classes. Stars mark differences to the baseline, corrected over classes."
    )
    classes: tuple[str, ...] = option(
        (), "Only this class (repeatable; name or id); implies --per-class.", flag="class"
    )
    columns: str | None = option(
        None,
        "Show these columns, a,b,c. Any of --format csv, any setting; macro, macro_target, p, ...",
    )
    all_columns: bool = option(False, "Show every column, also what all runs have in common.")
    sort: str | None = option(
        None,
        "Sort rows by this column, largest first. -COLUMN puts the smallest first "
        "(macro_selectivity, where runs are not named; selectivity of classes).",
    )
    top: int | None = option(None, "Only the first N rows.", ge=1)
    precision: int = option(3, "Decimals; p has at least 3.", ge=1, le=12)
    group_by: str | None = option(
        None, "Images of one drive, patient or scene count as one sample: a regular expression "
        "that finds its name in theirs, or FILE.csv:COLUMN (else as the runs were told).",
    )  # fmt: skip
    format: Literal["auto", Format] = option(
        "auto", f"Form of the table: {', '.join(FORMATS)}. auto goes by the suffix of --output."
    )
    output: Path | None = option(None, "Write to this file instead of the terminal.")
    plot: Path | None = option(None, "Also draw target and other change of the runs: FILE.png.")

    @property
    def output_format(self) -> str:
        """The form to print: the one asked for, else that of the file's suffix, else a table."""
        by_suffix = SUFFIXES.get(self.output.suffix.lower(), "table") if self.output else "table"
        return by_suffix if self.format == "auto" else self.format


@dataclass(frozen=True, kw_only=True)
class RunChoice(Settings):
    """Which runs to compare, and with which."""

    panel: ClassVar[str] = "Runs"

    experiment: tuple[str, ...] = option(
        (), "Experiment to take runs from (repeatable); else as runs go to."
    )
    method: tuple[str, ...] = option((), "Only runs of this method (repeatable): auto-feat, ...")
    filter: str = option("", "Only runs that fit, in MLflow's syntax: metrics.other_change < 0.1")
    sweep: str | None = option(None, "Only the runs of one command, by its sweep id (tag).")
    last: int | None = option(
        None, "The newest N finished runs, instead of the newest of each kind.", ge=1
    )
    unfinished: bool = option(False, "Also runs that failed, were stopped or go on.")
    baseline: str | None = option(
        None,
        f"Method or run that differences are taken to: {RandFeat.command}, else "
        f"{RandVec.command}, with an edit as long, if present.",
    )
    tracking_uri: str | None = store_option()

    @property
    def experiments(self) -> tuple[str, ...]:
        """The names of the experiments: those given, else the one that runs go to."""
        return self.experiment or (named_experiment(None),)


@dataclass(frozen=True, kw_only=True)
class Compare(View, RunChoice):
    """Which runs to compare, and how to show them."""
