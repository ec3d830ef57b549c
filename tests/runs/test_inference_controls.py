"""A method against draws at random: luck of the draw is part of the error, or there is no p."""

import itertools
import math

import numpy as np
import pytest
from numpy.random import default_rng

from semseg_cli.runs.inference import (
    MEASURES,
    control_class_differences,
    control_differences,
    draws_needed,
)
from semseg_cli.runs.inference.controls import gaps_of
from semseg_cli.runs.inference.luck import satterthwaite, swap_test


def drawn(seed: int, n_draws: int, n_classes: int = 8, n_images: int = 40) -> np.ndarray:
    """Counts [draws, images, classes, 4] of effects that differ by draw and class."""
    images, draw = default_rng(0), default_rng(seed)
    orig = images.integers(1, 40, (n_images, n_classes))
    effect = draw.beta(0.5, 2, (n_draws, 1, n_classes))
    changed = draw.binomial(orig, np.broadcast_to(effect, (n_draws, n_images, n_classes)))
    rest = draw.binomial(256 - orig, np.broadcast_to(0.1 * effect, changed.shape))
    wide = np.broadcast_to(orig, changed.shape)
    return np.stack([wide, changed, 256 - wide, rest], axis=-1)


def test_the_difference_is_that_of_the_means() -> None:
    draws = drawn(1, 3)
    method = drawn(2, 1)[0]
    found = control_differences(method, draws.sum(axis=0), draws.sum(axis=1))
    sums, own = draws.sum(axis=(0, 1)), method.sum(axis=0)
    target = (own[:, 1] / own[:, 0] - sums[:, 1] / sums[:, 0]).mean()
    other = (own[:, 3] / own[:, 2] - sums[:, 3] / sums[:, 2]).mean()
    values = [found[name].interval.value for name in MEASURES]
    assert values == pytest.approx([target, other, target - other])
    whole = control_differences(method, draws.sum(axis=0), draws.sum(axis=1), scope="pooled")
    own, sums = own.sum(axis=0), sums.sum(axis=0)
    assert whole["target_change"].interval.value == pytest.approx(
        own[1] / own[0] - sums[1] / sums[0]
    )


def test_one_draw_per_class_has_a_swap_test_over_the_classes() -> None:
    method, control = drawn(3, 2)
    found = control_differences(method, control)["selectivity"]
    assert found.test.method == "swap"
    assert found.interval.method == "two-way t: classes and images"
    rates = [counts.sum(axis=0) for counts in (method, control)]
    one, other = (sums[:, 1] / sums[:, 0] - sums[:, 3] / sums[:, 2] for sums in rates)
    signs = np.array(list(itertools.product((-1, 1), repeat=8)))
    p = float((np.abs(signs @ (one - other)) >= abs((one - other).sum()) - 1e-12).mean())
    assert found.test.p == pytest.approx(p, abs=0.03)


def test_the_swap_test_of_one_draw_is_that_of_all_swaps() -> None:
    method, control = drawn(4, 2, n_classes=7)
    gap = gaps_of(method, control, control.sum(axis=0)[None], "macro")["target_change"]
    signs = np.array(list(itertools.product((-1, 1), repeat=7)))
    p = float((np.abs(signs @ gap.gap_c) >= abs(gap.value) - 1e-12).mean())
    assert swap_test(gap).p == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / 9999) + 1e-3)


@pytest.mark.parametrize(("n_classes", "needed"), [(1, 6), (3, 3), (5, 2)])
def test_one_draw_over_few_classes_says_how_many_are_needed(n_classes: int, needed: int) -> None:
    over = "of one class" if n_classes == 1 else f"over {n_classes} classes"
    method, control = drawn(5, 2, n_classes=n_classes)
    found = control_differences(method, control)["selectivity"]
    assert found.interval.value is not None
    assert not found.interval.is_printed
    assert found.test.p is None
    assert found.test.reason == found.interval.reason
    assert found.test.reason.startswith(f"one draw {over} cannot tell")
    assert found.test.reason.endswith(f"--draws {needed}")
    assert draws_needed(n_classes) == needed
    alone = control_differences(method, control, can_draw=False)["selectivity"]
    assert alone.test.reason.endswith("this control has no --draws: compare over more classes")
    draws = drawn(6, needed, n_classes=n_classes)
    enough = control_differences(method, draws.sum(axis=0), draws.sum(axis=1))
    assert enough["selectivity"].test.p is not None


