"""What is known of one number: its definition, its form, and where it is shown."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "ratio", "count", "setting", "estimate", "difference", "p", "mark"]
# table: printed for runs, classes, ...; tiles: of report.html; view: of MLflow's list of runs;
# plots: target and other change drawn against each other, or selectivity.
Place = Literal["table", "tiles", "view", "plots"]

# What comes beside a number with an interval, as `KEY_lo`: its ends, the effective size (of one
# share: as many independent patches; else images, discounted for unequal shares), the images (or
# groups) it is over, of those the ones in which a patch changed, the method, why there is none.
DETAILS = ("lo", "hi", "n_eff", "n_images", "n_touched", "method", "reason")


@dataclass(frozen=True)
class Metric:
    """One number that runs leave.

    `help` is its definition: over what it is taken and what is left out. `digits` are decimals: 3
    (or `--precision`), 0 for counts, None where it shows as many as it needs. A metric with an
    interval may come with the entries of `DETAILS`. `over` says in a few words what the number of a
    run is over, where it stands alone; `{classes}` are those of macro means, `{patches}` the target
    patches of all classes.
    """

    key: str
    help: str
    heading: str = ""  # of its column, with line breaks; else made of the key
    unit: str = "share"
    digits: Literal[0, 3] | None = 3
    shown: tuple[Place, ...] = ()
    short: str = ""  # its other name on the command line
    label: str = ""  # in tiles and plots; else the heading
    over: str = ""
    has_interval: bool = False
    is_signed: bool = False
    any_classes: bool = False  # the same whatever classes are counted
    yields: int = 0  # where a terminal is too narrow for all columns, the largest go first; 0 stays

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


def against_baseline(key: str, of: str, corrected_over: str) -> tuple[Metric, Metric, Metric]:
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
        f"Two-sided p of that difference in {of}, not corrected; `{key}_p_method` says which test. "
        "None against a control of another edit length.",
        unit="p",
    )
    corrected = Metric(f"{key}_p_adjusted", f"`{key}_p` corrected over {corrected_over}.", unit="p")
    return difference, p_value, corrected
