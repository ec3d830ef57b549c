"""Intervals and tests of counts keep their word: by hand, in any order, at the boundaries."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.random import default_rng

from semseg_cli.runs.inference import (
    MEASURES,
    Difference,
    Interval,
    Test,
    benjamini_hochberg,
    bounds_text,
    class_differences,
    class_intervals,
    combined_interval,
    flip_tests,
    gap_intervals,
    holm,
    macro_classes,
    macro_differences,
    macro_intervals,
    mark,
    mean_intervals,
    measure,
    pooled_differences,
    pooled_intervals,
    rate_intervals,
    rates_of,
    sum_groups,
)
from semseg_cli.runs.inference.combined import _distances
from semseg_cli.runs.inference.means import _degrees_of_freedom
from semseg_cli.runs.inference.rates import Rates, carriers, effective_size, wilson

Z2 = 1.959963984540054**2


def made(seed: int, n_images: int = 30, n_classes: int = 4, rate: float = 0.6) -> np.ndarray:
    """Counts [images, classes, 4] of 256 patches per image, every class in most images."""
    draw = default_rng(seed)
    shape = n_images, n_classes
    orig = draw.integers(1, 40, shape) * (draw.random(shape) < 0.8)
    own = draw.beta(2 * rate, 2 * (1 - rate), shape)
    changed, rest = draw.binomial(orig, own), draw.binomial(256 - orig, 0.1 * own)
    return np.stack([orig, changed, 256 - orig, rest], axis=-1)


def column(*counts: int) -> np.ndarray:
    return np.array(counts, dtype=np.int64)[:, None]


def ends(interval: Interval) -> tuple[float, float, float]:
    assert interval.value is not None, interval.reason
    assert interval.lo is not None, interval.reason
    assert interval.hi is not None, interval.reason
    return interval.value, interval.lo, interval.hi


# --- one rate -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [5, 10, 50])
def test_where_all_patches_change_the_bound_is_that_of_n_observations(n: int) -> None:
    total = np.full((n, 1), 17, dtype=np.int64)
    (sure,), (never,) = (rate_intervals(rates_of(c, total)) for c in (total, 0 * total))
    assert ends(sure) == pytest.approx((1, n / (n + Z2), 1), abs=1e-12)
    assert ends(never) == pytest.approx((0, 0, Z2 / (n + Z2)), abs=1e-12)
    assert sure.n_eff == pytest.approx(n)


def test_an_interval_worked_by_hand() -> None:
    """Six images of 10 patches, changed 2, 4, 6, 4, 2, 6: r = .4; four residuals are 2/60 in size,
    what fitting the mean left is 1 - 2/6 + 1/6 = 5/6, so z^2 = (1/900) / (5/6) and k = 4."""
    found = rates_of(column(2, 4, 6, 4, 2, 6), column(*[10] * 6))
    (z2,) = {round(float(z), 12) for z in found.score_bc[:, 0] ** 2 if z}
    assert z2 == pytest.approx(1 / 750)
    assert carriers(found.score_bc).item() == pytest.approx(4)
    seen, pull = (4 / 750) / 0.24, (10 / 14) ** 2
    inflation = 2.570581835636314 / math.sqrt(Z2)
    size = 1 / ((1 - pull) * seen * inflation**2 + pull / 6)
    half = math.sqrt(Z2 * (0.24 / size + Z2 / (4 * size**2))) / (1 + Z2 / size)
    centre = (0.4 + Z2 / (2 * size)) / (1 + Z2 / size)
    (interval,) = rate_intervals(found)
    assert ends(interval) == pytest.approx((0.4, centre - half, centre + half))
    assert interval.n_eff == pytest.approx(size)


def test_one_image_is_one_observation_until_others_are_seen() -> None:
    """Without spread nothing tells whether patches are independent: 3 of 6 in every image."""
    (interval,) = rate_intervals(rates_of(column(*[3] * 8), column(*[6] * 8)))
    assert interval.n_eff == pytest.approx(8)


@pytest.mark.parametrize(
    ("total", "reason"),
    [
        ((0, 0, 0), "0 of 0 patches"),
        ((9, 0, 0, 0, 0, 0), "an interval needs 5 images: 1"),
        ((9, 9, 9, 9, 0), "an interval needs 5 images: 4"),
        ((900, 1, 1, 1, 1, 1), "as good as 1.0 equal ones"),
    ],
)
def test_too_thin_prints_nothing_and_says_why(total: tuple[int, ...], reason: str) -> None:
    (interval,) = rate_intervals(rates_of(column(*total) // 2, column(*total)))
    assert (interval.lo, interval.hi, interval.n_eff) == (None, None, None)
    assert reason in interval.reason
    assert (interval.value is None) == (sum(total) == 0)
    assert not interval.is_printed


def test_weights_are_as_good_as_images_seen_more_often() -> None:
    """A sampled image of weight 2 moves the rate as two like it would, but counts as one image."""
    changed, total = column(1, 3, 5, 2, 4, 6), column(*[8] * 6)
    weight = np.array([2.0, 1, 1, 1, 1, 1])[:, None]
    weighted = rates_of(changed * weight, total * weight)
    repeated = rates_of(np.vstack([changed, changed[:1]]), np.vstack([total, total[:1]]))
    assert weighted.value_c == pytest.approx(repeated.value_c)
    assert weighted.n_images_c == 6
    assert weighted.kish_c == pytest.approx(49 / 9)


def test_groups_are_summed_in_the_order_in_which_they_are_met() -> None:
    counts = np.arange(12).reshape(4, 3)
    summed = sum_groups(counts, ["b", "a", "b", "a"])
    assert summed.tolist() == [[6, 8, 10], [12, 14, 16]]


@given(seed=st.integers(0, 10**6), n=st.integers(5, 40), rate=st.sampled_from([0.01, 0.5, 0.99]))
def test_every_interval_holds_its_value_within_bounds_and_has_width(
    seed: int, n: int, rate: float
) -> None:
    counts = made(seed, n, rate=rate)
    found = class_intervals(counts)
    for name in MEASURES:
        for interval in [*found[name], pooled_intervals(counts)[name]]:
            if interval.is_printed:
                value, lo, hi = ends(interval)
                least = -1 if name == "selectivity" else 0
                assert least <= lo <= value + 1e-12
                assert value - 1e-12 <= hi <= 1
                assert hi - lo > 1e-3


# --- any order, same seed -------------------------------------------------------------------------


def numbers(found: dict[str, list[Interval]]) -> np.ndarray:
    rows = [ends(one) for of_measure in found.values() for one in of_measure]
    return np.array(rows)


def all_numbers(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    single = pooled_intervals(one) | {f"macro {k}": v for k, v in macro_intervals(one).items()}
    differences = macro_differences(one, other) | {
        f"pooled {k}": v for k, v in pooled_differences(one, other).items()
    }
    classes = {
        name: [difference.interval for difference in found]
        for name, found in class_differences(one, other).items()
    }
    return np.concatenate(
        [
            numbers(class_intervals(one)),
            numbers({name: [interval] for name, interval in single.items()}),
            numbers({name: [made.interval] for name, made in differences.items()}),
            numbers(classes),
        ]
    )


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_intervals_do_not_depend_on_the_order_of_images(seed: int) -> None:
    one, other = made(seed), made(seed)
    other[..., 1] = default_rng(seed).binomial(one[..., 0], 0.3)
    other[..., 3] = default_rng(seed).binomial(one[..., 2], 0.3)
    order = default_rng(seed).permutation(len(one))
    np.testing.assert_allclose(
        all_numbers(one, other), all_numbers(one[order], other[order]), atol=1e-9
    )


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_a_difference_turns_with_its_sides(seed: int) -> None:
    one, other = made(seed), made(seed)
    other[..., 1] = default_rng(seed).binomial(one[..., 0], 0.3)
    other[..., 3] = default_rng(seed).binomial(one[..., 2], 0.3)
    there, back = macro_differences(one, other), macro_differences(other, one)
    for name in MEASURES:
        value, lo, hi = ends(there[name].interval)
        assert ends(back[name].interval) == pytest.approx((-value, -hi, -lo), abs=1e-9)
        assert there[name].test == back[name].test


def test_the_same_seed_gives_the_same_p_and_another_seed_hardly_another() -> None:
    unit = default_rng(0).normal(0.3, 1, (25, 1))
    first, again, other = (flip_tests(unit, seed)[0].p for seed in (1, 1, 2))
    assert first == again
    assert first is not None
    assert other == pytest.approx(first, abs=0.03)


# --- sums of rates --------------------------------------------------------------------------------


def test_selectivity_is_joined_from_both_rates_by_hand() -> None:
    """At the boundary scores are zero, so both count as independent: distances add in squares."""
    total, n = np.full((10, 1), 20, dtype=np.int64), 10
    target, other = rates_of(total, total), rates_of(0 * total, 5 * total)
    (interval,) = gap_intervals(target, other)
    distance = Z2 / (n + Z2)
    assert ends(interval) == pytest.approx((1, 1 - math.sqrt(2) * distance, 1))


def slow_combined(terms: list[tuple[np.ndarray, np.ndarray, float]]) -> tuple[float, float]:
    """Distances of MOVER by the double sum over all pairs of rates, for single classes."""
    rates = [rates_of(changed, total) for changed, total, _ in terms]
    signs = [sign for *_, sign in terms]
    found = []
    for side in (-1, 1):
        square = 0.0
        for (a, s), (b, t) in itertools.product(zip(rates, signs, strict=True), repeat=2):
            za, zb = a.score_bc[:, 0], b.score_bc[:, 0]
            norm = np.sqrt((za @ za) * (zb @ zb))
            rho = 1.0 if a is b else float(za @ zb / norm) if norm else 0.0
            square += rho * s * t * _reach(a, s * side) * _reach(b, t * side)
        found.append(math.sqrt(square))
    return found[0], found[1]


def _reach(rate: Rates, side: float) -> float:
    lo, hi = wilson(rate.value_c, effective_size(rate.seen_c, rate.pull_c, rate.kish_c))
    return float((hi - rate.value_c if side > 0 else rate.value_c - lo).item())


def test_combined_distances_are_those_of_the_double_sum() -> None:
    one, other = made(3, n_classes=1), made(4, n_classes=1)
    terms = [
        (one[..., 1], one[..., 0], 1.0),
        (one[..., 3], one[..., 2], -1.0),
        (other[..., 1], other[..., 0], -1.0),
        (other[..., 3], other[..., 2], 1.0),
    ]
    rates = [rates_of(changed, total) for changed, total, _ in terms]
    value = np.concatenate([rate.value_c for rate in rates])
    bounds = [
        wilson(rate.value_c, effective_size(rate.seen_c, rate.pull_c, rate.kish_c))
        for rate in rates
    ]
    lo, hi = (np.concatenate(side) for side in zip(*bounds, strict=True))
    score = np.concatenate([rate.score_bc for rate in rates], axis=1)
    coef = np.array([sign for *_, sign in terms])
    assert _distances(value - lo, hi - value, score, coef) == pytest.approx(slow_combined(terms))


def test_macro_means_are_over_classes_in_three_images_every_class_alike() -> None:
    counts = made(1, n_images=20, n_classes=3)
    counts[2:, 2, :2] = 0
    counts[:2, 2, 0] = 500
    assert macro_classes(counts).tolist() == [True, True, False]
    assert macro_classes(counts, min_patches=10**6).tolist() == [False] * 3
    sums = counts.sum(axis=0)[:2]
    found = macro_intervals(counts)
    target = (sums[:, 1] / sums[:, 0]).mean()
    other = (sums[:, 3] / sums[:, 2]).mean()
    assert [found[name].value for name in MEASURES] == pytest.approx(
        [target, other, target - other]
    )


def test_pooled_numbers_weigh_classes_by_their_patches() -> None:
    counts = made(2)
    sums = counts.sum(axis=(0, 1))
    found = pooled_intervals(counts)
    assert found["target_change"].value == pytest.approx(sums[1] / sums[0])
    assert found["other_change"].value == pytest.approx(sums[3] / sums[2])


def test_no_class_gives_no_number_and_says_so() -> None:
    nothing = np.zeros((8, 2, 4), dtype=np.int64)
    for found in (macro_intervals(nothing), pooled_intervals(nothing)):
        for interval in found.values():
            assert interval.value is None
            assert interval.reason == "0 of 0 patches"
    for difference in macro_differences(nothing, nothing).values():
        assert difference.interval.value is None
        assert difference.test.p is None


def test_a_class_is_thin_in_a_difference_where_it_is_by_itself() -> None:
    counts = made(5, n_images=12, n_classes=2)
    counts[4:, 0, :2] = 0
    other = counts.copy()
    other[..., 1] = default_rng(1).binomial(counts[..., 0], 0.1)
    found = class_differences(counts, other)
    for name in ("target_change", "selectivity"):
        assert [one.interval.is_printed for one in found[name]] == [False, True]
        assert "an interval needs 5" in found[name][0].interval.reason


# --- the flip test --------------------------------------------------------------------------------


def exhaustive_p(unit: np.ndarray) -> float:
    signs = np.array(list(itertools.product((-1, 1), repeat=len(unit))))
    return float((np.abs(signs @ unit) >= abs(unit.sum()) - 1e-9).mean())


@pytest.mark.parametrize("n", [6, 8, 11])
def test_the_flip_test_is_that_of_all_flips(n: int) -> None:
    unit = default_rng(n).integers(-3, 6, (n, 5)).astype(np.float64)
    unit[unit == 0] = 1
    for test, column_b in zip(flip_tests(unit), unit.T, strict=True):
        p = exhaustive_p(column_b)
        spread = math.sqrt(p * (1 - p) / 9999)
        assert test.p == pytest.approx(p, abs=5 * spread + 1e-3)


def test_fewer_than_six_images_that_differ_give_no_p() -> None:
    unit = np.zeros((40, 2))
    unit[:5, 0] = unit[:6, 1] = 0.1
    thin, enough = flip_tests(unit)
    assert thin.p is None
    assert thin.reason == "identical on all but few images, of which it takes 6: 5"
    assert enough.p == pytest.approx(2 / 64, abs=0.01)


def test_runs_that_are_identical_on_all_but_few_images_have_neither_interval_nor_p() -> None:
    """Others may differ more often: the few that are seen do not show how much."""
    counts = made(6)
    for n_apart, is_told in ((0, False), (5, False), (6, True)):
        other = counts.copy()
        other[:n_apart, :, 1], other[:n_apart, :, 3] = 0, 0
        for difference in macro_differences(counts, other).values():
            assert difference.interval.value is not None
            assert difference.interval.is_printed == is_told
            assert (difference.test.p is not None) == is_told
            if not is_told:
                assert difference.interval.reason == difference.test.reason
                assert difference.test.reason.endswith(f"takes 6: {n_apart}")


def nearly_identical(
    seed: int, n_apart: float, n_images: int = 50
) -> tuple[np.ndarray, np.ndarray]:
    """Two runs of which the second changes nothing on about so many images, else they are equal."""
    one, draw = made(seed, n_images=n_images, n_classes=3), default_rng([seed, 1])
    other = one.copy()
    other[draw.random(n_images) < n_apart / n_images, :, 1] = 0
    return one, other


def test_intervals_of_nearly_identical_runs_hold_where_they_are_printed() -> None:
    rate = made(0, n_images=200_000, n_classes=3).sum(axis=0)
    truth = float(np.mean(rate[:, 1] / rate[:, 0])) * 8 / 50
    found = [
        macro_differences(*nearly_identical(seed, 8))["target_change"].interval
        for seed in range(150)
    ]
    printed = [one for one in found if one.is_printed]
    held = [
        one.lo <= truth <= one.hi for one in printed if one.lo is not None and one.hi is not None
    ]
    assert 0.5 < len(printed) / len(found) < 1
    assert np.mean(held) >= 0.9


def test_equal_runs_have_no_interval_of_width_zero_where_half_of_all_changes() -> None:
    """Both distances of a rate of one half are alike, and cancel."""
    counts = np.zeros((8, 2, 4), dtype=np.int64)
    counts[..., 0], counts[..., 2] = 10, 20
    counts[::2, :, 1], counts[::2, :, 3] = 10, 20
    apart = class_differences(counts, counts)["target_change"][0]
    for interval in (apart.interval, class_intervals(counts)["selectivity"][0]):
        assert interval.value == 0
        assert not interval.is_printed
        assert interval.reason.startswith("no image differs")


def test_too_thin_for_an_interval_is_too_thin_for_a_p() -> None:
    one, other = (
        made(seed, n_images=30, n_classes=1, rate=rate) for seed, rate in ((1, 0.9), (2, 0.1))
    )
    one[4:, 0, :2] = other[4:, 0, :2] = 0
    for found in (
        class_differences(one, other)["selectivity"][0],
        macro_differences(one, other)["selectivity"],
    ):
        assert not found.interval.is_printed
        assert (found.test.p, found.test.reason) == (None, found.interval.reason)


def test_a_difference_that_is_there_is_found_and_one_that_is_not_is_not() -> None:
    strong, weak = made(7, n_images=60, rate=0.9), made(7, n_images=60, rate=0.2)
    weak[..., [0, 2]] = strong[..., [0, 2]]
    weak[..., 1] = np.minimum(weak[..., 1], weak[..., 0])
    found = macro_differences(strong, weak)["selectivity"]
    assert found.mark == "*"
    assert found.interval.excludes_zero


# --- many, marks, text ----------------------------------------------------------------------------


def test_holm_and_benjamini_hochberg_by_hand() -> None:
    p_values = [0.01, None, 0.04, 0.03, 0.005]
    assert holm(p_values) == [pytest.approx(0.03), None, *[pytest.approx(0.06)] * 2, 0.02]
    assert benjamini_hochberg(p_values) == [
        pytest.approx(0.02),
        None,
        pytest.approx(0.04),
        pytest.approx(0.04),
        pytest.approx(0.02),
    ]
    assert holm([]) == benjamini_hochberg([]) == []
    assert holm([None]) == [None]


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=12))
def test_correcting_never_lowers_and_keeps_the_order(p_values: list[float]) -> None:
    for correct in (holm, benjamini_hochberg):
        adjusted = correct(p_values)
        order = np.argsort(p_values)
        found = np.array(adjusted, dtype=float)
        assert (found >= np.array(p_values) - 1e-12).all()
        assert (np.diff(found[order]) >= -1e-12).all()
        assert found.max() <= 1


def test_a_star_needs_the_test_and_the_interval() -> None:
    out, over = (Interval(0.3, lo, 0.5, 20.0, 20, "MOVER") for lo in (0.1, -0.1))
    assert [mark(p, one) for p in (0.04, 0.06, None) for one in (out, over)] == [
        "*",
        "(*)",
        *[""] * 4,
    ]
    assert Difference(out, Test(0.01, "flip")).mark == "*"


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((0.86, 0.742, 0.918), "[.74,.92]"),
        ((0.9995, 0.998, 0.9999), "[.99,1.00]"),
        ((1.0, 0.839, 1.0), ">=.83"),
        ((0.0, 0.0, 0.161), "<=.17"),
        ((0.0, -0.104, 0.2), "[-.11,.20]"),
        ((-0.5, -1.0, 0.1), "[-1.00,.10]"),
        ((1.002, 0.974, 1.03), "[.97,1.03]"),
    ],
)
def test_bounds_are_rounded_outward(numbers: tuple[float, float, float], text: str) -> None:
    assert bounds_text(Interval(*numbers, 10.0, 10, "Wilson")) == text
    assert bounds_text(Interval(0.5, None, None, None, 3, "Wilson", "thin")) == "-"


# --- means ----------------------------------------------------------------------------------------


def test_a_mean_of_equal_images_is_student_s() -> None:
    values = default_rng(1).normal(size=(12, 1))
    (interval,) = mean_intervals(values, np.full((12, 1), 7, dtype=np.int64))
    half = 2.200985160082949 * values.std(ddof=1) / math.sqrt(12)
    mean = values.mean()
    assert ends(interval) == pytest.approx((mean, mean - half, mean + half))


def slow_df(share_b: np.ndarray) -> float:
    """(trace G)^2 / trace(G G) with G written out."""
    n = len(share_b)
    left = 1 - 2 * share_b + (share_b**2).sum()
    residuals = np.eye(n) - np.outer(np.ones(n), share_b)
    quadratic = residuals.T @ np.diag(share_b**2 / left) @ residuals
    return float(np.trace(quadratic) ** 2 / np.trace(quadratic @ quadratic))


@given(arrays(np.int64, 9, elements=st.integers(1, 60)))
def test_degrees_of_freedom_are_those_of_the_quadratic_form(n_patches: np.ndarray) -> None:
    share_b = n_patches / n_patches.sum()
    assert _degrees_of_freedom(share_b[:, None]).item() == pytest.approx(slow_df(share_b))


def test_a_mean_is_weighted_by_patches_and_needs_images_that_differ() -> None:
    n_patches = column(1, 3, 2, 2, 0, 4)
    values = np.array([1.0, 2, 3, 4, np.nan, 5])[:, None]
    (interval,) = mean_intervals(values, n_patches)
    assert interval.value == pytest.approx((1 + 6 + 6 + 8 + 20) / 12)
    assert "degrees of freedom" in interval.reason
    (same,) = mean_intervals(np.full((9, 1), 2.0), column(*range(3, 12)))
    assert same.reason.startswith("all images have the same value")
    (nearly,) = mean_intervals(
        np.full((9, 1), 0.7) + 1e-16 * np.arange(9)[:, None], column(*range(3, 12))
    )
    assert nearly.reason.startswith("all images have the same value")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_mean_over_what_is_no_number_is_none(value: float) -> None:
    values = np.array([1.0, 2, 3, 4, value, 5, 6, 7])[:, None]
    (interval,) = mean_intervals(values, column(*[4] * 8))
    assert (interval.value, interval.lo, interval.hi) == (None, None, None)
    assert "no numbers" in interval.reason


# --- in simulation --------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "rate", "icc"), [(10, 0.02, 0.7), (20, 0.98, 0.3), (50, 0.5, 0.3)])
def test_intervals_cover_what_the_world_was_made_with(n: int, rate: float, icc: float) -> None:
    """Where the percentile bootstrap covers .3 to .9; the seed is fixed."""
    draw, strength = default_rng(5), (1 - icc) / icc
    total = np.clip(np.round(15 * np.exp(1.2 * draw.normal(size=(n, 500)))), 1, 200)
    total = total.astype(np.int64)
    own = draw.beta(rate * strength, (1 - rate) * strength, total.shape)
    found = rate_intervals(rates_of(draw.binomial(total, own), total))
    printed = [ends(interval) for interval in found if interval.is_printed]
    covered = [lo <= rate <= hi for _, lo, hi in printed]
    assert len(printed) > 300
    assert np.mean(covered) >= 0.94


def test_interchangeable_runs_are_told_apart_as_often_as_said() -> None:
    draw = default_rng(8)
    unit = draw.normal(size=(20, 1000)) * draw.exponential(size=(20, 1))
    p_values = [test.p for test in flip_tests(unit)]
    rejected = np.mean([p is not None and p <= 0.05 for p in p_values])
    assert 0.03 <= rejected <= 0.07


def test_the_measures_of_a_sum_say_what_they_are() -> None:
    found = measure(made(9))
    one = combined_interval(found.terms("selectivity"))
    other = combined_interval(found.terms("selectivity", -1.0))
    assert one.value == pytest.approx(-(other.value or math.nan))


@given(st.integers(0, 1000), st.lists(st.integers(0, 3), max_size=4))
def test_a_class_measures_the_same_whatever_is_measured_with_it(
    seed: int, classes: list[int]
) -> None:
    counts = made(seed)
    whole, alone = measure(counts).of(classes), measure(counts[:, classes])
    for side in ("target", "other"):
        for field in dataclasses.fields(Rates):
            one, two = (getattr(getattr(m, side), field.name) for m in (whole, alone))
            assert np.array_equal(one, two), field.name
