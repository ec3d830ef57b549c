"""Outcomes of two runs: differences, their intervals and p, against slow evaluations."""

import itertools
import math

import numpy as np
import pytest

from semseg_cli.runs.inference import Interval
from semseg_cli.runs.outcome_differences import COMPARED, OF_EDITS, UNLIKE, outcome_differences
from semseg_cli.runs.outcomes import FRACTIONS, pooled_fraction_intervals

N_IMAGES, N_CLASSES = 9, 3


def table(seed: int, shift: float = 0.0) -> dict[str, np.ndarray]:
    """Columns [images, classes] of a run; what is there before the edit is the same in all."""
    same, own = np.random.default_rng(0), np.random.default_rng(seed)
    shape = (N_IMAGES, N_CLASSES)
    whole = {
        name: same.integers(5, 40, shape)
        for name in ("n_orig_patches", "n_other_patches", "n_wrong_patches", "n_interior_other",
                     "n_distant_other", "n_labelled", "n_labelled_other")
    }  # fmt: skip
    whole["n_orig_patches"][:5, 0] = 0
    whole["n_labelled"][:5, 0] = 0
    parts = {
        "n_righted": "n_wrong_patches",
        "n_damaged": "n_other_patches",
        "n_repaired": "n_other_patches",
        "n_interior_changed": "n_interior_other",
        "n_distant_changed": "n_distant_other",
        "n_right_after": "n_labelled",
        "n_other_right_after": "n_labelled_other",
        "n_other_changed": "n_other_patches",
    }
    found: dict[str, np.ndarray] = {
        part: own.binomial(whole[of], min(0.3 + shift + 0.05 * i, 1))
        for i, (part, of) in enumerate(parts.items())
    }
    found["n_repaired"] //= 3
    for name, of in (
        ("margin_drop_sum", "n_orig_patches"),
        ("other_margin_sum", "n_other_patches"),
    ):
        found[name] = own.normal(1 + shift, 0.5, shape) * whole[of]
    return {**whole, **found}


ONE, OTHER = table(1, 0.1), table(2)


def slow_number(name: str, columns: dict[str, np.ndarray]) -> float:
    """An outcome of a run, pooled over images and classes."""
    fraction, part, whole = FRACTIONS[name], 0.0, 0
    for image, c in itertools.product(range(len(columns["n_orig_patches"])), range(N_CLASSES)):
        if name == "absent_change":
            is_absent = not columns["n_orig_patches"][image, c] + columns["n_labelled"][image, c]
            part += columns["n_other_changed"][image, c] * is_absent
            whole += columns["n_other_patches"][image, c] * is_absent
        else:
            part += columns[fraction.part][image, c]
            part -= columns[fraction.less][image, c] if fraction.less else 0
            whole += columns[fraction.whole][image, c]
    return part / whole


def swapped(flips: tuple[bool, ...]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    chosen = np.array(flips)[:, None]
    return (
        {name: np.where(chosen, OTHER[name], ONE[name]) for name in ONE},
        {name: np.where(chosen, ONE[name], OTHER[name]) for name in ONE},
    )


@pytest.mark.parametrize("name", COMPARED)
def test_an_outcome_is_tested_by_swapping_the_runs_image_by_image(name: str) -> None:
    found = outcome_differences(ONE, OTHER)[name]
    seen = slow_number(name, ONE) - slow_number(name, OTHER)
    assert found.interval.value == pytest.approx(seen)
    gaps = [
        slow_number(name, one) - slow_number(name, other)
        for one, other in map(swapped, itertools.product((False, True), repeat=N_IMAGES))
    ]
    p = float(np.mean([abs(gap) >= abs(seen) - 1e-9 for gap in gaps]))
    if found.test.p is None:
        assert name == "absent_change"  # in 5 of 9 images
        assert found.test.reason
    else:
        assert found.test.p == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 9999) + 1e-3)


def test_a_mean_s_difference_is_that_of_the_images_differences() -> None:
    """Where all images have as many patches it is Student's."""
    equal = {name: np.full((N_IMAGES, 1), 10) for name in ("n_orig_patches", "n_other_patches")}
    draw = np.random.default_rng(5)
    one, other = ({**equal, "margin_drop_sum": draw.normal(0, 1, (N_IMAGES, 1))} for _ in range(2))
    gap = (one["margin_drop_sum"] - other["margin_drop_sum"])[:, 0] / 10
    found = outcome_differences(one, other)["margin_drop"].interval
    half = 2.306004 * gap.std(ddof=1) / math.sqrt(N_IMAGES)  # t of 8 degrees of freedom
    assert (found.value, found.lo, found.hi) == pytest.approx(
        (gap.mean(), gap.mean() - half, gap.mean() + half)
    )


def test_a_run_differs_from_itself_by_nothing_and_gets_no_p() -> None:
    for name, found in outcome_differences(ONE, ONE).items():
        assert found.interval.value == 0, name
        assert found.test.p is None, name
        assert found.test.reason, name


def test_runs_over_unlike_patches_are_not_tested() -> None:
    moved = {**OTHER, "n_labelled": OTHER["n_labelled"] + 1}
    found = outcome_differences(ONE, moved)
    assert found["target_accuracy_after"].test.reason == UNLIKE
    assert found["target_accuracy_after"].interval.lo is None
    assert found["damage"].test.p is not None


def test_margins_that_are_no_numbers_give_no_p_and_leave_the_others_theirs() -> None:
    broken = {**ONE, "margin_drop_sum": np.full_like(ONE["margin_drop_sum"], np.nan)}
    found = outcome_differences(broken, OTHER)
    assert found["margin_drop"].test.p is None
    assert found["margin_drop"].interval.lo is None
    assert found["damage"] == outcome_differences(ONE, OTHER)["damage"]


def test_groups_are_one_sample_each() -> None:
    groups = ["a", "b", "c"] * 3
    found = outcome_differences(ONE, OTHER, groups)
    assert found["damage"].interval.n_images == 3
    assert found["damage"].test.p is None


def test_what_is_before_the_edit_or_describes_it_is_not_compared() -> None:
    assert not set(COMPARED) & {*OF_EDITS, "target_accuracy_before", "target_iou_after"}
    assert outcome_differences({}, {}) == {}


def test_the_difference_s_value_is_that_of_the_reported_numbers() -> None:
    sides = [pooled_fraction_intervals(run) for run in (ONE, OTHER)]
    for name, found in outcome_differences(ONE, OTHER).items():
        a, b = (side[name].value for side in sides)
        assert isinstance(found.interval, Interval)
        assert a is not None
        assert b is not None
        assert found.interval.value == pytest.approx(a - b)
