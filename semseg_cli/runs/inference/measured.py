"""The intervals of a run, from its counts [images, classes, 4] in the order of COUNTED.

Shapes are checked where rates are made of counts (`rates.rates_of`), once for each run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Real

from semseg_cli.runs.inference.answers import Interval
from semseg_cli.runs.inference.combined import (
    Term,
    combined_interval,
    gap_intervals,
    mean_of,
)
from semseg_cli.runs.inference.rates import Rates, rate_intervals, rates_of

MEASURES = ("target_change", "other_change", "selectivity")
MIN_IMAGES_OF_A_CLASS = 3  # of the classes that macro means are over


@dataclass(frozen=True)
class Measured:
    """Target and other change of every class."""

    target: Rates
    other: Rates

    def terms(self, measure: str, sign: float = 1.0) -> list[Term]:
        """A measure's mean over the classes, as a sum of rates."""
        target, other = mean_of(self.target, sign), mean_of(self.other, sign)
        return {
            "target_change": [target],
            "other_change": [other],
            "selectivity": [target, mean_of(self.other, -sign)],
        }[measure]

    def of(self, classes: Sequence[int] | Bool[np.ndarray, " c"]) -> "Measured":
        """The same of some classes, to the last digit as if these had been measured alone."""
        every = np.arange(len(self.target.value_c))
        chosen = every[np.asarray(classes)] if len(classes) else every[:0]
        if np.array_equal(chosen, every):
            return self
        return Measured(self.target.of(chosen), self.other.of(chosen))


def measure(counts_bc4: Real[np.ndarray, "b c 4"]) -> Measured:
    """The rates of all classes; counts of sampled images come multiplied by their weights."""
    orig, changed, other, other_changed = np.moveaxis(counts_bc4, -1, 0)
    return Measured(rates_of(changed, orig), rates_of(other_changed, other))


def pooled(counts_bc4: Real[np.ndarray, "b c 4"]) -> Real[np.ndarray, "b 1 4"]:
    """Counts summed over the classes: a class counts as much as it has patches."""
    return counts_bc4.sum(axis=1, keepdims=True)


def macro_classes(
    counts_bc4: Real[np.ndarray, "b c 4"], min_patches: int = 1
) -> Bool[np.ndarray, " c"]:
    """The classes that macro means are over: enough original patches, in at least 3 images."""
    orig_bc = counts_bc4[..., 0]
    n_images_c = (orig_bc > 0).sum(axis=0)
    has_patches_c = orig_bc.sum(axis=0) >= max(1, min_patches)
    return has_patches_c & (n_images_c >= MIN_IMAGES_OF_A_CLASS)


def class_intervals(counts_bc4: Real[np.ndarray, "b c 4"]) -> dict[str, list[Interval]]:
    """Per measure the interval of every class."""
    found = measure(counts_bc4)
    return {
        "target_change": rate_intervals(found.target),
        "other_change": rate_intervals(found.other),
        "selectivity": gap_intervals(found.target, found.other),
    }


def pooled_intervals(counts_bc4: Real[np.ndarray, "b c 4"]) -> dict[str, Interval]:
    """Per measure the interval of the pooled number."""
    return {name: of_one for name, (of_one,) in class_intervals(pooled(counts_bc4)).items()}


def macro_intervals(
    counts_bc4: Real[np.ndarray, "b c 4"], min_patches: int = 1, rates: Measured | None = None
) -> dict[str, Interval]:
    """Per measure the mean over `macro_classes`, every class alike, and its interval.

    `rates` are those of the counts, where they are known.
    """
    found = (rates or measure(counts_bc4)).of(macro_classes(counts_bc4, min_patches))
    return {measure: combined_interval(found.terms(measure)) for measure in MEASURES}
