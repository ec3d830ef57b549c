"""What is asked of intervals and tests, each with what was found."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Int64

from benchmarks.trust import worlds
from benchmarks.trust.coverage import Cell
from benchmarks.trust.draws import ControlErrors
from benchmarks.trust.pairs import Errors
from benchmarks.trust.sampled import Saved
from semseg_cli.runs.inference import (
    Difference,
    class_intervals,
    macro_differences,
    macro_intervals,
    pooled_intervals,
)

Found = TypeVar("Found")


@dataclass(frozen=True)
class Check:
    """A promise, what was found, and whether it is kept."""

    promise: str
    found: str
    is_kept: bool


def of_rates(cells: Sequence[Cell]) -> list[Check]:
    """One class's rate: never low, not absurdly high, no width of zero, not too wide."""
    clustered = [cell for cell in cells if cell.icc > 0]
    compared = [(c.width, c.percentile_width) for c in cells if c.percentile_width is not None]
    width, percentile = np.mean(compared, axis=0)
    return [
        _least("rate: coverage of every cell at least .93", cells, 0.93),
        _at_most(
            "rate: mean coverage at ICC > 0 at most .99",
            float(np.mean([cell.coverage for cell in clustered])),
            0.99,
        ),
        _at_most(
            "rate: mean width at most 2 x the percentile's (200 images, ICC .3)",
            float(width / percentile),
            2.0,
        ),
    ]


def of_intervals(cells: Sequence[Cell]) -> list[Check]:
    """All other intervals, of 10 images and more, and the width of all."""
    wide = [cell for cell in cells if cell.n_images >= 10]
    return [
        _least("selectivity: at least .92", _named(wide, "selectivity"), 0.92),
        _least("macro: at least .92", _named(wide, "macro"), 0.92),
        _least("pooled: at least .92", _named(wide, "pooled"), 0.92),
        _least("A - B: at least .91", _named(wide, "difference"), 0.91),
        Check(
            "no interval of width zero",
            f"{min(cell.least_width for cell in cells):.2g}",
            min(cell.least_width for cell in cells) > 0,
        ),
    ]


def of_flips(errors: Sequence[Errors]) -> list[Check]:
    """The flip test, its inversion, and the star."""
    alike = [one for one in errors if one.setting != "unlike clustering"]
    powered = [one.rejected for one in alike if one.n_images >= 50 and one.rate >= 0.1]
    unlike = [one.starred or 0.0 for one in errors if one.setting == "unlike clustering"]
    n_disagree = sum(one.n_disagree or 0 for one in errors)
    return [
        _at_most("flip: rejects at most .07", max(one.rejected for one in alike), 0.07),
        Check(
            "flip: at least .03 at 50 images and more, rates .1 and more",
            f"{min(powered):.3f}",
            min(powered) >= 0.03,
        ),
        Check("flip: p and its inversion never disagree", str(n_disagree), n_disagree == 0),
        _at_most("star: at most .07 with unlike clustering", max(unlike), 0.07),
    ]


def of_controls(errors: Sequence[ControlErrors]) -> list[Check]:
    """What is printed against a control."""
    one_draw = [one for one in errors if one.n_draws == 1 and one.test == "swap"]
    swaps = [one.by_p for one in one_draw if one.setting == "method is a draw"]
    two_way = [one.by_interval for one in one_draw if one.setting == "method is a draw"]
    others = [max(one.by_p, one.by_interval) for one in errors if one.n_draws > 1]
    return [
        Check(
            "swap, a draw against a draw: .02 to .08 per cell",
            f"{min(swaps):.3f} to {max(swaps):.3f}",
            0.02 <= min(swaps) <= max(swaps) <= 0.08,
        ),
        Check(
            "swap: .03 to .07 on average",
            f"{np.mean(swaps):.3f}",
            bool(0.03 <= np.mean(swaps) <= 0.07),
        ),
        _at_most("two-way t, a draw against a draw: at most .07", max(two_way), 0.07),
        _at_most("several draws: p and interval at most .08", max(others), 0.08),
    ]


