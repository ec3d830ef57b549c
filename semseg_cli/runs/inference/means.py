"""Means of measurements of images, such as margins, which have no bounds that a rate has."""

import math

import numpy as np
from jaxtyping import Float64, Real
from scipy import special

from semseg_cli.runs.inference.answers import Interval, too_few
from semseg_cli.runs.inference.rates import scores
from semseg_cli.typed import typed

MIN_DF = 4.0
ROUNDING = 1e-12


@typed
def mean_intervals(
    value_bc: Float64[np.ndarray, "b c"], n_patches_bc: Real[np.ndarray, "b c"]
) -> list[Interval]:
    """Per column the mean of images' values, each weighted by its patches, with a t interval.

    Values of images without patches are not looked at. The variance is CR2's, its degrees of
    freedom Bell & McCaffrey's (2002); None where they are fewer than 4 or all images are equal.
    """
    total_c = np.maximum(n_patches_bc.sum(axis=0), 1)
    share_bc = n_patches_bc / total_c
    finite_bc = np.where(np.isfinite(value_bc), value_bc, np.nan)
    known_bc = np.where(n_patches_bc > 0, finite_bc, 0)
    mean_c = (share_bc * known_bc).sum(axis=0)
    score_bc = scores(share_bc * (known_bc - mean_c), share_bc)
    spread_c, df_c = np.sqrt((score_bc**2).sum(axis=0)), _degrees_of_freedom(share_bc)
    half_c = special.stdtrit(np.maximum(df_c, 1), 0.975) * spread_c
    n_images_c = (n_patches_bc > 0).sum(axis=0)
    columns = (mean_c, half_c, df_c, n_images_c, 1 / np.maximum((share_bc**2).sum(axis=0), 1e-300))
    return [_interval(*row) for row in zip(*(x.tolist() for x in columns), strict=True)]


@typed
def _degrees_of_freedom(share_bc: Float64[np.ndarray, "b c"]) -> Float64[np.ndarray, " c"]:
    """(trace G)^2 / trace(G G) of the variance as a quadratic form of equally variable images.

    G sums d_i p_i p_i', d = share^2 / leverage, p_i p_j = [i = j] - share_i - share_j + sum of
    squares: sums of powers suffice.
    """
    squares_c = (share_bc**2).sum(axis=0)
    left_bc = np.maximum(1 - 2 * share_bc + squares_c, 1e-6)
    d_bc = share_bc**2 / left_bc
    d0_c, d1_c, d2_c = ((d_bc * share_bc**power).sum(axis=0) for power in range(3))
    trace_c = (d_bc * left_bc).sum(axis=0)
    whole_c = squares_c**2 * d0_c**2 + 2 * d0_c * d2_c + 2 * d1_c**2 - 4 * squares_c * d0_c * d1_c
    diagonal_c = (d_bc**2 * (left_bc**2 - (left_bc - 1) ** 2)).sum(axis=0)
    return trace_c**2 / np.maximum(whole_c + diagonal_c, 1e-300)


def _interval(mean: float, half: float, df: float, n_images: int, kish: float) -> Interval:
    reason = too_few(n_images, kish)
    if not reason and df < MIN_DF:
        reason = f"an interval needs {MIN_DF:g} degrees of freedom: {df:.1f}"
    if not reason and half <= ROUNDING * abs(mean):
        reason = "all images have the same value: nothing shows how far others lie"
    if not math.isfinite(half):
        reason = "values that are no numbers are among them"
    value = mean if n_images and math.isfinite(mean) else None
    if reason:
        return Interval(value, None, None, None, n_images, "t (CR2)", reason)
    return Interval(value, mean - half, mean + half, kish, n_images, "t (CR2)")
