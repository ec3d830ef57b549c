"""The rows of the table: a piece of work, done by the engine and by the obvious procedure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch

from benchmarks import floors, naive, ours
from benchmarks.floors import Floor
from benchmarks.sizes import Size
from benchmarks.world import LABEL_THRESHOLD, World
from semseg_cli.engine.counts import compute_class_results
from semseg_cli.engine.measured import Measured

Run = Callable[[World], Any]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One piece of work.

    Args:
        name: what is done.
        ours: by the engine.
        naive: by the obvious procedure; None where it has no such thing.
        n_differing: how many of their numbers differ.
        floor: what the arithmetic of ours costs for one image; None where it has none.
        naive_times: by what naive's time is multiplied, where it does a part of the work.
        note: says so.
        most_bare: the target, in bare forward passes.
        least_naive: the target, how much faster than naive.
        has_peak: whether memory is measured.
        n_present: classes in the images; None for the size's `few`.
        fills_cache: whether the engine keeps residuals, anew each time.
        reads_cache: whether it finds them kept.
    """

    name: str
    ours: Run
    naive: Run | None = None
    n_differing: Callable[[Any, Any], int] | None = None
    floor: Floor | None = None
    naive_times: float = 1.0
    note: str = ""
    most_bare: float | None = None
    least_naive: float | None = None
    has_peak: bool = True
    n_present: int | None = None
    fills_cache: bool = False
    reads_cache: bool = False


def rows_of(size: Size) -> list[Row]:
    """All rows at a size."""
    rows = _with_targets(size)
    if size.has_targets:
        return rows
    return [replace(row, most_bare=None, least_naive=None) for row in rows]


def _with_targets(size: Size) -> list[Row]:
    one_scale, every_method = ours.SCALES[:1], tuple(ours.METHODS)
    rows = [
        lookup_row(size, size.few, 8.0),
        lookup_row(size, size.many, 50.0),
        label_row(size, ("rand-vec",), one_scale, "rand-vec", 1.15, 2.0),
        label_row(size, ("rand-feat",), one_scale, "rand-feat", 1.15, 2.4),
        label_row(size, ("auto-feat",), one_scale, "auto-feat", 1.15, 3.0),
        label_row(size, every_method, ours.SCALES, "3 methods x 5 scales", 2.4, 25.0),
        class_row(size, size.n_edited),
        class_row(size, size.n_classes),
        peers_row(size),
        everything_row(size),
        again_row(size),
        class_results_row(size),
    ]
    # The others take what these take: peaks depend on neither classes nor methods nor scales.
    at_peak = (rows[0].name, "rand-vec", "auto-feat", "lookup + 3 x 5", rows[-1].name)
    return [replace(row, has_peak=row.name in at_peak) for row in rows]


def lookup_row(size: Size, n_present: int, least_naive: float) -> Row:
    """A lookup of images with so many classes."""
    return Row(
        name=f"lookup, {n_present} classes",
        ours=ours.lookup,
        naive=lambda world: naive.lookup(
            world.pipeline, world.batches, world.present, LABEL_THRESHOLD, size.max_freq
        ),
        n_differing=differing_lookups,
        floor=floors.lookup(size),
        most_bare=1.30,
        least_naive=least_naive,
        n_present=n_present,
    )


def differing_lookups(fast: ours.Looked, slow: naive.Lookup) -> int:
    """Differing counts (TP, A, N), and classes whose best latent or threshold is another."""
    tp = fast.detections.tp
    n_differing = int((tp != slow.tp).sum())
    n_differing += int((tp.sum(dim=0) != (slow.tp + slow.fp)[sorted(slow.best)].amax(dim=0)).sum())
    for class_id in slow.best:
        n_differing += int(fast.detections.n[class_id] != (slow.tp + slow.fn)[class_id, 0, 0])
    chosen = {row.class_id: (row.latent, row.threshold_share) for row in fast.rows if row.chosen}
    return n_differing + sum(chosen.get(c, best) != best for c, best in slow.best.items())


def label_row(
    size: Size,
    methods: Sequence[str],
    scales: Sequence[float],
    name: str,
    most_bare: float,
    least_naive: float,
) -> Row:
    """Methods at scales in the label protocol; naive runs the first scale only."""

    def run(world: World) -> list[Measured]:
        return ours.run(world, methods, scales, "label", world.groups(world.present))

    def run_naively(world: World) -> torch.Tensor:
        groups = world.groups(world.present)
        made = ours.interventions(world, methods, scales[:1], groups)
        class_ids = range(1, size.n_classes + 1)
        return naive.label_counts(
            world.pipeline, [one.first for one in made], world.batches, class_ids
        )

    return Row(
        name=name,
        ours=run,
        naive=run_naively,
        n_differing=lambda fast, slow: differing_changes(fast[:: len(scales)], slow),
        floor=floors.edits(size, len(methods) * len(scales)),
        naive_times=len(scales),
        note=f"naive: 1 scale x {len(scales)}" if len(scales) > 1 else "",
        most_bare=most_bare,
        least_naive=least_naive,
    )


