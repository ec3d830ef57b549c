"""Two runs on the same images: how often equal ones are called different, what intervals hold."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from benchmarks.trust import worlds
from benchmarks.trust.coverage import Cell, cell_of
from semseg_cli.runs.inference import (
    MEASURES,
    Interval,
    combined_interval,
    flip_tests,
    gap_intervals,
    macro_differences,
    measure,
    rates_of,
)
from semseg_cli.runs.inference.paired import N_FLIPS, TIE, contributions, flip_signs

ALIKE, UNLIKE = (0.5, 0.5), (0.15, 0.8)  # ICCs of the two runs


@dataclass(frozen=True)
class Errors:
    """How often true nulls are rejected at .05; a p value that is not printed rejects none."""

    test: str
    setting: str
    n_images: int
    rate: float
    rejected: float
    n_printed: int
    starred: float | None = None
    n_disagree: int | None = None


def flip_errors(seed: int, n_replicates: int) -> Iterator[Errors]:
    """The flip test of one class's target change, of runs that are equally good."""
    draw = np.random.default_rng(seed)
    for n in (10, 20, 50, 200):
        for iccs, kind in ((ALIKE, "interchangeable"), (UNLIKE, "unlike clustering")):
            for rate in (0.02, 0.1, 0.5):
                one, other = worlds.pair(draw, n, n_replicates, (rate, rate), iccs)
                yield _flip_errors(one[:, :, 0], other[:, :, 0], kind, rate)


def _flip_errors(
    one_rb4: Int64[np.ndarray, "r b 4"],
    other_rb4: Int64[np.ndarray, "r b 4"],
    kind: str,
    rate: float,
) -> Errors:
    total, n = one_rb4[..., 0].T, one_rb4.shape[1]
    changed = [counts[..., 1].T for counts in (one_rb4, other_rb4)]
    unit = contributions(one_rb4.transpose(1, 0, 2), other_rb4.transpose(1, 0, 2))["target_change"]
    tests = flip_tests(unit)
    is_out = np.array([test.p is not None and test.p <= 0.05 for test in tests])
    gaps = gap_intervals(*(rates_of(side, total) for side in changed))
    is_apart = np.array([gap.excludes_zero for gap in gaps])
    p_known = np.array([test.p is not None for test in tests])
    differs = (inverted(unit, total / total.sum(axis=0)) != is_out) & p_known
    return Errors(
        "flip", kind, n, rate, float(is_out.mean()), int(p_known.sum()),
        float((is_out & is_apart).mean()), int(differs.sum()),
    )  # fmt: skip


def inverted(
    unit_bj: Float64[np.ndarray, "b j"], share_bj: Float64[np.ndarray, "b j"]
) -> Bool[np.ndarray, " j"]:
    """Whether the interval of all differences that the flip test keeps leaves zero out.

    A flip, whose sum of contributions is x and of shares y, is as extreme as what was seen where
    the difference lies between (D - x) / (1 - y) and (D + x) / (1 + y). The interval leaves out
    what is below all but 5% of the lower ends, or above all but 5% of the upper ones.
    """
    parts = [slice(begin, begin + 300) for begin in range(0, unit_bj.shape[1], 300)]
    return np.concatenate([_inverted(unit_bj[:, part], share_bj[:, part]) for part in parts])


def _inverted(
    unit_bj: Float64[np.ndarray, "b j"], share_bj: Float64[np.ndarray, "b j"]
) -> Bool[np.ndarray, " j"]:
    scaled_bj = unit_bj / np.maximum(np.abs(unit_bj).sum(axis=0), 1e-300)
    both_bj = np.concatenate([scaled_bj, share_bj], axis=1).astype(np.float32)
    sums_fj = np.concatenate([s @ both_bj for s in flip_signs(len(unit_bj), 0, N_FLIPS)])
    x_fj, y_fj = np.split(sums_fj.astype(np.float64), 2, axis=1)
    whole_j = scaled_bj.sum(axis=0)
    none_flipped_fj = np.abs(y_fj) > 1 - 1e-6
    with np.errstate(divide="ignore", invalid="ignore"):  # ties count as in the test
        low = [(whole_j - x_fj - TIE) / (1 - y_fj), (whole_j + x_fj - TIE) / (1 + y_fj)]
        high = [(whole_j - x_fj + TIE) / (1 - y_fj), (whole_j + x_fj + TIE) / (1 + y_fj)]
    low_fj = np.where(none_flipped_fj, -np.inf, np.minimum(*low))
    high_fj = np.where(none_flipped_fj, np.inf, np.maximum(*high))
    n_least = 0.05 * (1 + N_FLIPS)  # ends on the side of zero that keep it in
    is_below_j = (low_fj <= 0).sum(axis=0) + 1 > n_least
    is_above_j = (high_fj >= 0).sum(axis=0) + 1 > n_least
    found: Bool[np.ndarray, " j"] = ~(is_below_j & is_above_j)
    return found


def difference_cells(seed: int, n_replicates: int) -> Iterator[Cell | None]:
    """Differences of two runs in target change and selectivity: one class, and means over ten."""
    draw = np.random.default_rng(seed)
    for n in (10, 20, 50, 200):
        for n_classes in (1, 10):
            for iccs, kind in ((ALIKE, "alike"), (UNLIKE, "unlike")):
                for rate, shift in ((0.02, 0.06), (0.1, 0.15), (0.5, 0.25)):
                    if n == 200 and n_classes > 1:
                        continue  # the dearest cells, and the tamest
                    rates = rate + shift, rate
                    runs = worlds.pair(draw, n, n_replicates, rates, iccs, n_classes)
                    setting = f"{n_classes} classes, {kind}, {rate:g} + {shift:g}"
                    yield from _differences(*runs, n, setting, shift)


def _differences(
    one: Int64[np.ndarray, "r b c 4"],
    other: Int64[np.ndarray, "r b c 4"],
    n: int,
    setting: str,
    shift: float,
) -> Iterator[Cell | None]:
    found: dict[str, list[Interval]] = {"target_change": [], "selectivity": []}
    if one.shape[2] == 1:
        sides = [[rates_of(side[:, :, 0, 1].T, side[:, :, 0, 0].T)] for side in (one, other)]
        found["target_change"] = gap_intervals(sides[0][0], sides[1][0])
    for a, b in zip(one, other, strict=True):
        first, second = measure(a), measure(b)
        for name in found:
            if len(found[name]) < len(one):
                terms = first.terms(name) + second.terms(name, -1.0)
                found[name].append(combined_interval(terms))
    for name, intervals in found.items():
        what = f"difference in {name.replace('_', ' ')}"
        yield cell_of(what, n, 0.5, setting, intervals, [shift] * len(one))


def macro_flip_errors(seed: int, n_replicates: int) -> Iterator[Errors]:
    """The flip test of the mean over ten classes, of interchangeable runs, as a user calls it."""
    draw = np.random.default_rng(seed)
    for n in (20, 50):
        for rate in (0.1, 0.5):
            runs = worlds.pair(draw, n, n_replicates, (rate, rate), ALIKE, 10)
            for name in (MEASURES[0], MEASURES[2]):
                found = [
                    macro_differences(a, b, seed=i)[name]
                    for i, (a, b) in enumerate(zip(*runs, strict=True))
                ]
                known = [one.test.p for one in found if one.test.p is not None]
                rejected = sum(p <= 0.05 for p in known) / len(found)
                starred = sum(one.mark == "*" for one in found) / len(found)
                setting = f"mean of ten classes, {name.replace('_', ' ')}"
                yield Errors("flip", setting, n, rate, rejected, len(known), starred)
