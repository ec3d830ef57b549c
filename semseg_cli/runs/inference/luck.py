"""How far a method lies from draws at random: over other images, and over other draws."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float64
from scipy import special

from semseg_cli.runs.inference.answers import Interval, Test
from semseg_cli.runs.inference.combined import Term
from semseg_cli.runs.inference.paired import flip_tests
from semseg_cli.runs.inference.rates import carriers

MIN_CLASSES = 6  # discounted for unequal weights


@dataclass(frozen=True)
class Gap:
    """A method minus a control in one measure, as a weighted sum over classes."""

    weight_c: Float64[np.ndarray, " c"]  # of each class in the mean; sums to 1
    gap_c: Float64[np.ndarray, " c"]  # weighted: the sum is the difference
    score_bc: Float64[np.ndarray, "b c"]  # the same of each image
    drawn_cr: Float64[np.ndarray, "c r"]  # weighted values of the control, draw by draw
    images: Interval  # of the difference for these draws: other images, the same latents
    terms: tuple[Term, ...] = ()  # the rates that `images` is made of

    @cached_property
    def value(self) -> float:
        """The difference."""
        return float(self.gap_c.sum())

    @property
    def n_draws(self) -> int:
        """How often the control was drawn."""
        return self.drawn_cr.shape[1]

    @cached_property
    def n_classes(self) -> float:
        """The classes, discounted for unequal weights."""
        return round(float(1 / (self.weight_c**2).sum()), 9)


def over_draws(gap: Gap, is_draw: bool) -> tuple[float, float, float]:
    """Both ends, and the p value that is at most .05 where they leave zero out.

    Over few classes the skew of rates does not average out, and t alone would reject true nulls in
    up to 15%: there the images' own distances are joined with the draws'.
    """
    by_draw, df_draw = _of_drawn(gap.drawn_cr)
    return _over(gap, by_draw * (1 + gap.n_draws if is_draw else 1), df_draw)


def over_both_draws(
    gap: Gap, one: Float64[np.ndarray, "c r"], other: Float64[np.ndarray, "c r2"]
) -> tuple[float, float, float]:
    """The same of a difference between two gaps, each with draws of its own."""
    parts = [_of_drawn(drawn_cr) for drawn_cr in (one, other)]
    variances, dfs = zip(*parts, strict=True)
    return _over(gap, sum(variances), satterthwaite(variances, dfs))


def _over(gap: Gap, by_draw: float, df_draw: float) -> tuple[float, float, float]:
    if gap.n_classes < MIN_CLASSES:
        return _joined(gap, by_draw, df_draw)
    by_image, df_image = _of_images(gap)
    df = satterthwaite((by_draw, by_image), (df_draw, df_image))
    half = _t(df) * math.sqrt(by_draw + by_image)
    return gap.value - half, gap.value + half, _p(gap.value, half, df)


def over_classes(gap: Gap) -> tuple[float, float, float]:
    """The same where each class was drawn once: the spread over classes stands for the luck of
    the draws, and holds what images do to one class, but not what they do to all (Owen 2007)."""
    k = gap.n_classes
    spread = float(((gap.gap_c - gap.weight_c * gap.value) ** 2).sum())
    by_class, df_class = spread * k / (k - 1), k - 1
    whole, df_image = _of_images(gap)
    by_image = max(whole - float((gap.score_bc**2).sum()), 0.0)
    df = satterthwaite((by_class, by_image), (df_class, df_image))
    half = _t(df) * math.sqrt(by_class + by_image)
    return gap.value - half, gap.value + half, _p(gap.value, half, df)


def _joined(gap: Gap, by_draw: float, df_draw: float) -> tuple[float, float, float]:
    """MOVER of the images' interval and the draws'."""
    lo, hi, n_eff = gap.images.lo, gap.images.hi, gap.images.n_eff
    assert lo is not None
    assert hi is not None
    assert n_eff is not None
    draws = _t(df_draw) * math.sqrt(by_draw)
    below, above = (math.hypot(end - gap.value, draws) for end in (lo, hi))
    to_zero = below if gap.value > 0 else above
    df = satterthwaite((to_zero**2 - draws**2, draws**2), (n_eff - 1, df_draw))
    return gap.value - below, gap.value + above, _p(gap.value, to_zero, df)


def _t(df: float) -> float:
    return float(special.stdtrit(df, 0.975))


def _p(value: float, half: float, df: float) -> float:
    """Two-sided; .05 where the value is half an interval away from zero."""
    if half == 0:
        return 1.0 if value == 0 else 0.0
    return 2 * float(special.stdtr(df, -_t(df) * abs(value) / half))


def _of_images(gap: Gap) -> tuple[float, float]:
    """The variance from images, and its degrees of freedom."""
    score_b = gap.score_bc.sum(axis=1)
    return float((score_b**2).sum()), float(carriers(score_b[:, None])[0]) - 1


def _of_drawn(drawn_cr: Float64[np.ndarray, "c r"]) -> tuple[float, float]:
    """The variance of the control's mean over its draws, and its degrees of freedom: classes, which
    were drawn for by themselves, add up."""
    n_draws = drawn_cr.shape[1]
    part_c = drawn_cr.var(axis=1, ddof=1) / n_draws
    df = satterthwaite(part_c.tolist(), [n_draws - 1.0] * len(part_c))
    return float(part_c.sum()), df


def satterthwaite(variances: Sequence[float], dfs: Sequence[float]) -> float:
    """The degrees of freedom of a sum of variances; at least 1."""
    parts = sum(v**2 / max(df, 1.0) for v, df in zip(variances, dfs, strict=True))
    return max(sum(variances) ** 2 / max(parts, 1e-300), 1.0)


def swap_test(gap: Gap, seed: int = 0) -> Test:
    """Whether the method is as good as one draw per class, two-sided: class by class, method and
    draw are swapped at random."""
    (test,) = flip_tests(gap.gap_c[:, None], seed, units="classes")
    return replace(test, method="swap")
