"""Resampling: against slow loops, by simulation on worlds whose truth is known, by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semseg_cli.runs import bootstrap
from semseg_cli.runs.bootstrap import (
    MEASURES,
    adjusted,
    differences,
    draws_p,
    intervals,
    measures,
    null_range,
    percentiles,
    resample,
    row_intervals,
    two_sided_p,
)


def random_counts(
    n_images: int, n_classes: int, seed: int, rates: tuple[float, float] = (0.8, 0.1)
) -> np.ndarray:
    """Counts [b, c, 4] of 64 patches per image; images differ in their classes and their rates.

    The rates are means over images and independent of the classes: they are the truth.
    """
    rng = np.random.default_rng(seed)
    orig_bc = rng.multinomial(64, rng.dirichlet(np.ones(n_classes), n_images))
    target_b1, other_b1 = (rng.beta(8 * p, 8 * (1 - p), (n_images, 1)) for p in rates)
    changed_bc = rng.binomial(orig_bc, target_b1)
    other_bc = 64 - orig_bc
    return np.stack([orig_bc, changed_bc, other_bc, rng.binomial(other_bc, other_b1)], axis=-1)


def drawn_images(n_images: int, seed: int, n_resamples: int) -> np.ndarray:
    """Which images each resample holds."""
    return np.random.default_rng(seed).integers(0, n_images, (n_resamples, n_images))


# --- against slow, obvious loops --------------------------------------------------------------


def test_resampled_sums_equal_those_of_a_loop_over_images() -> None:
    counts = random_counts(7, 3, seed=1)
    slow = np.zeros((50, 3, 4))
    for number, images in enumerate(drawn_images(7, 5, 50)):
        for image in images:
            slow[number] += counts[image]
    assert np.array_equal(resample(counts, 5, 50), slow)


def test_memory_limits_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = random_counts(7, 3, seed=1)
    whole = resample(counts, 5, 50)
    monkeypatch.setattr(bootstrap, "_AT_ONCE", 7 * 3)
    assert np.array_equal(resample(counts, 5, 50), whole)


def slow_ratio(counts: np.ndarray, part: int, whole: int) -> float:
    return float(counts[..., part].sum()) / float(counts[..., whole].sum())


def slow_intervals(counts: np.ndarray, min_patches: int, seed: int) -> dict[str, float]:
    kept = [c for c in range(counts.shape[1]) if counts[:, c, 0].sum() >= max(1, min_patches)]
    values: dict[str, list[float]] = {}
    for images in drawn_images(len(counts), seed, 200):
        drawn = counts[images]
        target, other = slow_ratio(drawn, 1, 0), slow_ratio(drawn, 3, 2)
        there = [c for c in kept if drawn[:, c, 0].sum()]
        row = {
            "target_change": target,
            "other_change": other,
            "selectivity": target - other,
            "macro_target_change": sum(slow_ratio(drawn[:, c], 1, 0) for c in there) / len(there),
            "macro_other_change": sum(slow_ratio(drawn[:, c], 3, 2) for c in kept) / len(kept),
        }
        for name, value in row.items():
            values.setdefault(name, []).append(value)
    return {
        f"{name}_{end}": float(np.percentile(column, at))
        for name, column in values.items()
        for end, at in (("lo", 2.5), ("hi", 97.5))
    }


@pytest.mark.parametrize("min_patches", [0, 60])
def test_intervals_equal_those_of_a_loop(min_patches: int) -> None:
    counts = random_counts(9, 6, seed=2)
    counts[1:, 5, :2] = 0  # a class of one image: absent from a third of the resamples
    assert intervals(counts, min_patches, 3, 200) == pytest.approx(
        slow_intervals(counts, min_patches, 3)
    )


def test_row_intervals_equal_those_of_each_class_alone() -> None:
    counts = random_counts(12, 4, seed=3)
    found = row_intervals(counts, 4, 300)
    for c in range(4):
        alone = intervals(counts[:, c : c + 1], 0, 4, 300)
        for name in MEASURES:
            ends = (alone[f"{name}_lo"], alone[f"{name}_hi"])
            assert tuple(found[name][c]) == pytest.approx(ends)


def test_differences_equal_those_of_a_loop() -> None:
    one, other = random_counts(10, 2, 4), random_counts(10, 2, 5, (0.5, 0.2))
    found = differences(one, other, 6, 150)
    for c in range(2):
        drawn = []
        for images in drawn_images(10, 6, 150):
            a, b = one[images, c], other[images, c]
            drawn.append(slow_ratio(a, 1, 0) - slow_ratio(b, 1, 0))
        made = found["target_change"][c]
        assert (made.lo, made.hi) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])))
        n_rarer = min(sum(d <= 0 for d in drawn), sum(d >= 0 for d in drawn))
        assert made.p_value == pytest.approx(min(1, 2 * (1 + n_rarer) / 151))
        seen = slow_ratio(one[:, c], 1, 0) - slow_ratio(other[:, c], 1, 0)
        assert made.value == pytest.approx(seen)


# --- on worlds whose truth is known --------------------------------------------------------------

TRUTH = (0.7, 0.2)
N_WORLDS, N_IMAGES = 1000, 200


@pytest.fixture(scope="module")
def covered() -> dict[str, float]:
    """How often the interval of each number holds the truth, over many worlds."""
    truth = dict(zip(("target_change", "other_change"), TRUTH, strict=True))
    truth |= {"selectivity": TRUTH[0] - TRUTH[1]}
    truth |= {f"macro_{name}": truth[name] for name in ("target_change", "other_change")}
    hits = dict.fromkeys(truth, 0)
    for world in range(N_WORLDS):
        found = intervals(random_counts(N_IMAGES, 3, 1000 + world, TRUTH), 1, world, 500)
        for name, value in truth.items():
            hits[name] += found[f"{name}_lo"] <= value <= found[f"{name}_hi"]
    return {name: n / N_WORLDS for name, n in hits.items()}


def test_intervals_cover_the_truth_as_often_as_they_say(covered: dict[str, float]) -> None:
    assert len(covered) == 5
    for name, share in covered.items():
        assert 0.93 <= share <= 0.97, (name, share)


def test_class_intervals_cover_the_truth_as_often_as_they_say() -> None:
    hits = np.zeros(3)
    for world in range(500):
        counts = random_counts(N_IMAGES, 3, 5000 + world, TRUTH)
        lo, hi = row_intervals(counts, world, 500)["selectivity"].T
        hits += (lo <= TRUTH[0] - TRUTH[1]) & (TRUTH[0] - TRUTH[1] <= hi)
    assert 0.93 <= hits.mean() / 500 <= 0.97


def shared_worlds(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two runs on the same images, alike but for chance; a difficult image is so for both."""
    rng = np.random.default_rng(seed)
    orig = rng.integers(5, 60, (N_IMAGES, 1))
    rates_b1 = rng.beta(1, 1, (N_IMAGES, 1))

    def run() -> np.ndarray:
        changed, others = rng.binomial(orig, rates_b1), rng.binomial(64 - orig, 0.1)
        return np.stack([orig, changed, 64 - orig, others], axis=-1)

    return run(), run()


