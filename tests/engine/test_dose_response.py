"""Dose-response metrics by hand."""

from dataclasses import replace

import pytest

from semseg_cli.engine.dose_response import dose_metrics
from semseg_cli.runs.report import ClassResults, Report
from semseg_cli.show.run_notes import curve_note


def report(scale: float, target: int, other: int) -> Report:
    """A report with these changes, in percent."""
    return Report("m", [ClassResults(1, "wall", 100, target, 100, other, {})], scale)


def test_the_half_effect_is_interpolated_and_the_area_is_of_trapezoids_from_clean_on() -> None:
    reports = [report(-1.0, 20, 0), report(-4.0, 100, 40), report(-2.0, 60, 20)]
    found = dose_metrics(reports)
    # Half is reached between 1 (.20) and 2 (.60), at three quarters of the way.
    assert found["half_effect_scale"] == pytest.approx(1.75)
    # Gaps 0 (clean), .20, .40, .60: (.10 * 1 + .30 * 1 + .50 * 2) / 4
    assert found["curve_area"] == pytest.approx(1.4 / 4)
    assert found["curve_end"] == -4.0


def test_a_curve_above_half_at_its_first_scale_reaches_it_on_the_way_from_clean() -> None:
    found = dose_metrics([report(2.0, 80, 0), report(3.0, 90, 0)])
    assert found["half_effect_scale"] == pytest.approx(2 * 5 / 8)


def test_a_curve_that_stays_below_half_has_no_half_effect_but_its_end() -> None:
    found = dose_metrics([report(-2.0, 10, 10), report(-3.0, 20, 30)])
    assert found == {"curve_area": pytest.approx(-0.05 / 3), "curve_end": -3.0}


def test_an_ablation_takes_the_place_of_the_clean_point() -> None:
    found = dose_metrics([report(-1.0, 60, 0), report(0.0, 20, 0)])
    assert found["half_effect_scale"] == pytest.approx(0.75)
    assert found["curve_area"] == pytest.approx(0.4)
    assert dose_metrics([report(0.0, 60, 0), report(-1.0, 60, 0)])["half_effect_scale"] == 0.0


def test_the_negative_side_is_taken_where_it_is_a_curve() -> None:
    reports = [report(s, 60, 0) for s in (-2.0, -1.0, 1.0, 5.0)]
    assert dose_metrics(reports)["curve_end"] == -2.0
    assert dose_metrics([report(s, 60, 0) for s in (-2.0, 1.0, 5.0)])["curve_end"] == 5.0
    assert dose_metrics([report(-2.0, 60, 0)]) == {}
    assert dose_metrics([]) == {}


def with_ends(scale: float, target: int, lo: float, hi: float) -> Report:
    made = report(scale, target, 0)
    ends = {"macro_target_change_lo": lo, "macro_target_change_hi": hi}
    return replace(made, extra=ends)


def test_the_half_effect_lies_between_where_both_ends_of_the_curve_reach_one_half() -> None:
    reports = [with_ends(-1.0, 20, 0.1, 0.3), with_ends(-2.0, 60, 0.4, 0.7)]
    found = dose_metrics(reports)
    # The upper end goes from .3 to .7 and passes .5 half-way; the lower end stays below.
    assert found["half_effect_scale_lo"] == pytest.approx(1.5)
    assert "half_effect_scale_hi" not in found
    assert "patches change at scale 1.75 [1.50, > 2] (magnitude)" in curve_note("m", found)
    found = dose_metrics([*reports, with_ends(-4.0, 100, 0.9, 1.0)])
    assert found["half_effect_scale_hi"] == pytest.approx(2 + 2 * 0.1 / 0.5)
    assert "patches change at scale 1.75 [1.50, 2.40]" in curve_note("m", found)


def test_a_scale_without_an_interval_leaves_the_half_effect_without_one() -> None:
    found = dose_metrics([with_ends(-1.0, 20, 0.1, 0.3), report(-2.0, 60, 0)])
    assert "half_effect_scale" in found
    assert not any(key.endswith(("_lo", "_hi")) for key in found)
    assert "patches change at scale 1.75 (magnitude)" in curve_note("m", found)


def test_scales_at_which_no_class_counts_are_no_curve() -> None:
    thin = [replace(report(scale, 80, 0), min_patches=101) for scale in (-2.0, -4.0)]
    assert dose_metrics(thin) == {}
