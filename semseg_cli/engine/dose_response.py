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
    least two scales; without one nothing comes back.

    `half_effect_scale` is the magnitude at which the target change first reaches one half, by
    linear interpolation; it is left out where the curve stays below, so beyond `curve_end`.
    `curve_area` is the mean of target minus other change from 0 to `curve_end` (trapezoids), in
    [-1, 1].
    """
    for sign in (-1.0, 1.0):
        side = [report for report in reports if report.intervention_scale * sign >= 0]
        if len(side) > 1:
            return _curve(sorted(side, key=lambda report: abs(report.intervention_scale)), sign)
    return {}


def _curve(reports: Sequence[Report], sign: float) -> dict[str, float]:
    doses = np.array([abs(report.intervention_scale) for report in reports])
    target = np.array([report.macro_target_change for report in reports])
    gap = np.array([report.macro_selectivity for report in reports])
    if doses[0] > 0:
        doses, target, gap = (np.concatenate([[0.0], values]) for values in (doses, target, gap))
    area = float(np.trapezoid(gap, doses) / doses[-1])
    found = {"curve_area": area, "curve_end": sign * float(doses[-1])}
    half = half_effect(doses, target)
    return found if half is None else {**found, "half_effect_scale": half}


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
