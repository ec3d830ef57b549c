"""Shares of patches that change, class by class, where the image is what was sampled.

Patches of an image are alike, so an interval must not count them as independent. Its size is that
of Wilson's (1927) interval for as many independent patches as say as much: seen in the spread over
images (CR2: Bell & McCaffrey 2002), pulled towards "one image, one observation" (Kish 1965) where
few images carry that spread, with Korn & Graubard's (1998) correction for their number.

Shapes are checked where counts come in (`rates_of`): what follows is made for every class of every
run, and a check takes as long as the arithmetic.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64, Real
from scipy import special

from semseg_cli.runs.inference.answers import (
    LEAST_WIDTH,
    MIN_IMAGES,
    MIN_KISH,
    Interval,
    too_few,
)
from semseg_cli.typed import typed

Z = float(special.ndtri(0.975))
PRIOR_IMAGES = 10.0  # against those that carry the spread; squared, it gives way when they are many


@dataclass(frozen=True)
class Rates:
    """One rate per class, changed over all patches, with what its intervals need."""

    value_c: Float64[np.ndarray, " c"]  # 0 over nothing
    share_bc: Float64[np.ndarray, "b c"]  # of the class's patches, in each image
    score_bc: Float64[np.ndarray, "b c"]  # the variance is the sum of their squares
    n_images_c: Int64[np.ndarray, " c"]  # that have the class
    kish_c: Float64[np.ndarray, " c"]  # the same, discounted for unequal numbers of patches
    seen_c: Float64[np.ndarray, " c"]  # 1 / the effective size that the spread shows
    pull_c: Float64[np.ndarray, " c"]  # weight of `kish_c` against it
    lo_c: Float64[np.ndarray, " c"]  # Wilson's ends with the quantiles of a normal distribution
    hi_c: Float64[np.ndarray, " c"]

    @cached_property
    def df_c(self) -> Float64[np.ndarray, " c"]:
        """Degrees of freedom of the spread."""
        return np.maximum(self.kish_c - 1, 1)

    @cached_property
    def bounds(self) -> tuple[Float64[np.ndarray, " c"], ...]:
        """Lower ends, upper ends and effective sizes, also where none should be printed."""
        factor_c = inflation(self.df_c)
        size_c = effective_size(self.seen_c, self.pull_c, self.kish_c, factor_c)
        return *wilson(self.value_c, size_c), size_c

    @property
    def is_printed_c(self) -> Bool[np.ndarray, " c"]:
        """Whether there are enough images for an interval."""
        return (self.n_images_c >= MIN_IMAGES) & (self.kish_c >= MIN_KISH)

    def of(self, classes: Sequence[int] | Bool[np.ndarray, " c"]) -> "Rates":
        """The rates of some classes."""
        chosen = np.asarray(classes)
        return Rates(
            self.value_c[chosen],
            self.share_bc[:, chosen],
            self.score_bc[:, chosen],
            self.n_images_c[chosen],
            self.kish_c[chosen],
            self.seen_c[chosen],
            self.pull_c[chosen],
            self.lo_c[chosen],
            self.hi_c[chosen],
        )


@typed
def sum_groups(
    counts_b: Int64[np.ndarray, "b ..."] | Float64[np.ndarray, "b ..."],
    groups: Sequence[Hashable],
) -> Int64[np.ndarray, "g ..."] | Float64[np.ndarray, "g ..."]:
    """Counts or sums over the images of each group (a drive, a patient), which becomes the unit."""
    row_of = {name: row for row, name in enumerate(dict.fromkeys(groups))}
    summed = np.zeros((len(row_of), *counts_b.shape[1:]), dtype=counts_b.dtype)
    np.add.at(summed, [row_of[name] for name in groups], counts_b)
    return summed


@typed
def rates_of(changed_bc: Real[np.ndarray, "b c"], total_bc: Real[np.ndarray, "b c"]) -> Rates:
    """The rates of classes from counts per image (or group).

    Where an image was sampled for a class, its counts are multiplied by one over the probability of
    that (Horvitz-Thompson). An image of weight w has the square of w in the variance, which covers
    both that others might have been sampled and that all of them are a sample.

    The rate of a class is the same to the last digit, whatever classes are measured with it: the
    images of a class lie beside each other in memory, and are summed in one order.
    """
    changed_bc, total_bc = np.asfortranarray(changed_bc), np.asfortranarray(total_bc)
    n_patches_c = safe_c = np.maximum(total_bc.sum(axis=0), 1)
    value_c, share_bc = changed_bc.sum(axis=0) / safe_c, total_bc / safe_c
    squares_c = np.maximum((share_bc**2).sum(axis=0), 1 / n_patches_c)
    score_bc = scores((changed_bc - value_c * total_bc) / safe_c, share_bc)
    n_images_c = (total_bc > 0).sum(axis=0)
    variance_c = (score_bc**2).sum(axis=0)
    has_spread_c = (n_images_c >= 3) & (variance_c > 0)
    binomial_c = np.where(has_spread_c, value_c * (1 - value_c), 1)
    pull_c = np.where(has_spread_c, (PRIOR_IMAGES / (carriers(score_bc) + PRIOR_IMAGES)) ** 2, 1)
    seen_c = np.maximum(variance_c / binomial_c, 1 / n_patches_c)
    kish_c = 1 / squares_c
    ends = wilson(value_c, effective_size(seen_c, pull_c, kish_c))
    return Rates(value_c, share_bc, score_bc, n_images_c, kish_c, seen_c, pull_c, *ends)


def effective_size(
    seen_c: Float64[np.ndarray, " c"],
    pull_c: Float64[np.ndarray, " c"],
    kish_c: Float64[np.ndarray, " c"],
    factor_c: Float64[np.ndarray, " c"] | float = 1.0,
) -> Float64[np.ndarray, " c"]:
    """Effective sizes (see `Rates`), the spread multiplied by `factor_c`."""
    return 1 / ((1 - pull_c) * seen_c * factor_c**2 + pull_c / kish_c)


def scores(
    residual_bc: Float64[np.ndarray, "b c"], share_bc: Float64[np.ndarray, "b c"]
) -> Float64[np.ndarray, "b c"]:
    """Residuals over sqrt(1 - 2 share + sum of squared shares), what fitting the mean took (CR2).

    An image that has the class alone has no residual, and gets 0.
    """
    left_bc = 1 - 2 * share_bc + (share_bc**2).sum(axis=0)
    return np.where(left_bc > 1e-6, residual_bc, 0) / np.sqrt(np.maximum(left_bc, 1e-6))


def carriers(score_bc: Float64[np.ndarray, "b c"]) -> Float64[np.ndarray, " c"]:
    """How many images carry the variance: (sum z^2)^2 / sum z^4; 0 without any."""
    square_bc = score_bc**2
    fourth_c = (square_bc**2).sum(axis=0)
    return np.divide(
        square_bc.sum(axis=0) ** 2, fourth_c, out=np.zeros_like(fourth_c), where=fourth_c > 0
    )


def wilson(
    value_c: Float64[np.ndarray, " c"], size_c: Float64[np.ndarray, " c"]
) -> tuple[Float64[np.ndarray, " c"], Float64[np.ndarray, " c"]]:
    """Both ends of Wilson's 95% score interval of shares; never of width zero."""
    stretch_c = 1 + Z**2 / size_c
    centre_c = (value_c + Z**2 / (2 * size_c)) / stretch_c
    half_c = Z / stretch_c * np.sqrt(value_c * (1 - value_c) / size_c + (Z / (2 * size_c)) ** 2)
    lo_c, hi_c = np.clip(centre_c - half_c, 0, 1), np.clip(centre_c + half_c, 0, 1)
    return np.where(value_c <= 0, 0, lo_c), np.where(value_c >= 1, 1, hi_c)


def inflation(df: Float64[np.ndarray, "*c"] | float) -> Any:
    """How much wider Student's t is than the normal distribution."""
    return special.stdtrit(df, 0.975) / Z


def rate_intervals(found: Rates) -> list[Interval]:
    """The interval of every class's rate."""
    columns = (found.value_c, *found.bounds, found.n_images_c, found.kish_c)
    return [interval("Wilson", *row) for row in zip(*(x.tolist() for x in columns), strict=True)]


def interval(
    method: str, value: float, lo: float, hi: float, n_eff: float, n_images: int, kish: float
) -> Interval:
    """These numbers, or the reason why they are not printed."""
    reason = too_few(n_images, kish)
    if not reason and hi - lo < LEAST_WIDTH:
        reason = "no image differs: nothing shows how far others would"
    if reason:
        known = value if n_images else None
        return Interval(known, None, None, None, n_images, method, reason)
    return Interval(value, lo, hi, n_eff, n_images, method)
