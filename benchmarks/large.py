"""python -m benchmarks large: the parts of a run on all of ADE20K that do not depend on the ViT.

Random detections of an SAE's latents by class and threshold, counted and ranked; random counts per
image, written, read, and given intervals. Growth of the process, processor seconds, bytes of files.
"""

import argparse
import resource
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from semseg_cli.engine.detections import Detections, rank_latents
from semseg_cli.engine.thresholds import SHARES, Thresholds
from semseg_cli.models.sae.statistics import SaeStats
from semseg_cli.runs.interval_rows import run_entries
from semseg_cli.runs.per_image import COUNTED, read_per_image
from semseg_cli.show.console import show
from semseg_cli.show.tables import Column, Table

N_PATCHES, L0 = 256, 64  # that are counted at once; active latents of each
COLUMNS = (
    Column("part", "part", "text", elastic=True),
    Column("seconds", "processor\nseconds", "ratio"),
    Column("mib", "growth of\npeak, MiB", "count"),
    Column("file_mib", "file, MiB", "ratio"),
)


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser("python -m benchmarks large", description=__doc__)
    made.add_argument("--classes", type=int, default=150)
    made.add_argument("--latents", type=int, default=98_304)
    made.add_argument("--images", type=int, default=2000)
    made.add_argument("--lookup-images", type=int, default=20_210)
    made.add_argument("--steps", type=int, default=50, help="times 256 patches that are counted")
    return made


def large(arguments: Sequence[str]) -> None:
    """Measures and prints."""
    given = parser().parse_args(arguments)
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []

    def measured(part: str, work: Callable[[], Any]) -> Any:
        peak, begin = _peak(), time.process_time()
        found = work()
        seconds = time.process_time() - begin
        size = len(found) if isinstance(found, bytes) else None
        row = {"part": part, "seconds": seconds, "mib": (_peak() - peak) // 2**20}
        rows.append(row | {"file_mib": None if size is None else size / 2**20})
        return found

    counted = measured("counts by class, threshold and latent", lambda: _detections(given))
    names = [f"class {c}" for c in range(1, given.classes + 1)]
    measured(
        "the ten best latents of each class",
        lambda: rank_latents(counted, _statistics(given.latents), names, 0.01, 10),
    )
    data = measured("counts per image, written", lambda: _per_image(given))
    counts = measured("read again", lambda: read_per_image(data))
    measured("intervals of the run", lambda: run_entries(counts.counts_bc4, 50))
    title = (
        f"{given.classes} classes, {given.latents} latents, {given.lookup_images} lookup images, "
        f"{given.images} images"
    )
    note = f"Counted: {given.steps} times {N_PATCHES} patches, {L0} latents active in each."
    show(Table(title, COLUMNS, tuple(rows), (note,)), "table")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _statistics(n_latents: int) -> SaeStats:
    share_s = torch.full((n_latents,), L0 / n_latents, dtype=torch.float64)
    return SaeStats(
        act_mean=torch.zeros(1), act_norm=1.0, sparsity=share_s, top_values=torch.ones(n_latents)
    )


def _detections(given: argparse.Namespace) -> Detections:
    thresholds = Thresholds.shares_of_maximum(SHARES, _statistics(given.latents))
    found = Detections(given.lookup_images, given.classes, given.latents, thresholds)
    draw = torch.Generator().manual_seed(0)
    f_ns = torch.zeros(N_PATCHES, given.latents)
    for _ in range(given.steps):
        latents_nl = torch.randint(given.latents, (N_PATCHES, L0), generator=draw)
        f_ns.zero_().scatter_(1, latents_nl, torch.rand(N_PATCHES, L0, generator=draw))
        found.add(f_ns, torch.randint(given.classes + 1, (N_PATCHES,), generator=draw))
    return found


def _per_image(given: argparse.Namespace) -> bytes:
    draw = np.random.default_rng(0)
    n_rows = given.images * given.classes
    target_n = np.where(draw.random(n_rows) < 0.07, draw.integers(1, 60, n_rows), 0)
    sizes = (target_n, N_PATCHES - target_n)
    changed = [draw.binomial(size, share) for size, share in zip(sizes, (0.7, 0.02), strict=True)]
    columns = {
        "image": np.repeat([f"ADE_val_{i:08d}" for i in range(given.images)], given.classes),
        "class_id": np.tile(np.arange(1, given.classes + 1), given.images),
        **dict(zip(COUNTED, (sizes[0], changed[0], sizes[1], changed[1]), strict=True)),
    }
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue().to_pybytes())
