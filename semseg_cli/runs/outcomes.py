"""Outcomes beside change: which sums are kept per image and class, and the numbers made of them.

No torch in here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from semseg_cli.runs.inference.answers import Interval
from semseg_cli.runs.inference.means import mean_intervals
from semseg_cli.runs.inference.rates import rate_intervals, rates_of, sum_groups

Table = Mapping[str, np.ndarray]  # column -> [images, classes]
COLUMNS = (
    "n_wrong_patches",
    "n_righted",
    "n_damaged",
    "n_repaired",
    "n_interior_other",
    "n_interior_changed",
    "n_distant_other",
    "n_distant_changed",
    "n_labelled",
    "n_right_before",
    "n_right_after",
    "n_union_before",
    "n_union_after",
    "n_labelled_other",
    "n_other_right_before",
    "n_other_right_after",
    "n_edited",
    "margin_drop_sum",
    "other_margin_sum",
    "edit_length_sum",
    "edit_ratio_sum",
    "off_manifold_sum",
)


@dataclass(frozen=True)
class Fraction:
    """A number `part - less` over `whole`, all of them sums over patches; a rate is in [0, 1]."""

    part: str
    whole: str
    less: str | None = None
    is_rate: bool = True

    def sums(self, table: Table) -> tuple[np.ndarray, np.ndarray]:
        """Both sums [images, classes], the part without what is less."""
        part_bc = table[self.part]
        return part_bc - table[self.less] if self.less else part_bc, table[self.whole]

    def intervals(self, table: Table) -> list[Interval]:
        """Of every class the number with its interval over images."""
        part_bc, whole_bc = self.sums(table)
        if self.is_rate:
            return rate_intervals(rates_of(part_bc, whole_bc))
        return mean_intervals(part_bc / np.maximum(whole_bc, 1), whole_bc)


FRACTIONS: Mapping[str, Fraction] = {
    "became_right": Fraction("n_righted", "n_wrong_patches"),
    "damage": Fraction("n_damaged", "n_other_patches", less="n_repaired", is_rate=False),
    "interior_other_change": Fraction("n_interior_changed", "n_interior_other"),
    "distant_other_change": Fraction("n_distant_changed", "n_distant_other"),
    "absent_change": Fraction("n_absent_changed", "n_absent_patches"),
    "target_accuracy_before": Fraction("n_right_before", "n_labelled"),
    "target_accuracy_after": Fraction("n_right_after", "n_labelled"),
    "target_iou_before": Fraction("n_right_before", "n_union_before"),
    "target_iou_after": Fraction("n_right_after", "n_union_after"),
    "other_accuracy_before": Fraction("n_other_right_before", "n_labelled_other"),
    "other_accuracy_after": Fraction("n_other_right_after", "n_labelled_other"),
    "margin_drop": Fraction("margin_drop_sum", "n_orig_patches", is_rate=False),
    "other_margin_change": Fraction("other_margin_sum", "n_other_patches", is_rate=False),
    "edit_norm": Fraction("edit_length_sum", "n_edited", is_rate=False),
    "edit_ratio": Fraction("edit_ratio_sum", "n_edited", is_rate=False),
    "off_manifold": Fraction("off_manifold_sum", "n_edited", is_rate=False),
}
LENGTH_APART = 0.1  # of the longer edit: more is another dose
BY_CLASS = ("target_iou_before", "target_iou_after")  # a mean over classes, not over patches


def are_as_long(lengths: Sequence[float]) -> bool:
    """Whether edits of these mean lengths are near enough to be one dose."""
    return max(lengths) - min(lengths) <= LENGTH_APART * max(lengths)


def fraction_intervals(
    table: Table, groups: Sequence[str] | None = None
) -> dict[str, list[Interval]]:
    """Of every class each number that the table has the columns for.

    `groups` names the group of each image, else all differ.
    """
    full = _by_unit(table, groups)
    return {
        name: fraction.intervals(full)
        for name, fraction in FRACTIONS.items()
        if {fraction.part, fraction.whole} <= full.keys()
    }


def pooled_fraction_intervals(
    table: Table, groups: Sequence[str] | None = None
) -> dict[str, Interval]:
    """The same over all patches of all classes together; `BY_CLASS` are not among them."""
    full = pooled_units(table, groups)
    return {
        name: fraction.intervals(full)[0]
        for name, fraction in FRACTIONS.items()
        if {fraction.part, fraction.whole} <= full.keys() and name not in BY_CLASS
    }


def pooled_units(table: Table, groups: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """The columns of what was sampled [images or groups, 1], summed over the classes."""
    units = _by_unit(table, groups)
    return {name: values.sum(axis=1, keepdims=True) for name, values in units.items()}


def _by_unit(table: Table, groups: Sequence[str] | None) -> Table:
    """The table by what was sampled; which images lack a class is told before they are grouped."""
    full = _with_absent(table)
    if groups is None:
        return full
    return {name: sum_groups(values, groups) for name, values in full.items()}


def _with_absent(table: Table) -> Table:
    """The table with the patches of images in which none is labelled or predicted as the class."""
    if "n_labelled" not in table:
        return table
    is_absent_bc = (table["n_orig_patches"] == 0) & (table["n_labelled"] == 0)
    return {
        **table,
        "n_absent_patches": table["n_other_patches"] * is_absent_bc,
        "n_absent_changed": table["n_other_changed"] * is_absent_bc,
    }


def as_numbers(found: Mapping[str, Interval]) -> dict[str, float]:
    """Each number, and `_lo` and `_hi` where it has an interval; what is over nothing is left out.

    Six digits: sums of floats depend on the order of their parts in the last ones.
    """
    ends = [
        (name + ending, value)
        for name, interval in found.items()
        for ending, value in (("", interval.value), ("_lo", interval.lo), ("_hi", interval.hi))
    ]
    return {name: rounded(value) for name, value in ends if value is not None}


def rounded(value: float) -> float:
    """Six significant digits."""
    return float(f"{value:.6g}")
