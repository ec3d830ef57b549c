"""Sums of rates: target minus other, means over classes, and differences of two runs.

Each rate's own distances to its ends are combined with the correlations that the images show
(MOVER: Newcombe 1998; Zou & Donner 2008; Zou, Huang & Zhang 2009).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy import special

from semseg_cli.runs.inference.answers import Interval
from semseg_cli.runs.inference.rates import Rates, inflation, interval


@dataclass(frozen=True)
class Term:
    """Rates and what each is multiplied by in a sum."""

    rates: Rates
    coef_c: Float64[np.ndarray, " c"]


def mean_of(found: Rates, sign: float = 1.0) -> Term:
    """The mean over the classes."""
    n_classes = len(found.value_c)
    return Term(found, np.full(n_classes, sign / max(n_classes, 1)))


def _unit(score_bc: Float64[np.ndarray, "b c"]) -> Float64[np.ndarray, "b c"]:
    norm_c = np.sqrt((score_bc**2).sum(axis=0))
    return score_bc / np.where(norm_c > 0, norm_c, 1)


def gap_intervals(first: Rates, second: Rates) -> list[Interval]:
    """The interval of `first` minus `second` for every class, both of the same images."""
    (lo_c, hi_c, _), (other_lo_c, other_hi_c, _) = first.bounds, second.bounds
    rho_c = (_unit(first.score_bc) * _unit(second.score_bc)).sum(axis=0)
    gap_c = first.value_c - second.value_c
    below_c = _joined(first.value_c - lo_c, other_hi_c - second.value_c, rho_c)
    above_c = _joined(hi_c - first.value_c, second.value_c - other_lo_c, rho_c)
    kish_c = np.minimum(first.kish_c, second.kish_c)
    n_images_c = np.minimum(first.n_images_c, second.n_images_c)
    ends = np.maximum(gap_c - below_c, -1), np.minimum(gap_c + above_c, 1)
    columns = (gap_c, *ends, kish_c, n_images_c, kish_c)
    return [interval("MOVER", *row) for row in zip(*(x.tolist() for x in columns), strict=True)]


def _joined(
    one_c: Float64[np.ndarray, " c"],
    two_c: Float64[np.ndarray, " c"],
    rho_c: Float64[np.ndarray, " c"],
) -> Float64[np.ndarray, " c"]:
    """The distance of a difference from those of its sides."""
    return np.sqrt(np.maximum(one_c**2 + two_c**2 - 2 * rho_c * one_c * two_c, 0))


def combined_interval(terms: Sequence[Term]) -> Interval:
    """The interval of the sum of all terms, over the same images.

    Its ends lie at the root mean square of two distances: MOVER's, which is short on the side away
    from the boundary, and the jackknife's t, which is short on the side of the boundary.
    """
    method = "MOVER and jackknife"
    n_images, kish = _images(terms)
    if not n_images:
        return interval(method, 0, 0, 0, 0, 0, 0)
    value_c = np.concatenate([term.rates.value_c for term in terms])
    coef_c = np.concatenate([term.coef_c for term in terms])
    score_bc = np.concatenate([term.rates.score_bc for term in terms], axis=1)
    n_widest = max(int(term.rates.n_images_c.max()) for term in terms)
    value, spread = float(coef_c @ value_c), float(np.linalg.norm(score_bc @ coef_c))
    jackknife = float(special.stdtrit(max(n_widest - 1, 1), 0.975)) * spread
    lo_c, hi_c, t = _ends(terms, coef_c, n_widest)
    below, above = (
        math.sqrt(((t * distance) ** 2 + jackknife**2) / 2)
        for distance in _distances(value_c - lo_c, hi_c - value_c, score_bc, coef_c)
    )
    lo = max(value - below, float(np.minimum(coef_c, 0).sum()))
    hi = min(value + above, float(np.maximum(coef_c, 0).sum()))
    return interval(method, value, lo, hi, kish, n_images, kish)


def _images(terms: Sequence[Term]) -> tuple[int, float]:
    """The images of the term that has the fewest, and their number discounted for shares."""
    shares = [term.rates.share_bc @ abs(term.coef_c) for term in terms]
    kish = min((float(x.sum() ** 2 / max((x**2).sum(), 1e-300)) for x in shares), default=0.0)
    return min((int((share_b > 0).sum()) for share_b in shares), default=0), kish


def _ends(
    terms: Sequence[Term], coef_c: Float64[np.ndarray, " c"], n_images: int
) -> tuple[Float64[np.ndarray, " c"], Float64[np.ndarray, " c"], float]:
    """Every rate's ends with normal quantiles, and the one inflation for their combination
    (Satterthwaite: each rate's degrees of freedom by its part)."""
    lo_c = np.concatenate([term.rates.lo_c for term in terms])
    hi_c = np.concatenate([term.rates.hi_c for term in terms])
    part_c = (coef_c * (hi_c - lo_c)) ** 2
    df_c = np.concatenate([term.rates.df_c for term in terms])
    df = part_c.sum() ** 2 / max(float((part_c**2 / df_c).sum()), 1e-300)
    return lo_c, hi_c, float(inflation(max(min(df, n_images - 1), 1.0)))


def _distances(
    down_c: Float64[np.ndarray, " c"],
    up_c: Float64[np.ndarray, " c"],
    score_bc: Float64[np.ndarray, "b c"],
    coef_c: Float64[np.ndarray, " c"],
) -> tuple[float, float]:
    """How far a sum's ends lie below and above it; rates without spread count as independent."""
    below_c = coef_c * np.where(coef_c > 0, down_c, up_c)
    above_c = coef_c * np.where(coef_c > 0, up_c, down_c)
    unit_bc = _unit(score_bc)
    is_alone_c = ~unit_bc.any(axis=0)
    one, two = (
        float(np.sqrt(((unit_bc @ side) ** 2).sum() + (side[is_alone_c] ** 2).sum()))
        for side in (below_c, above_c)
    )
    return one, two
