"""Scores beyond nulls: hand-computed values, and intervals and tests that keep their word."""

import numpy as np
import pytest
from numpy.random import Generator, default_rng

from semseg_cli.runs.inference import (
    Calibrated,
    calibrated_difference,
    calibrated_score,
    no_edit,
)


def counted(draw: Generator, orig_bc: np.ndarray, effect: np.ndarray, side: float) -> np.ndarray:
    """Counts of edits whose effect varies over images; `effect` is the mean of each class."""
    spread = np.clip(effect + draw.normal(0, 0.1, orig_bc.shape), 0, 1)
    changed = draw.binomial(orig_bc, spread)
    rest = draw.binomial(256 - orig_bc, np.clip(side + draw.normal(0, 0.02, orig_bc.shape), 0, 1))
    return np.stack([orig_bc, changed, 256 - orig_bc, rest], axis=-1)


def dictionary(
    seed: int, effect: float, n_nulls: int = 8, n_classes: int = 8, n_images: int = 40
) -> Calibrated:
    """Own edits on all images, nulls of random effect on a quarter of them."""
    draw = default_rng(seed)
    orig_bc = default_rng(0).integers(0, 40, (n_images, n_classes))
    own = counted(draw, orig_bc, np.full(n_classes, effect), 0.05)
    is_sampled_bc = np.zeros_like(orig_bc, dtype=bool)
    for c in range(n_classes):
        having = np.flatnonzero(orig_bc[:, c])
        is_sampled_bc[draw.permutation(having)[: n_images // 4], c] = True
    nulls = np.stack(
        [counted(draw, orig_bc, draw.beta(0.5, 4, n_classes), 0.02) for _ in range(n_nulls)]
    )
    nulls = nulls * is_sampled_bc[None, ..., None]
    return Calibrated(own, nulls.sum(axis=0), nulls.sum(axis=1))


def rates(counts_bc4: np.ndarray) -> np.ndarray:
    sums = counts_bc4.sum(axis=0)
    return np.asarray(sums[:, 1] / sums[:, 0] - sums[:, 3] / sums[:, 2])


def test_the_score_is_the_mean_of_own_minus_nulls_on_images_with_the_class() -> None:
    one = dictionary(1, 0.6)
    own = one.own_bc4.copy()
    own[own[..., 0] == 0] = 0
    expected = (rates(own) - rates(one.null_bc4)).mean()
    found = calibrated_score(one)
    assert found.value == pytest.approx(expected)
    assert found.lo is not None
    assert found.hi is not None
    assert found.lo < expected < found.hi


def test_a_difference_is_that_of_the_scores_and_has_two_ends_that_turn() -> None:
    one, other = dictionary(1, 0.6), dictionary(2, 0.3)
    found, back = calibrated_difference(one, other), calibrated_difference(other, one)
    scores = [calibrated_score(side).value for side in (one, other)]
    assert None not in scores
    assert found.interval.value == pytest.approx(scores[0] - scores[1])  # type: ignore[operator]
    assert found.interval.lo == pytest.approx(-back.interval.hi)  # type: ignore[operator]
    assert found.test.p == pytest.approx(back.test.p)
    assert found.test.p is not None
    assert found.test.p < 0.001


@pytest.mark.parametrize("n_classes", [1, 8])
def test_p_is_at_most_five_percent_where_the_interval_leaves_zero_out(n_classes: int) -> None:
    for seed in range(30):
        one, other = (
            dictionary(2 * seed + i, 0.4 + 0.1 * i, n_nulls=9, n_classes=n_classes)
            for i in range(2)
        )
        found = calibrated_difference(one, other)
        assert found.test.p is not None
        assert found.interval.excludes_zero == (found.test.p <= 0.05)


def test_a_dictionary_against_itself_is_no_better() -> None:
    one = dictionary(3, 0.5)
    found = calibrated_difference(one, one)
    assert found.interval.value == 0
    assert found.test.p == 1


def test_equal_dictionaries_are_told_apart_no_more_often_than_said() -> None:
    """200 pairs alike: at most 5% of p values are below .05 but for chance (mean 10, sd 3)."""
    p_values = [
        calibrated_difference(dictionary(2 * i, 0.5), dictionary(2 * i + 1, 0.5)).test.p
        for i in range(200)
    ]
    assert sum(p is not None and p <= 0.05 for p in p_values) <= 19
    assert None not in p_values


def test_a_class_without_a_latent_counts_as_nothing_done() -> None:
    one = dictionary(4, 0.6, n_classes=2)
    is_first = np.array([1, 0])[None, :, None]
    lacks = Calibrated(
        np.where(is_first, one.own_bc4, no_edit(one.own_bc4)),
        np.where(is_first, one.null_bc4, no_edit(one.null_bc4)),
        np.where(is_first, one.draws_rc4, no_edit(one.draws_rc4)),
    )
    alone = one.of(np.array([True, False]))
    found, whole = calibrated_score(lacks), calibrated_score(alone)
    assert found.value == pytest.approx((whole.value or 0) / 2)


def test_too_few_nulls_or_images_give_no_interval_and_say_so() -> None:
    one = dictionary(5, 0.5, n_nulls=1)
    found = calibrated_difference(one, one)
    assert found.test.p is None
    assert "1 nulls per class: an interval needs 2" in found.interval.reason
    few = dictionary(5, 0.5, n_classes=1, n_images=12)
    assert "an interval needs 5" in calibrated_score(few).reason
    none = dictionary(5, 0.5).of(np.zeros(8, dtype=bool))
    assert calibrated_score(none).value is None
