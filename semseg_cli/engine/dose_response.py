"""Dose and response: how the changes grow with the scale. No torch in here."""

from collections.abc import Sequence

import numpy as np

from semseg_cli.runs.report import Report

HALF = 0.5


def dose_metrics(reports: Sequence[Report]) -> dict[str, float]:
    """Half-effect scale and area between the target and the other curve, over one method's scales.

    The curves are of macro changes. They begin at dose 0: the ablation where scale 0 was run, else
    the clean image, on which nothing changes. They go on to `curve_end`, the largest scale by
    magnitude, on the negative side where it has a curve, else on the positive one. A curve has at
    least two scales, each with classes that its macro changes are over; without one nothing comes
    back.

    `half_effect_scale` is the magnitude at which the target change first reaches one half, by
    linear interpolation; it is left out where the curve stays below, so beyond `curve_end`. Its 95%
    interval, `_lo` and `_hi`, is where the ends of the curve's own intervals first do, upper and
    lower; either is left out likewise, and both where a scale has no interval.
    `curve_area` is the mean of target minus other change from 0 to `curve_end` (trapezoids), in
    [-1, 1].
    """
    for sign in (-1.0, 1.0):
        side = [report for report in reports if report.intervention_scale * sign >= 0]
        if len(side) > 1 and all(report.macro_results for report in side):
            return _curve(sorted(side, key=lambda report: abs(report.intervention_scale)), sign)
    return {}


def _curve(reports: Sequence[Report], sign: float) -> dict[str, float]:
    doses = np.array([abs(report.intervention_scale) for report in reports])
    target = np.array([report.macro_target_change for report in reports])
    gap = np.array([report.macro_selectivity for report in reports])
    ends = [
        np.array([report.extra.get(f"macro_target_change_{end}", np.nan) for report in reports])
        for end in ("hi", "lo")  # the upper end reaches one half first
    ]
    if doses[0] > 0:
        doses, target, gap, *ends = (
            np.concatenate([[0.0], values]) for values in (doses, target, gap, *ends)
        )
    area = float(np.trapezoid(gap, doses) / doses[-1])
    found = {"curve_area": area, "curve_end": sign * float(doses[-1])}
    curves = {"": target}
    if not np.isnan(ends).any():
        curves |= {"_lo": ends[0], "_hi": ends[1]}
    reached = {
        f"half_effect_scale{end}": half_effect(doses, curve) for end, curve in curves.items()
    }
    return found | {name: half for name, half in reached.items() if half is not None}


def half_effect(doses: np.ndarray, target: np.ndarray) -> float | None:
    """The dose at which the curve first reaches one half; None if it never does."""
    reached = np.flatnonzero(target >= HALF)
    if not len(reached):
        return None
    i = int(reached[0])
    if i == 0:
        return float(doses[0])
    share = (HALF - target[i - 1]) / (target[i] - target[i - 1])
    return float(doses[i - 1] + share * (doses[i] - doses[i - 1]))
