"""Dose and response: how the changes grow with the scale. No torch in here."""

from collections.abc import Sequence

import numpy as np

from semseg_cli.runs.report import Report

HALF = 0.5


def dose_metrics(reports: Sequence[Report]) -> dict[str, float]:
    """Half-effect scale and area between the target and the other curve, over one method's scales.

    The curve runs from the smallest to the largest scale by magnitude, on the negative side where
    it has at least two scales, else on the positive one; with fewer there is no curve and nothing
    comes back. `half_effect_scale` is where the pooled target change first reaches one half, by
    linear interpolation between scales (the first scale if it is there already); it is left out
    where the curve stays below. `curve_area` is the mean of target minus other change over the
    range of scales (trapezoids), in [-1, 1].
    """
    for sign in (-1.0, 1.0):
        side = [report for report in reports if report.intervention_scale * sign > 0]
        if len(side) > 1:
            return _curve(sorted(side, key=lambda report: abs(report.intervention_scale)), sign)
    return {}


def _curve(reports: Sequence[Report], sign: float) -> dict[str, float]:
    doses = np.array([abs(report.intervention_scale) for report in reports])
    target = np.array([report.mean_target_change for report in reports])
    gap = np.array([report.selectivity for report in reports])
    found = {"curve_area": float(np.trapezoid(gap, doses) / (doses[-1] - doses[0]))}
    half = half_effect(doses, target)
    return found if half is None else {**found, "half_effect_scale": sign * half}


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
