"""How sure the numbers are: images are what was sampled, so images are what is resampled.

Counts come per image and row, in the order of `COUNTED`. A row is a class, or a run whose classes
were summed. The same seed draws the same images, which pairs runs on the same images. No torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from semseg_cli.settings.compare import N_RESAMPLES
from semseg_cli.typed import typed

COUNTED = ("n_orig_patches", "n_changed_patches", "n_other_patches", "n_other_changed")
MEASURES = ("target_change", "other_change", "selectivity")
_TAILS = (2.5, 97.5)
_AT_ONCE = 4_000_000  # weights in memory


@dataclass(frozen=True)
class Difference:
    """A difference with its 95% interval and two-sided p value; NaN where a side is undefined."""

    value: float
    lo: float
    hi: float
    p_value: float


@typed
def resample(
    counts_bk4: Int64[np.ndarray, "b k 4"], seed: int = 0, n_resamples: int = N_RESAMPLES
) -> Float64[np.ndarray, "r k 4"]:
    """Sums over as many images as there are, drawn with replacement, `n_resamples` times.

    Sums are whole numbers below 2**53, so exact.
    """
    n_images, n_rows, _ = counts_bk4.shape
    flat = counts_bk4.reshape(n_images, -1).astype(np.float64)
    draw = np.random.default_rng(seed)
    step = max(1, _AT_ONCE // max(1, n_images))
    sizes = [min(step, n_resamples - begin) for begin in range(0, n_resamples, step)]
    sums = [_weights(draw, size, n_images) @ flat for size in sizes]
    return np.concatenate(sums).reshape(n_resamples, n_rows, 4)


def _weights(
    draw: np.random.Generator, n_resamples: int, n_images: int
) -> Float64[np.ndarray, "r b"]:
    """How often each resample holds each image: multinomial counts."""
    drawn = draw.integers(0, n_images, (n_resamples, n_images))
    cells = drawn + n_images * np.arange(n_resamples)[:, None]
    flat = np.bincount(cells.ravel(), minlength=n_resamples * n_images)
    return flat.reshape(n_resamples, n_images).astype(np.float64)


def measures(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Target change, other change and selectivity of counts [..., 4]; NaN over nothing."""
    orig, changed, other, other_changed = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    target, rest = _share(changed, orig), _share(other_changed, other)
    return {"target_change": target, "other_change": rest, "selectivity": target - rest}


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)


@typed
def intervals(
    per_image: Int64[np.ndarray, "b c 4"],
    min_patches: int,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
) -> dict[str, float]:
    """95% intervals of a report's pooled and macro numbers: `selectivity_lo`, `selectivity_hi`, ...

    Macro means are over the classes that have `min_patches` original patches in the full sample;
    where a resample has none of a class, over the others. Several draws count their patches as
    often, so `min_patches` has to be multiplied too. Empty for fewer than two images: one image
    says nothing of its like.
    """
    if len(per_image) < 2:
        return {}
    is_kept_c = per_image[..., 0].sum(axis=0) >= max(1, min_patches)
    sums_rc4 = resample(per_image, seed, n_resamples)
    macro = measures(sums_rc4[:, is_kept_c])
    values = measures(sums_rc4.sum(axis=1)) | {
        f"macro_{name}": _mean_over_classes(macro[name])
        for name in ("target_change", "other_change")
    }
    bounds = {name: percentiles(drawn_r[:, None])[0] for name, drawn_r in values.items()}
    return {
        f"{name}_{end}": float(value)
        for name, pair in bounds.items()
        for end, value in zip(("lo", "hi"), pair, strict=True)
        if not np.isnan(value)
    }


def _mean_over_classes(values_rc: np.ndarray) -> np.ndarray:
    is_there = ~np.isnan(values_rc)
    return _share(np.where(is_there, values_rc, 0.0).sum(axis=1), is_there.sum(axis=1))


