"""How often intervals hold the truth, cell by cell of simulated worlds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from benchmarks.trust import worlds
from semseg_cli.runs.inference import (
    Interval,
    gap_intervals,
    macro_intervals,
    mean_intervals,
    pooled_intervals,
    rate_intervals,
    rates_of,
    sum_groups,
)
from semseg_cli.runs.inference.rates import Rates

N_IMAGES = (5, 10, 20, 50, 200)
RATES = (0.005, 0.02, 0.1, 0.5, 0.98, 0.999)
ICCS = (0.0, 0.3, 0.7)


@dataclass(frozen=True)
class Cell:
    """What intervals did in one kind of world; coverage and width are over the printed ones."""

    what: str
    n_images: int
    icc: float
    coverage: float
    width: float
    n_printed: int
    least_width: float
    setting: str
    percentile_width: float | None = None


def cell_of(
    what: str,
    n_images: int,
    icc: float,
    setting: str,
    found: Sequence[Interval],
    truths: Sequence[float],
    percentile_width: float | None = None,
) -> Cell | None:
    """The cell of replicates and what each should hold; None where nothing is printed."""
    printed = [
        (interval.lo, interval.hi, truth)
        for interval, truth in zip(found, truths, strict=True)
        if interval.lo is not None and interval.hi is not None
    ]
    if not printed:
        return None
    lo, hi, truth = (np.array(column) for column in zip(*printed, strict=True))
    covered = (lo <= truth + 1e-9) & (truth - 1e-9 <= hi)
    width = hi - lo
    return Cell(
        what,
        n_images,
        icc,
        float(covered.mean()),
        float(width.mean()),
        len(printed),
        float(width.min()),
        setting,
        percentile_width,
    )


def rate_cells(seed: int, n_replicates: int) -> Iterator[Cell | None]:
    """One class's rate over the grid."""
    draw = np.random.default_rng(seed)
    for n in N_IMAGES:
        for rate in RATES:
            for icc in ICCS:
                changed, total = worlds.one_rate(draw, n, n_replicates, rate, icc)
                found = rate_intervals(rates_of(changed, total))
                compared = n == 200 and icc == 0.3
                width = percentile_width(draw, changed, total) if compared else None
                truths = [rate] * n_replicates
                yield cell_of("rate", n, icc, f"rate {rate:g}", found, truths, width)


def percentile_width(
    draw: np.random.Generator, changed: Int64[np.ndarray, "b r"], total: Int64[np.ndarray, "b r"]
) -> float:
    """The mean width of the percentile bootstrap's intervals, from 500 resamples of the images."""
    n = len(changed)
    weight = draw.multinomial(n, np.full(n, 1 / n), size=500).astype(np.float64)
    lo, hi = np.percentile((weight @ changed) / (weight @ total), (2.5, 97.5), axis=0)
    return float((hi - lo).mean())


def selectivity_cells(seed: int, n_replicates: int) -> Iterator[Cell | None]:
    """Target minus other of one class, in half of the images."""
    draw = np.random.default_rng(seed)
    for n in N_IMAGES[1:]:
        for target in (0.02, 0.5, 0.9, 0.999):
            for other in (0.005, 0.05, 0.3):
                for icc in ICCS[1:]:
                    found = gap_intervals(*_both(draw, n, n_replicates, (target, other), icc))
                    setting = f"target {target:g}, other {other:g}"
                    truths = [target - other] * n_replicates
                    yield cell_of("selectivity", n, icc, setting, found, truths)


def _both(
    draw: np.random.Generator, n: int, n_replicates: int, rates: tuple[float, float], icc: float
) -> tuple[Rates, Rates]:
    orig = worlds.patches(draw, (2 * n, n_replicates))
    orig[n:] = 0
    other, z = worlds.IMAGE_PATCHES - orig, draw.normal(size=orig.shape)
    changed = worlds.changed_in(draw, orig, z, rates[0], icc)
    rest = worlds.changed_in(draw, other, worlds.like(draw, z, 0.5), rates[1], icc)
    return rates_of(changed, orig), rates_of(rest, other)


def class_set_cells(seed: int, n_replicates: int) -> Iterator[Cell | None]:
    """Means over classes, and pooled numbers, of whole runs."""
    draw = np.random.default_rng(seed)
    sizes = [(n, 10) for n in N_IMAGES[1:]] + [(10, 50), (20, 50)]
    for n, n_classes in sizes:
        for level in worlds.LEVELS:
            yield from _class_set(draw, n, n_classes, level, n_replicates)


def _class_set(
    draw: np.random.Generator, n: int, n_classes: int, level: str, n_replicates: int
) -> Iterator[Cell | None]:
    macro: list[dict[str, Interval]] = []
    pooled: list[Interval] = []
    truths: list[float] = []
    pooled_truths: list[float] = []
    for _ in range(n_replicates):
        counts, rate_c, pooled_rate = worlds.classes(draw, n, n_classes, level)
        kept_c = (counts[..., 0] > 0).sum(axis=0) >= 3
        if not kept_c.any():
            continue
        macro.append(macro_intervals(counts))
        truths.append(float(rate_c[kept_c].mean()))
        pooled.append(pooled_intervals(counts)["target_change"])
        pooled_truths.append(pooled_rate)
    setting, other = f"{n_classes} classes, {level}", worlds.OTHER
    for name, share in (
        ("target_change", 1.0),
        ("other_change", other),
        ("selectivity", 1 - other),
    ):
        shares = [share * truth for truth in truths]
        found = [of_run[name] for of_run in macro]
        yield cell_of(f"macro {name.replace('_', ' ')}", n, 0.5, setting, found, shares)
    yield cell_of("pooled target change", n, 0.5, setting, pooled, pooled_truths)


def group_cells(seed: int, n_replicates: int) -> Iterator[Cell | None]:
    """A rate over images in groups of five, the group as the unit."""
    draw = np.random.default_rng(seed)
    for n in N_IMAGES[:4]:
        for rate in (0.02, 0.1, 0.5):
            changed, total, group = worlds.groups_of(draw, n, n_replicates, rate)
            found = rate_intervals(rates_of(sum_groups(changed, group), sum_groups(total, group)))
            truths = [rate] * n_replicates
            yield cell_of("rate, groups of 5", n, 0.5, f"rate {rate:g}", found, truths)


def mean_cells(seed: int, n_replicates: int) -> Iterator[Cell | None]:
    """Means of values of images, normal and skewed (exponential)."""
    draw = np.random.default_rng(seed)
    for n in N_IMAGES:
        for law, value in (
            ("normal", draw.normal(1, 1, (n, n_replicates))),
            ("skewed", draw.exponential(1, (n, n_replicates))),
        ):
            total = worlds.patches(draw, value.shape)
            found = mean_intervals(_noisy(draw, value, total), total)
            yield cell_of("mean of values", n, 0.0, law, found, [1.0] * n_replicates)


def _noisy(
    draw: np.random.Generator,
    value: Float64[np.ndarray, "b r"],
    total: Int64[np.ndarray, "b r"],
) -> Float64[np.ndarray, "b r"]:
    """The images' values as seen on their patches."""
    return value + draw.normal(size=value.shape) / np.sqrt(total)