def test_paired_differences_cover_zero_and_reject_as_often_as_they_say() -> None:
    n_covered = n_rejected = 0
    for world in range(N_WORLDS):
        (made,) = differences(*shared_worlds(9000 + world), world, 500)["selectivity"]
        n_covered += made.lo <= 0 <= made.hi
        n_rejected += made.p_value <= 0.05
    assert 0.93 <= n_covered / N_WORLDS <= 0.97
    assert 0.03 <= n_rejected / N_WORLDS <= 0.07


def test_pairing_takes_out_what_the_images_share() -> None:
    one, other = shared_worlds(1)
    (made,) = differences(one, other)["target_change"]
    (lo, hi) = row_intervals(one)["target_change"][0]
    assert made.hi - made.lo < (hi - lo) / 2


# --- edges ---------------------------------------------------------------------------------------


def test_a_class_without_patches_has_no_target_interval_and_no_warning() -> None:
    counts = random_counts(5, 2, 1)
    counts[:, 1, :2] = 0
    found = row_intervals(counts)
    assert np.isnan(found["target_change"][1]).all()
    assert not np.isnan(found["other_change"][1]).any()
    made = differences(counts, counts)["selectivity"][1]
    assert np.isnan([made.value, made.lo, made.p_value]).all()


def test_a_report_without_macro_classes_has_no_macro_interval() -> None:
    found = intervals(random_counts(5, 2, 1), 10**6)
    assert set(found) == {f"{name}_{end}" for name in MEASURES for end in ("lo", "hi")}


