"""Dose-response metrics by hand."""

import pytest

from semseg_cli.engine.dose_response import dose_metrics
from semseg_cli.runs.report import ClassResults, Report


def report(scale: float, target: int, other: int) -> Report:
    """A report with these changes, in percent."""
    return Report("m", [ClassResults(1, "wall", 100, target, 100, other, {})], scale)


def test_the_half_effect_is_interpolated_and_the_area_is_of_trapezoids() -> None:
    reports = [report(-1.0, 20, 0), report(-4.0, 100, 40), report(-2.0, 60, 20)]
    found = dose_metrics(reports)
    # Half is reached between 1 (.20) and 2 (.60), at three quarters of the way.
    assert found["half_effect_scale"] == pytest.approx(-1.75)
    # Gaps .20, .40, .60: (.30 * 1 + .50 * 2) / 3
    assert found["curve_area"] == pytest.approx(1.3 / 3)


def test_a_curve_that_starts_above_half_gives_its_first_scale() -> None:
    assert dose_metrics([report(2.0, 70, 0), report(3.0, 90, 0)])["half_effect_scale"] == 2.0


def test_a_curve_that_stays_below_half_has_no_half_effect() -> None:
    found = dose_metrics([report(-2.0, 10, 10), report(-3.0, 20, 30)])
    assert found == {"curve_area": pytest.approx(-0.05)}


def test_the_negative_side_is_taken_and_zero_is_on_neither() -> None:
    reports = [report(s, 60, 0) for s in (-2.0, -1.0, 1.0, 5.0)]
    assert dose_metrics(reports)["half_effect_scale"] == -1.0
    assert dose_metrics([report(0.0, 60, 0), report(-1.0, 60, 0)]) == {}
    assert dose_metrics([]) == {}