def differing_changes(fast: Sequence[Measured], slow: torch.Tensor) -> int:
    """Differing counts of the classes that both have; naive has the classes from 1 on."""
    n_differing = 0
    for measured, slow_k4 in zip(fast, slow, strict=True):
        counts = measured.counts
        shared = counts.class_ids <= len(slow_k4)
        found_k4 = counts.per_image.sum(dim=0)[shared]
        n_differing += int((found_k4 != slow_k4[counts.class_ids[shared] - 1]).sum())
    return n_differing


def everything_row(size: Size) -> Row:
    """Lookup and all methods and scales, on the same images: one prefix, kept on the way."""
    n_edits = len(ours.METHODS) * len(ours.SCALES)
    return Row(
        name="lookup + 3 x 5",
        ours=ours.everything,
        floor=floors.edits(size, n_edits) + floors.encoder(size, size.d_sae),
        most_bare=2.7,
        fills_cache=True,
    )


def again_row(size: Size) -> Row:
    """The same once more: residuals are read."""
    floor = floors.tails(size, len(ours.METHODS) * len(ours.SCALES))
    return replace(
        everything_row(size),
        name="the same, cached",
        floor=floor,
        most_bare=1.15 * floor.flops / floors.bare(size).flops,
        fills_cache=False,
        reads_cache=True,
    )


def class_row(size: Size, n_edited: int, n_naive: int = 2) -> Row:
    """auto-feat in the class protocol; naive runs its first classes only."""

    def run(world: World) -> list[Measured]:
        groups = world.groups(range(1, n_edited + 1))
        return ours.run(world, ("auto-feat",), ours.SCALES[:1], "class", groups)

    def run_naively(world: World) -> torch.Tensor:
        class_ids = range(1, n_naive + 1)
        groups = world.groups(class_ids)
        (made,) = ours.interventions(world, ("auto-feat",), ours.SCALES[:1], groups)
        found = naive.class_counts(world.pipeline, made.first, world.batches, class_ids)
        return found[None]

    return Row(
        name=f"auto-feat, {n_edited} classes",
        ours=run,
        naive=run_naively,
        n_differing=differing_changes,
        floor=floors.edits(size, n_edited),
        naive_times=n_edited / n_naive,
        note=f"naive: {n_naive} classes x {n_edited / n_naive:.3g}",
        most_bare=1.15 * (1 + n_edited / size.n_blocks),
        least_naive=25.0,
    )


def peers_row(size: Size, n_peers: int = 19) -> Row:
    """Random latents, each of which serves all classes; naive runs the first only."""

    def run_naively(world: World) -> torch.Tensor:
        edit = ours.edits_of_peers(world, n_peers)[0]
        class_ids = range(1, size.n_classes + 1)
        return naive.peer_counts(world.pipeline, edit, world.batches, class_ids)

    def n_differing(fast: Sequence[Measured], slow: torch.Tensor) -> int:
        return int((fast[0].counts.per_draw[0] != slow).sum())

    return Row(
        name=f"{n_peers} peers, all classes",
        ours=lambda world: ours.peers(world, n_peers),
        naive=run_naively,
        n_differing=n_differing,
        floor=floors.edits(size, n_peers),
        naive_times=n_peers,
        note=f"naive: 1 peer x {n_peers}",
        most_bare=1.15 * (1 + n_peers / size.n_blocks),
        has_peak=False,
    )


def class_results_row(size: Size) -> Row:
    """`compute_class_results`, against one pass per pair of classes."""

    @cache
    def preds(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        draw = torch.Generator().manual_seed(3)
        shape = (2, size.n_preds // size.n_patches, size.n_patches)
        orig, mod = torch.randint(1, size.n_classes + 1, shape, generator=draw).to(device)
        return orig, torch.where(mod > size.n_classes // 2, orig, mod)

    return Row(
        name=f"class results, {size.n_preds:,}",
        ours=lambda world: compute_class_results(*preds(world.device), n_classes=size.n_classes),
        naive=lambda world: naive.class_results(*preds(world.device), size.n_classes),
        n_differing=differing_flows,
        least_naive=1000.0,
    )


def differing_flows(fast: Any, slow: torch.Tensor) -> int:
    """Differing cells of the matrix from class to class."""
    found = torch.zeros_like(slow)
    for result in fast:
        row = result.class_id - 1
        found[row, row] = result.n_orig_patches - result.n_changed_patches
        for to, n in result.change_distribution.items():
            found[row, to - 1] = n
    return int((found != slow).sum())
