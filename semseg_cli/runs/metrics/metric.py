"""What is known of one number: its definition, its form, and where it is shown."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "ratio", "count", "setting", "estimate", "difference", "p"]
# table: printed for runs, classes, ...; tiles: of report.html; view: of MLflow's list of runs;
# plots: target and other change drawn against each other, or selectivity.
Place = Literal["table", "tiles", "view", "plots"]


@dataclass(frozen=True)
class Metric:
    """One number that runs leave.

    `help` is its definition: over what it is taken and what is left out. `digits` are decimals: 3
    (or `--precision`), 0 for counts, None where it shows as many as it needs. A metric with an
    interval may come with `KEY_lo` and `KEY_hi`.
    """

    key: str
    help: str
    heading: str = ""  # of its column, with line breaks; else made of the key
    unit: str = "share"
    digits: Literal[0, 3] | None = 3
    shown: tuple[Place, ...] = ()
    short: str = ""  # its other name on the command line
    label: str = ""  # in tiles and plots; else the heading
    has_interval: bool = False
    is_signed: bool = False
    only_wide: bool = False  # no column where the terminal is too narrow for it

    @property
    def header(self) -> str:
        """What stands above its column."""
        return self.heading or self.key.replace("_", "\n")

    @property
    def name(self) -> str:
        """What it is called in one line."""
        return self.label or self.header.replace("\n", " ")

    @property
    def kind(self) -> Kind:
        """How tables form it."""
        if self.unit == "p":
            return "p"
        if self.has_interval:
            return "difference" if self.is_signed else "estimate"
        if self.digits is None:
            return "setting"
        return "ratio" if self.digits else "count"


def against_baseline(key: str, of: str, *, is_corrected: bool) -> tuple[Metric, ...]:
    """How a measure compares with the baseline's: its difference, and its p values."""
    difference = Metric(
        f"{key}_difference",
        f"{of.capitalize()} minus that of the baseline, on the same images and the classes that "
        "both have; none for runs that do not measure the same thing.",
        unit="difference of shares",
        has_interval=True,
        is_signed=True,
    )
    p_value = Metric(
        f"{key}_p",
        f"Two-sided p of that difference in {of}, by resampling the images.",
        unit="p",
    )
    if not is_corrected:
        return difference, p_value
    corrected = Metric(
        f"{key}_p_adjusted",
        f"`{key}_p` corrected over the classes with enough predicted patches (Benjamini-Hochberg); "
        "none for the others.",
        unit="p",
    )
    return difference, p_value, corrected