@pytest.mark.parametrize("n_images", [0, 1])
def test_fewer_than_two_images_have_no_interval(n_images: int) -> None:
    counts = random_counts(2, 2, 1)[:n_images]
    assert intervals(counts, 0) == {}
    assert np.isnan(row_intervals(counts)["selectivity"]).all()
    assert np.isnan(differences(counts, counts)["selectivity"][0].p_value)


def test_a_run_does_not_differ_from_itself() -> None:
    counts = random_counts(6, 2, 1)
    for made in differences(counts, counts)["selectivity"]:
        assert (made.value, made.lo, made.hi, made.p_value) == (0, 0, 0, 1)


def test_the_seed_decides() -> None:
    counts = random_counts(8, 2, 1)
    assert intervals(counts, 0, 1) == intervals(counts, 0, 1)
    assert intervals(counts, 0, 1) != intervals(counts, 0, 2)


def test_measures_divide_counts() -> None:
    found = measures(np.array([[10, 9, 30, 3], [0, 0, 40, 4]]))
    assert found["target_change"][0] == 0.9
    assert found["selectivity"][0] == pytest.approx(0.8)
    assert np.isnan(found["target_change"][1])
    assert found["other_change"][1] == 0.1


# --- by hand -------------------------------------------------------------------------------------


def test_percentiles_take_the_middle_95_percent() -> None:
    column = np.arange(201.0)
    assert percentiles(np.stack([column, np.full(201, np.nan)], 1))[0].tolist() == [5, 195]


@pytest.mark.parametrize(
    ("drawn", "p_value"),
    [([1, 2, 3], 2 / 4), ([-1, 2, 3], 1.0), ([0, 0, 0], 1.0), (list(range(1, 100)), 2 / 100),
     ([-1, *range(1, 99)], 4 / 100), ([-x for x in range(1, 100)], 2 / 100)],
)  # fmt: skip
def test_two_sided_p_by_hand(drawn: list[int], p_value: float) -> None:
    assert two_sided_p(np.array(drawn)) == pytest.approx(p_value)


def test_adjusted_p_values_by_hand() -> None:
    # Sorted .01 .02 .03 .5: times 4/1, 4/2, 4/3, 4/4 are .04 .04 .04 .5
    assert adjusted([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.04, 0.04, 0.5, 0.04])
    # Sorted .001 .04 .05 .9: .004 .08 .0667 .9; the second may not exceed the third
    assert adjusted([0.04, 0.001, 0.05, 0.9]) == pytest.approx([0.2 / 3, 0.004, 0.2 / 3, 0.9])
    assert adjusted([]) == []
    assert adjusted([0.3]) == [0.3]


@given(st.lists(st.floats(0, 1), max_size=30))
def test_adjusted_p_values_equal_the_definition(p_values: list[float]) -> None:
    n = len(p_values)
    slow = [
        min([1.0, *(q * n / sum(r <= q for r in p_values) for q in p_values if q >= p)])
        for p in p_values
    ]
    assert adjusted(p_values) == pytest.approx(slow)


def test_p_against_draws_counts_those_that_do_as_well() -> None:
    assert draws_p(0.5, [0.1, 0.5, 0.6]) == 3 / 4
    assert draws_p(0.9, [0.1] * 19) == 1 / 20
    assert null_range([x / 40 for x in range(41)]) == pytest.approx((0.025, 0.5, 0.975))
