"""`python -m benchmarks trust` measures what it says, and a promise that is broken is seen."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.random import default_rng

from benchmarks.trust import accepted, worlds
from benchmarks.trust.coverage import Cell, cell_of
from benchmarks.trust.draws import ControlErrors
from benchmarks.trust.images_needed import PAIRS, relative_widths, widths
from benchmarks.trust.pairs import Errors, inverted
from benchmarks.trust.sampled import Saved, patches_of, run_counts, true_other, weighted
from semseg_cli.runs.inference import Interval, flip_tests

GOOD = Cell("rate", 200, 0.3, 0.96, 0.1, 900, 0.05, "rate 0.5", 0.08)


def test_a_cell_counts_the_printed_intervals_that_hold_the_truth() -> None:
    inside, outside = (Interval(0.5, lo, 0.6, 9.0, 9, "Wilson") for lo in (0.4, 0.55))
    thin = Interval(0.5, None, None, None, 2, "Wilson", "thin")
    found = cell_of("rate", 9, 0.0, "here", [inside, outside, thin, inside], [0.5] * 4)
    assert found is not None
    assert (found.coverage, found.n_printed) == (pytest.approx(2 / 3), 3)
    assert found.width == pytest.approx((0.2 + 0.05 + 0.2) / 3)
    assert cell_of("rate", 9, 0.0, "here", [thin], [0.5]) is None


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        ({"coverage": 0.92}, "coverage of every cell"),
        ({"coverage": 0.995}, "mean coverage"),
        ({"width": 0.2}, "2 x the percentile's"),
    ],
)
def test_a_broken_promise_of_rates_is_seen(broken: dict[str, float], promise: str) -> None:
    assert all(check.is_kept for check in accepted.of_rates([GOOD]))
    found = accepted.of_rates([replace(GOOD, **broken)])  # type: ignore[arg-type]
    assert [promise in check.promise for check in found if not check.is_kept] == [True]


def test_broken_promises_of_tests_are_seen() -> None:
    flips = [
        Errors("flip", "interchangeable", 50, 0.1, 0.05, 900, 0.02, 0),
        Errors("flip", "unlike clustering", 50, 0.1, 0.2, 900, 0.05, 0),
    ]
    assert all(check.is_kept for check in accepted.of_flips(flips))
    for change in ({"rejected": 0.08}, {"rejected": 0.01}, {"n_disagree": 1}):
        worse = [replace(flips[0], **change), flips[1]]
        assert sum(not check.is_kept for check in accepted.of_flips(worse)) == 1
    one = ControlErrors("method is a draw", "swap", 10, 1, 20, 0.05, 0.03, 400)
    more = replace(one, n_draws=5, test="t")
    assert all(check.is_kept for check in accepted.of_controls([one, more]))
    for worse_one in (replace(one, by_p=0.09), replace(more, by_interval=0.1)):
        rows = [worse_one, more] if worse_one.n_draws == 1 else [one, worse_one]
        assert not all(check.is_kept for check in accepted.of_controls(rows))


def test_broken_promises_of_samples_are_seen() -> None:
    cell = replace(GOOD, what="sampled: selectivity")
    saved = Saved("steady", 0.16, 1.1, 1.02, 0.3)
    assert all(check.is_kept for check in accepted.of_samples([cell], [saved], 0.05))
    for worse in ({"run_share": 0.2}, {"width_ratio": 1.2}, {"other_by_target": 1.1}):
        found = accepted.of_samples([cell], [replace(saved, **worse)], 0.05)  # type: ignore[arg-type]
        assert sum(not check.is_kept for check in found) == 1
    assert not accepted.of_samples([replace(cell, coverage=0.9)], [saved], 0.05)[0].is_kept
    assert not accepted.of_samples([cell], [saved], 0.1)[-1].is_kept


def test_a_simulated_sample_has_all_images_with_the_class_and_the_true_total() -> None:
    draw = default_rng(3)
    orig_bc = patches_of(draw, 500, np.array([0.05, 0.3]))
    counts = run_counts(draw, orig_bc, np.array([0.3, 0.6]), 5.0, 0.5)
    found = weighted(counts, 1)
    assert (found[..., :2] == counts[..., :2]).all()
    assert found[..., 2].sum(axis=0) == pytest.approx(counts[..., 2].sum(axis=0))
    truth_c = true_other(np.array([0.05, 0.3]), np.array([0.3, 0.6]), 5.0)
    many = run_counts(draw, patches_of(draw, 20000, np.array([0.05, 0.3])), np.array([0.3, 0.6]),
                      5.0, 0.5)  # fmt: skip
    assert many[..., 3].sum(axis=0) / many[..., 2].sum(axis=0) == pytest.approx(truth_c, rel=0.1)


def test_the_flip_test_rejects_exactly_what_its_inversion_leaves_out() -> None:
    draw = default_rng(3)
    one, other = worlds.pair(draw, 20, 200, (0.5, 0.4), (0.5, 0.5))
    total = one[:, :, 0, 0].T
    unit = (one[:, :, 0, 1] - other[:, :, 0, 1]).T / total.sum(axis=0)
    tests = [(test.p or 1) <= 0.05 for test in flip_tests(unit)]
    assert inverted(unit, total / total.sum(axis=0)).tolist() == tests
    assert 0 < sum(tests) < 200


@pytest.mark.parametrize("icc", [0.0, 0.3, 0.7])
def test_a_world_has_the_mean_and_the_clustering_that_it_says(icc: float) -> None:
    rate = worlds.image_rates(default_rng(0).normal(size=100_000), 0.2, icc)
    assert rate.mean() == pytest.approx(0.2, abs=0.01)
    assert rate.var() == pytest.approx(icc * 0.2 * 0.8, abs=0.01)


def test_a_control_s_method_has_the_mean_of_the_draws() -> None:
    draw = default_rng(1)
    gaps = []
    for _ in range(60):
        method, draws = worlds.control(draw, 30, 10, 40, "expectation")
        orig, changed = method[..., 0].sum(axis=0), method[..., 1].sum(axis=0)
        others = draws.sum(axis=(0, 1))
        gaps.append((changed / orig - others[:, 1] / others[:, 0]).mean())
    assert np.mean(gaps) == pytest.approx(0, abs=4 * np.std(gaps) / np.sqrt(len(gaps)))


def test_widths_are_by_the_value_and_margins_without_noise_are_narrower() -> None:
    half = Interval(0.5, 0.4, 0.6, 9.0, 9, "Wilson")
    thin, zero = replace(half, lo=None, hi=None), replace(half, value=0.0)
    found = relative_widths([half, thin, zero])
    assert found[0] == pytest.approx(0.2)
    assert np.isnan(found[1:]).all()
    draw, whole = default_rng(5), np.full((40, 3), 50)
    table = {name: whole for (name, _), _ in PAIRS.values()}
    for (_, part), _ in PAIRS.values():
        table[part] = draw.binomial(50, draw.beta(0.5, 0.5, (40, 3)))
    margins = {f"{name}_sum": whole * draw.normal(2, 0.1, (40, 3))
               for name in ("margin_drop", "other_margin")}  # fmt: skip
    for what in PAIRS:
        flips, of_margins = widths({**table, **margins}, what)
        assert (of_margins < 0.3 * flips).all()