@pytest.mark.parametrize("n_classes", [2, 8])
def test_p_is_at_most_five_percent_where_the_interval_leaves_zero_out(n_classes: int) -> None:
    seen = set()
    for seed in range(30):
        draws = drawn(seed, 4, n_classes=n_classes)
        method = drawn(100 + seed, 1, n_classes=n_classes)[0]
        found = control_differences(method, draws.sum(axis=0), draws.sum(axis=1))
        for difference in found.values():
            assert difference.test.p is not None
            assert (difference.test.p <= 0.05) == difference.interval.excludes_zero
            seen.add(difference.interval.excludes_zero)
    assert seen == {True, False}


def test_a_method_that_is_a_draw_itself_brings_its_own_luck() -> None:
    draws, method = drawn(10, 5), drawn(11, 1)[0]
    widths = []
    for is_draw in (False, True):
        found = control_differences(method, draws.sum(axis=0), draws.sum(axis=1), is_draw=is_draw)[
            "target_change"
        ].interval
        assert found.lo is not None
        assert found.hi is not None
        widths.append(found.hi - found.lo)
    assert widths[1] > 1.5 * widths[0]


def test_a_run_against_itself_has_no_interval_of_width_zero() -> None:
    method = drawn(12, 1)[0]
    for found in control_differences(method, method).values():
        assert found.interval.reason.startswith("nothing differs")
        assert (found.interval.lo, found.test.p) == (None, None)


def test_no_class_has_no_difference_and_says_so() -> None:
    nothing = np.zeros((6, 3, 4), dtype=np.int64)
    for found in control_differences(nothing, nothing).values():
        assert found.interval.value is None
        assert found.test.reason == "0 of 0 patches"


@pytest.mark.parametrize("n_draws", [1, 6])
def test_classes_that_all_differ_alike_have_no_interval_of_rounding_errors(n_draws: int) -> None:
    """Sums of sevenths are not exact: what is left of their spread is no spread."""
    method = np.zeros((12, 7, 4), dtype=np.int64)
    method[..., 0], method[..., 1], method[..., 2], method[..., 3] = 20, 19, 236, 7
    control = n_draws * method
    control[..., 1] = n_draws * 18
    draws = np.repeat(control.sum(axis=0, keepdims=True) // n_draws, n_draws, axis=0)
    found = control_differences(method, control, draws if n_draws > 1 else None)
    for difference in found.values():
        assert not difference.interval.is_printed
        assert difference.test.p is None


def test_classes_by_themselves_are_classes_alone() -> None:
    draws, method = drawn(13, 6), drawn(14, 1)[0]
    found = control_class_differences(method, draws.sum(axis=0), draws.sum(axis=1))
    alone = control_differences(
        method[:, 2:3], draws.sum(axis=0)[:, 2:3], draws.sum(axis=1)[:, 2:3]
    )
    assert {name: found[name][2] for name in MEASURES} == alone
    one = control_class_differences(method, draws[0])
    assert all("--draws 6" in difference.test.reason for difference in one["selectivity"])


def test_order_of_images_and_of_draws_does_not_matter() -> None:
    draws, method = drawn(15, 4), drawn(16, 1)[0]
    order, other = default_rng(0).permutation(40), default_rng(1).permutation(4)
    there = control_differences(method, draws.sum(axis=0), draws.sum(axis=1))
    shuffled = draws[other][:, order]
    back = control_differences(method[order], shuffled.sum(axis=0), shuffled.sum(axis=1))
    for name in MEASURES:
        one, two = there[name].interval, back[name].interval
        assert (one.lo, one.hi) == pytest.approx((two.lo, two.hi), abs=1e-9)


def test_degrees_of_freedom_of_equal_parts_add_up() -> None:
    assert satterthwaite((2.0, 2.0), (3.0, 3.0)) == pytest.approx(6)
    assert satterthwaite((1.0, 0.0), (4.0, 9.0)) == pytest.approx(4)
    assert satterthwaite((0.0,), (4.0,)) == 1
