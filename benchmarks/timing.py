"""Interleaved times of the three sides in one process."""

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import ours
from benchmarks.rows import Row
from benchmarks.world import World
from semseg_cli.models.residual_cache import ResidualCache

SIDES = ("bare", "ours", "naive")
LONG_SECONDS = 45.0  # what takes longer runs once
CLOCKS: Mapping[str, Callable[[], float]] = {
    "wall": time.perf_counter,
    "cpu": time.process_time,
}
CACHE_BYTES = 2**40


@torch.inference_mode()
def bare(world: World) -> None:
    """One forward pass of the transformers model over the same batches."""
    vit = world.pipeline.vit
    for batch in world.batches:
        vit.model(batch.images_bchw.to(world.device, vit.dtype))


@dataclass(frozen=True)
class Times:
    """Seconds of each side, in the order of the repeats, and how many numbers differ."""

    seconds: Mapping[str, list[float]] = field(default_factory=dict)
    n_differing: int | None = None

    def median(self, side: str) -> float:
        """The median time of a side."""
        return statistics.median(self.seconds[side])

    def ratio(self, above: str, below: str) -> float | None:
        """The median over repeats of one side's time by the other's."""
        pairs = list(zip(self.seconds.get(above, ()), self.seconds.get(below, ()), strict=False))
        return statistics.median(a / b for a, b in pairs) if pairs else None


@contextmanager
def prepared(row: Row, world: World) -> Iterator[World]:
    """The world with the row's classes, and with a cache where the row has one."""
    world = world.with_classes(row.n_present or world.size.few)
    if not (row.fills_cache or row.reads_cache):
        yield world
        return
    with tempfile.TemporaryDirectory() as folder:
        cache = ResidualCache(Path(folder) / "residuals", CACHE_BYTES, "random")
        world = replace(world, pipeline=replace(world.pipeline, cache=cache))
        if row.reads_cache:
            ours.everything(world)
        yield world


def measure(row: Row, world: World, repeats: int, clock: str) -> Times:
    """All sides of a row, one after the other, so many times."""
    runs: dict[str, Callable[[World], Any]] = {"ours": row.ours}
    if row.floor is not None:
        runs = {"bare": bare, **runs}
    if row.naive is not None:
        runs["naive"] = row.naive
    seconds: dict[str, list[float]] = {side: [] for side in runs}
    found: dict[str, Any] = {}
    with prepared(row, world) as world:
        for _ in range(repeats):
            for side, run in runs.items():
                if max(seconds[side], default=0.0) > LONG_SECONDS:
                    continue
                if row.fills_cache:
                    empty_cache(world)
                found[side], taken = timed(run, world, CLOCKS[clock])
                seconds[side].append(taken)
    n_differing = None
    if row.n_differing is not None:
        n_differing = row.n_differing(found["ours"], found["naive"])
    return Times(seconds, n_differing)


def timed(
    run: Callable[[World], Any], world: World, clock: Callable[[], float] = time.perf_counter
) -> tuple[Any, float]:
    """What a side finds, and its seconds."""
    wait(world)
    start = clock()
    found = run(world)
    wait(world)
    return found, clock() - start


def wait(world: World) -> None:
    """Until the GPU has done what it was told."""
    if world.device.type == "cuda":
        torch.cuda.synchronize(world.device)


def empty_cache(world: World) -> None:
    """Forgets all residuals that were kept."""
    if world.pipeline.cache is not None:
        shutil.rmtree(world.pipeline.cache.folder, ignore_errors=True)