def of_samples(cells: Sequence[Cell], saved: Sequence[Saved], n_alarms: float) -> list[Check]:
    """Other change from a sample: as sure as it says, and what it saves."""
    return [
        _least("a sample of other images: at least .92", cells, 0.92),
        _at_most("its share of all images and classes: at most a sixth",
                 float(np.mean([one.run_share for one in saved])), 1 / 6),
        _at_most("its intervals of selectivity, by those of all images: at most 1.15",
                 max(one.width_ratio for one in saved), 1.15),
        _at_most("its other change's width by target change's, median: at most 1",
                 max(one.other_by_target for one in saved), 1.0),
        _at_most("equal runs with one sample: flip rejects at most .07", n_alarms, 0.07),
    ]  # fmt: skip


def of_demo(pairs: Sequence[tuple[str, Difference, Difference]]) -> list[Check]:
    """The same control drawn again on the demo world."""
    n_luck = sum(_is_out(found) for _, found, _ in pairs)
    n_apart = sum(found.interval.excludes_zero for _, found, _ in pairs)
    return [
        Check(
            f"rand-feat against itself: swap, at most 4 of {len(pairs)}", str(n_luck), n_luck <= 4
        ),
        Check(
            f"rand-feat against itself: two-way t, at most 4 of {len(pairs)}",
            str(n_apart),
            n_apart <= 4,
        ),
    ]


def by_images_alone(pairs: Sequence[tuple[str, Difference, Difference]]) -> int:
    """How many pairs a test that holds the drawn latents fixed calls different."""
    return sum(_is_out(found) for *_, found in pairs)


def _is_out(found: Difference) -> bool:
    return found.test.p is not None and found.test.p <= 0.05


def of_size(seed: int) -> list[Check]:
    """Order, seeds and time of 150 classes in 2,000 images."""
    one, other = large(seed)
    order = np.random.default_rng(seed).permutation(len(one))
    seconds, found = _timed(lambda: _all_intervals(one))
    _, shuffled = _timed(lambda: _all_intervals(one[order]))
    test_seconds, tested = _timed(lambda: macro_differences(one, other, seed=seed))
    again = macro_differences(one, other, seed=seed)
    apart = float(np.abs(found - shuffled).max())
    return [
        Check("any order of images: the same to 1e-9", f"{apart:.1g}", apart <= 1e-9),
        Check("the same seed: the same numbers", str(tested == again), tested == again),
        _at_most("seconds for all intervals, 150 classes, 2,000 images", seconds, 0.5),
        _at_most("seconds for the paired test", test_seconds, 2.0),
    ]


def large(seed: int) -> tuple[Int64[np.ndarray, "b c 4"], Int64[np.ndarray, "b c 4"]]:
    """Two runs of 150 classes in 2,000 images."""
    draw = np.random.default_rng(seed)
    orig = worlds.patches(draw, (2000, 150)) * (draw.random((2000, 150)) < 0.2)
    other, z = worlds.IMAGE_PATCHES - orig, draw.normal(size=orig.shape)
    rest = worlds.changed_in(draw, other, z, 0.05, 0.3)
    one, two = (
        np.stack([orig, worlds.changed_in(draw, orig, z, rate, 0.3), other, rest], axis=-1)
        for rate in (0.5, 0.45)
    )
    return one, two


def _all_intervals(counts: Int64[np.ndarray, "b c 4"]) -> np.ndarray:
    classes = [one for found in class_intervals(counts).values() for one in found]
    whole = [*pooled_intervals(counts).values(), *macro_intervals(counts).values()]
    return np.array([(one.lo, one.hi) for one in classes + whole if one.is_printed], dtype=float)


def _timed(run: Callable[[], Found]) -> tuple[float, Found]:
    begin = time.process_time()
    found = run()
    return time.process_time() - begin, found


def _named(cells: Sequence[Cell], name: str) -> list[Cell]:
    return [cell for cell in cells if cell.what.startswith(name)]


def _least(promise: str, cells: Sequence[Cell], least: float) -> Check:
    worst = min(cells, key=lambda cell: cell.coverage)
    where = f"{worst.n_images} images, {worst.setting}, ICC {worst.icc:g}"
    return Check(promise, f"{worst.coverage:.3f} ({where})", worst.coverage >= least)


def _at_most(promise: str, found: float, most: float) -> Check:
    return Check(promise, f"{found:.3f}", found <= most)