@typed
def percentiles(values_rk: Float64[np.ndarray, "r k"]) -> Float64[np.ndarray, "k 2"]:
    """The middle 95% of each column over the resamples in which it is defined; NaN over none."""
    is_there = ~np.isnan(values_rk)
    bounds = np.full((values_rk.shape[1], 2), np.nan)
    for k, (column, kept) in enumerate(zip(values_rk.T, is_there.T, strict=True)):
        if kept.any():
            bounds[k] = np.percentile(column[kept], _TAILS)
    return bounds


@typed
def row_intervals(
    counts_bk4: Int64[np.ndarray, "b k 4"], seed: int = 0, n_resamples: int = N_RESAMPLES
) -> dict[str, Float64[np.ndarray, "k 2"]]:
    """Lower and upper end of every measure of every row; NaN for fewer than two images."""
    if len(counts_bk4) < 2:
        return {name: np.full((counts_bk4.shape[1], 2), np.nan) for name in MEASURES}
    sums_rk4 = resample(counts_bk4, seed, n_resamples)
    return {name: percentiles(values_rk) for name, values_rk in measures(sums_rk4).items()}


@typed
def differences(
    one_bk4: Int64[np.ndarray, "b k 4"],
    other_bk4: Int64[np.ndarray, "b k 4"],
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
) -> dict[str, list[Difference]]:
    """`one` minus `other` for every measure and row, on the same images in the same order.

    Both are counted on the same resampled images, so what they share cancels. The p value is twice
    the share of resamples on the rarer side of zero, one added to both counts.
    """
    if len(one_bk4) < 2:
        nothing = Difference(*[float("nan")] * 4)
        return {name: [nothing] * one_bk4.shape[1] for name in MEASURES}
    both_bk4 = np.concatenate([one_bk4, other_bk4], axis=1)
    seen = measures(both_bk4.sum(axis=0))
    drawn = measures(resample(both_bk4, seed, n_resamples))
    return {name: _row_differences(seen[name], drawn[name]) for name in MEASURES}


def _row_differences(seen: np.ndarray, drawn: np.ndarray) -> list[Difference]:
    n_rows = len(seen) // 2
    seen_k = seen[:n_rows] - seen[n_rows:]
    drawn_rk = drawn[:, :n_rows] - drawn[:, n_rows:]
    bounds_k2 = percentiles(drawn_rk)
    return [
        Difference(float(value), float(lo), float(hi), two_sided_p(column[~np.isnan(column)]))
        for value, (lo, hi), column in zip(seen_k, bounds_k2, drawn_rk.T, strict=True)
    ]


def two_sided_p(drawn: np.ndarray) -> float:
    """Twice the share of values on the rarer side of zero, one added to both; NaN without any."""
    if not len(drawn):
        return float("nan")
    n_rarer = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return min(1.0, 2 * (1 + n_rarer) / (1 + len(drawn)))


def adjusted(p_values: Sequence[float]) -> list[float]:
    """Benjamini-Hochberg: the smallest false discovery rate at which each p value is kept."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(-p, kind="stable")  # largest first: a value may not exceed those before it
    ranks = np.arange(len(p), 0, -1)
    scaled = np.minimum.accumulate(np.minimum(1.0, p[order] * len(p) / ranks))
    result = np.empty_like(p)
    result[order] = scaled
    return [float(value) for value in result]


def draws_p(value: float, draws: Sequence[float]) -> float:
    """How often chance does as well: (1 + draws of at least the value) / (1 + draws)."""
    return (1 + sum(draw >= value for draw in draws)) / (1 + len(draws))


def null_range(draws: Sequence[float]) -> tuple[float, float, float]:
    """The 2.5%, 50% and 97.5% quantiles of a control's draws."""
    low, middle, high = np.percentile(np.asarray(draws, dtype=np.float64), (2.5, 50, 97.5))
    return float(low), float(middle), float(high)
