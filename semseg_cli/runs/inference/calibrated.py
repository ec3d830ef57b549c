"""Scores held against nulls: what latents do beyond random ones of their own dictionary, and how
far apart two dictionaries are in that.

Edits and nulls are counted on images that show the class; nulls on some of them, drawn at random.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Real

from semseg_cli.runs.inference.answers import LEAST_WIDTH, Difference, Interval, Test
from semseg_cli.runs.inference.combined import Term, combined_interval
from semseg_cli.runs.inference.controls import draws_needed, gaps_of
from semseg_cli.runs.inference.luck import Gap, over_both_draws, over_draws
from semseg_cli.runs.inference.rates import sum_groups
from semseg_cli.typed import typed

METHOD = "t: draws and images"


@dataclass(frozen=True)
class Calibrated:
    """Counts of each class's own edit, and of its nulls: summed over draws, and per draw summed
    over images. Images and classes are the same in both; zeros where nulls were not tried."""

    own_bc4: Real[np.ndarray, "b c 4"]
    null_bc4: Real[np.ndarray, "b c 4"]
    draws_rc4: Real[np.ndarray, "r c 4"]

    def of(self, kept_c: Bool[np.ndarray, " c"]) -> "Calibrated":
        """The same of some classes."""
        own_bc4, null_bc4 = self.own_bc4[:, kept_c], self.null_bc4[:, kept_c]
        return Calibrated(own_bc4, null_bc4, self.draws_rc4[:, kept_c])

    def by_group(self, groups: Sequence[str]) -> "Calibrated":
        """The same with the images of each group as one."""
        own_gc4, null_gc4 = sum_groups(self._own_bc4, groups), sum_groups(self.null_bc4, groups)
        return Calibrated(own_gc4, null_gc4, self.draws_rc4)

    @property
    def _own_bc4(self) -> Real[np.ndarray, "b c 4"]:
        """As nulls: on images with the class."""
        return self.own_bc4 * (self.own_bc4[..., :1] > 0)

    @property
    def gap(self) -> Gap:
        """The mean over the classes of their own score minus their nulls'."""
        return gaps_of(self._own_bc4, self.null_bc4, self.draws_rc4, "macro")["selectivity"]


def calibrated_score(one: Calibrated) -> Interval:
    """The mean over all classes of target minus other change, beyond that of their nulls."""
    gap, n_nulls = one.gap, len(one.draws_rc4)
    reason = _too_thin(gap, n_nulls)
    ends = None if reason else over_draws(gap, is_draw=False)
    return _tested(gap, ends, reason).interval


def calibrated_difference(one: Calibrated, other: Calibrated) -> Difference:
    """The score of one dictionary minus that of another, of the same images and classes.

    Two-sided: what it is held against is other images, and other draws of the nulls of both.
    """
    first, second = one.gap, other.gap
    terms = [*first.terms, *(Term(term.rates, -term.coef_c) for term in second.terms)]
    gap = replace(
        first,
        gap_c=first.gap_c - second.gap_c,
        score_bc=first.score_bc - second.score_bc,
        images=combined_interval(terms),
    )
    reason = _too_thin(gap, min(len(one.draws_rc4), len(other.draws_rc4)))
    ends = None if reason else over_both_draws(gap, first.drawn_cr, second.drawn_cr)
    return _tested(gap, ends, reason)


def _too_thin(gap: Gap, n_nulls: int) -> str:
    """Why there is no interval; else ""."""
    if gap.images.reason:
        return gap.images.reason
    needed = max(2, draws_needed(gap.n_classes))
    if n_nulls >= needed:
        return ""
    return f"{n_nulls} nulls per class: an interval needs {needed} (--matched-peers)"


def _tested(gap: Gap, ends: tuple[float, float, float] | None, reason: str) -> Difference:
    if ends is not None and ends[1] - ends[0] < LEAST_WIDTH:
        ends, reason = None, "nothing differs: nothing shows how far other images or draws would"
    lo, hi, p = ends or (None, None, None)
    value = gap.value if gap.images.n_images else None
    n_eff = None if reason else gap.images.n_eff
    found = replace(
        gap.images, value=value, lo=lo, hi=hi, n_eff=n_eff, method=METHOD, reason=reason
    )
    return Difference(found, Test(p, METHOD, reason))


@typed
def no_edit(counts_bc4: Real[np.ndarray, "b c 4"]) -> Real[np.ndarray, "b c 4"]:
    """The counts where nothing is edited: of a class that a dictionary has no latent for."""
    return counts_bc4 * np.array([1, 0, 1, 0])
