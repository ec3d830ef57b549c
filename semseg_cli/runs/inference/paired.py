"""Two runs on the same images: how far apart, and whether swapping them image by image shows it."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32, Float64, Real

from semseg_cli.runs.inference.answers import Difference, Test, tested
from semseg_cli.runs.inference.combined import combined_interval, gap_intervals
from semseg_cli.runs.inference.measured import (
    MEASURES,
    Measured,
    macro_classes,
    measure,
    pooled,
)
from semseg_cli.typed import typed

MIN_DIFFER = 6  # units: of five, all flips together give no p below .05
N_FLIPS = 9999
TIE = 1e-5  # of the sum of magnitudes: sums that near are as extreme
_AT_ONCE = 4_000_000  # signs in memory


@typed
def flip_tests(
    unit_bj: Float64[np.ndarray, "b j"],
    seed: int = 0,
    n_flips: int = N_FLIPS,
    units: str = "images",
) -> list[Test]:
    """Whether each column's sum is zero, two-sided: what the units contribute, under random signs.

    Swapping two runs on an image changes the sign of its contribution to their difference.
    p = (1 + as extreme) / (1 + flips) (Phipson & Smyth 2010).
    """
    scale_j = np.maximum(np.abs(unit_bj).sum(axis=0), 1e-300)
    scaled_bj = (unit_bj / scale_j).astype(np.float32)
    seen_j = np.abs(scaled_bj.sum(axis=0, dtype=np.float64)) - TIE
    n_extreme_j = np.zeros(len(scale_j), dtype=np.int64)
    for sign_fb in flip_signs(len(unit_bj), seed, n_flips):
        n_extreme_j += (np.abs(sign_fb @ scaled_bj) >= seen_j).sum(axis=0)
    p_j, n_differ_j = (1 + n_extreme_j) / (1 + n_flips), (unit_bj != 0).sum(axis=0)
    rows = zip(p_j.tolist(), n_differ_j.tolist(), strict=True)
    return [_flip_test(p, n_differ, units) for p, n_differ in rows]


def _flip_test(p: float, n_differ: int, units: str) -> Test:
    if n_differ >= MIN_DIFFER:
        return Test(p, "flip")
    reason = f"identical on all but few {units}, of which it takes {MIN_DIFFER}: {n_differ}"
    return Test(None, "flip", reason)


def flip_signs(n_images: int, seed: int, n_flips: int) -> Iterator[Float32[np.ndarray, "f b"]]:
    """+1 or -1 per flip and image, a part of the flips at a time."""
    draw = np.random.default_rng(seed)
    step = max(1, _AT_ONCE // max(1, n_images))
    for begin in range(0, n_flips, step):
        size = min(step, n_flips - begin), n_images
        yield 1 - 2 * draw.integers(0, 2, size, dtype=np.int8).astype(np.float32)


@typed
def contributions(
    one_bc4: Real[np.ndarray, "b c 4"], other_bc4: Real[np.ndarray, "b c 4"]
) -> dict[str, Float64[np.ndarray, "b c"]]:
    """Per measure what each image adds to the difference of each class: columns sum to it."""
    target, rest = (
        one_bc4[..., i + 1] / np.maximum(one_bc4[..., i].sum(axis=0), 1)
        - other_bc4[..., i + 1] / np.maximum(other_bc4[..., i].sum(axis=0), 1)
        for i in (0, 2)
    )
    return dict(zip(MEASURES, (target, rest, target - rest), strict=True))


@typed
def class_differences(
    one_bc4: Real[np.ndarray, "b c 4"], other_bc4: Real[np.ndarray, "b c 4"], seed: int = 0
) -> dict[str, list[Difference]]:
    """Per measure `one` minus `other` of every class, on the same images in the same order."""
    one, other = measure(one_bc4), measure(other_bc4)
    gaps = {
        "target_change": gap_intervals(one.target, other.target),
        "other_change": gap_intervals(one.other, other.other),
        "selectivity": [
            combined_interval(a.terms("selectivity") + b.terms("selectivity", -1.0))
            for a, b in ((one.of([c]), other.of([c])) for c in range(one_bc4.shape[1]))
        ],
    }
    units = contributions(one_bc4, other_bc4)
    tests = iter(flip_tests(np.concatenate([units[name] for name in MEASURES], axis=1), seed))
    return {name: [tested(gap, next(tests)) for gap in gaps[name]] for name in MEASURES}


@typed
def pooled_differences(
    one_bc4: Real[np.ndarray, "b c 4"], other_bc4: Real[np.ndarray, "b c 4"], seed: int = 0
) -> dict[str, Difference]:
    """Per measure `one` minus `other` of the pooled numbers."""
    found = class_differences(pooled(one_bc4), pooled(other_bc4), seed)
    return {name: of_one for name, (of_one,) in found.items()}


@typed
def macro_differences(
    one_bc4: Real[np.ndarray, "b c 4"],
    other_bc4: Real[np.ndarray, "b c 4"],
    min_patches: int = 1,
    seed: int = 0,
    rates: tuple[Measured, Measured] | None = None,
) -> dict[str, Difference]:
    """Per measure `one` minus `other` of the means over the classes that both have enough of.

    `rates` are those of both sides, where they are known.
    """
    kept_c = macro_classes(one_bc4, min_patches) & macro_classes(other_bc4, min_patches)
    one, other = (side.of(kept_c) for side in rates or (measure(one_bc4), measure(other_bc4)))
    units = contributions(one_bc4[:, kept_c], other_bc4[:, kept_c])
    n_kept = max(int(kept_c.sum()), 1)
    unit_bj = np.stack([units[name].sum(axis=1) / n_kept for name in MEASURES], axis=1)
    gaps = (combined_interval(one.terms(name) + other.terms(name, -1.0)) for name in MEASURES)
    found = map(tested, gaps, flip_tests(unit_bj, seed))
    return dict(zip(MEASURES, found, strict=True))
