"""Cost against work: one size doubled again and again, everything else as it is."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from benchmarks import ours
from benchmarks.sizes import Size
from benchmarks.timing import CLOCKS, timed
from benchmarks.world import World, resized

Run = Callable[[World], Any]


@dataclass(frozen=True)
class Axis:
    """What is doubled, its values, the work that is timed, and each value's world and work."""

    name: str
    values: tuple[int, ...]
    work: str
    prepare: Callable[[World, int], tuple[World, Run]]


@dataclass(frozen=True)
class Cost:
    """Median seconds at each value of an axis."""

    axis: str
    work: str
    values: tuple[int, ...]
    seconds: tuple[float, ...]

    @property
    def exponents(self) -> list[float]:
        """log2 t(2x) / t(x), for each doubling: 1 is proportional, 0 constant."""
        return [math.log2(after / before) for before, after in pairwise(self.seconds)]

    @property
    def share(self) -> float:
        """Of the time at the largest value, what grows with it: b x / (a + b x), least squares."""
        slope, start = statistics.linear_regression(self.values, self.seconds)
        whole = start + slope * self.values[-1]
        return slope * self.values[-1] / whole


def axes(size: Size) -> list[Axis]:
    """All that can be doubled."""
    n, s, l0, k = size.n_images, size.d_sae, size.l0, size.n_edited
    return [
        Axis("images", (n // 2, n, 2 * n), "lookup", _resized("n_images")),
        Axis("classes", (k // 4, k // 2, k), "class protocol", _classes),
        Axis("scales", (1, 2, 4), "auto-feat, label", _scales),
        Axis("latents", (s // 4, s // 2, s), "lookup", _resized("d_sae")),
        Axis("L0", (l0, 2 * l0, 4 * l0), "lookup", _resized("l0")),
    ]


def _resized(name: str) -> Callable[[World, int], tuple[World, Run]]:
    return lambda world, n: (resized(world, **{name: n}), ours.lookup)


def _classes(world: World, n: int) -> tuple[World, Run]:
    groups = world.groups(range(1, n + 1))
    return world, lambda world: ours.run(world, ("auto-feat",), (-2.0,), "class", groups)


def _scales(world: World, n: int) -> tuple[World, Run]:
    groups = world.groups(world.present)
    return world, lambda world: ours.run(world, ("auto-feat",), ours.SCALES[:n], "label", groups)


def measure_axis(axis: Axis, world: World, repeats: int, clock: str) -> Cost:
    """All values of an axis, one after the other, so many times."""
    ready = [axis.prepare(world, value) for value in axis.values]
    taken: list[list[float]] = [[] for _ in ready]
    for _ in range(repeats):
        for seconds, (changed, run) in zip(taken, ready, strict=True):
            seconds.append(timed(run, changed, CLOCKS[clock])[1])
    medians = tuple(statistics.median(seconds) for seconds in taken)
    return Cost(axis.name, axis.work, axis.values, medians)


def to_row(cost: Cost) -> dict[str, Any]:
    """A row for the table and the JSON."""
    return {
        "axis": cost.axis,
        "work": cost.work,
        "values": list(cost.values),
        "seconds": list(cost.seconds),
        "exponents": cost.exponents,
        "share": cost.share,
    }


def measure_axes(
    world: World, repeats: int, clock: str, say: Callable[[str], None]
) -> Sequence[dict[str, Any]]:
    """One row per axis."""
    rows = []
    for axis in axes(world.size):
        say(f"{axis.work} by {axis.name}")
        rows.append(to_row(measure_axis(axis, world, repeats, clock)))
    return rows
