"""Trying many groups of latents by their own edits, the worse half left behind as images are added.

Successive halving (Jamieson and Talwalkar 2016): all candidates of a class run on a few of its
images, the better half on twice as many, and so on; the last few run on all. Scales share the
passes. It costs what half a candidate more than the last few would, on all images.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from semseg_cli.data.dataset import even_subset
from semseg_cli.data.loader import Loader
from semseg_cli.engine.edits import Intervention
from semseg_cli.engine.evaluate import evaluate
from semseg_cli.engine.latent_edits import set_rows
from semseg_cli.engine.stability import by_block
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.progress import Progress, silent
from semseg_cli.runs.lookup_csv import Member
from semseg_cli.settings.methods import AutoFeat
from semseg_cli.typed import typed

FIRST_IMAGES = 4  # with the class, and as many without: fewer tell nothing
EARLY = 0.5  # what the rounds before the last one cost: so many candidates on all images
Candidate = tuple[int, Sequence[Member]]  # class id, the latents that are set together


@typed
def selection_images(occurs_n: Bool[Tensor, " n_images"], n_most: int) -> Bool[Tensor, " n_images"]:
    """Which images judge a class: at most `n_most` with it, and as many without, evenly spread."""
    having, lacking = (torch.nonzero(where).flatten() for where in (occurs_n, ~occurs_n))
    n_having = min(len(having), n_most)
    chosen = torch.zeros_like(occurs_n)
    chosen[having[even_subset(len(having), n_having)]] = True
    chosen[lacking[even_subset(len(lacking), min(len(lacking), n_having))]] = True
    return chosen


def spread_order(n: int) -> list[int]:
    """All of range(n), so that every beginning of it is evenly spread: by their bits reversed."""
    n_bits = max(1, (n - 1).bit_length())
    return sorted(range(n), key=lambda i: int(f"{i:0{n_bits}b}"[::-1], 2))


@typed
def turns(occurs_n: Bool[Tensor, " n_images"], n_most: int) -> Float64[Tensor, " n_images"]:
    """When each image comes to judge a class, as a share of those that do; inf: never.

    The first few come at once, with the class and without it.
    """
    chosen_n = selection_images(occurs_n, n_most)
    found_n = torch.full(occurs_n.shape, math.inf, dtype=torch.float64)
    for where in (chosen_n & occurs_n, chosen_n & ~occurs_n):
        images = torch.nonzero(where).flatten()
        for place, i in enumerate(spread_order(len(images)), start=1):
            found_n[images[i]] = 0.0 if place <= FIRST_IMAGES else place / len(images)
    return found_n


def rounds(n_candidates: int, n_last: int) -> list[tuple[int, float]]:
    """Per round how many candidates of a class run, up to which share of its images.

    Together they run as many images as `n_last` + `EARLY` candidates would on all; no more than one
    candidate above the last few all run on all.
    """
    if n_candidates <= n_last + 1:
        return [(n_candidates, 1.0)]
    left = [n_candidates]
    while left[-1] > n_last:
        left.append(max(n_last, math.ceil(left[-1] / 2)))
    n_doubled = len(left) - 2  # each of these shares is twice the one before; the last is 1
    n_run = left[0] + sum(n * 2**r for r, n in enumerate(left[1:-1])) - n_last * 2**n_doubled
    shares = [EARLY * 2**r / n_run for r in range(n_doubled + 1)]
    return list(zip(left, [*shares, 1.0], strict=True))


@dataclass
class Tried:
    """What the candidates did at one scale, by blocks of images [blocks, rows, 4] as `Counts` has
    it; `n_images` [rows] that each ran on, `is_last` those that ran on all of their class."""

    counts_gr4: Int64[Tensor, "g rows 4"]
    n_images: Int64[Tensor, " rows"]
    is_last: Bool[Tensor, " rows"]

    @property
    def changes(self) -> Float64[Tensor, "2 rows"]:
        """Target and other change of each row, on the images that it ran on."""
        n_orig, n_changed, n_other, n_other_changed = self.counts_gr4.sum(dim=0).double().unbind(1)
        changes = (n_changed / n_orig.clamp(min=1), n_other_changed / n_other.clamp(min=1))
        return torch.stack(changes)

    @property
    def effects(self) -> Float64[Tensor, " rows"]:
        """Target minus other change of each row."""
        target_r, other_r = self.changes
        return target_r - other_r

    def of(self, rows: Sequence[int]) -> "Tried":
        """Some rows."""
        kept = list(rows)
        return Tried(self.counts_gr4[:, kept], self.n_images[kept], self.is_last[kept])

    def best(self, rows: Sequence[int], n: int) -> list[int]:
        """Of some rows those with the largest effects, in their order; the first of equal ones."""
        effects = self.effects[list(rows)].tolist()
        ranked = sorted(range(len(rows)), key=lambda i: -effects[i])
        return [rows[i] for i in sorted(ranked[:n])]


def try_out(
    pipeline: Pipeline,
    candidates: Sequence[Candidate],
    rows_at: Mapping[float, Sequence[int]],
    turns_nr: Float64[Tensor, "n_images rows"],
    loader_of: Callable[[Sequence[int]], Loader],
    *,
    n_last: int = 2,
    progress: Progress = silent,
) -> dict[float, Tried]:
    """Per scale what the candidates' edits did, the worse of each class on fewer images.

    Args:
        pipeline: the frozen parts.
        candidates: one row each; those of a class stand together.
        rows_at: per scale the rows to try; of equally good ones the first stays.
        turns_nr: when which image judges which row, see `turns`.
        loader_of: batches of the images at some positions.
        n_last: how many of each class run on all of its images.
        progress: told about clean and edited images.
    """
    races = {scale: _races(candidates, rows, n_last) for scale, rows in rows_at.items()}
    used = torch.nonzero(turns_nr.isfinite().any(dim=1)).flatten()
    turns_ur = turns_nr[used]
    tried = {scale: _nothing(turns_ur) for scale in rows_at}
    n_rounds = max(len(race.plan) for of_scale in races.values() for race in of_scale)
    for number in range(n_rounds):
        masks = [_due(races[scale], tried[scale], turns_ur, number) for scale in tried]
        _run_round(pipeline, candidates, tried, masks, used, loader_of, progress)
    for one in tried.values():
        one.is_last = one.n_images == turns_ur.isfinite().sum(dim=0)
    return tried


@dataclass
class _Race:
    """The rows of one class that are left at one scale, and the rounds."""

    rows: list[int]
    plan: list[tuple[int, float]]


def _races(candidates: Sequence[Candidate], rows: Sequence[int], n_last: int) -> list[_Race]:
    groups = itertools.groupby(rows, key=lambda row: candidates[row][0])
    of_classes = [list(own) for _, own in groups]
    return [_Race(own, rounds(len(own), n_last)) for own in of_classes]


def _due(
    races: Sequence[_Race], tried: Tried, turns_ur: Tensor, number: int
) -> Bool[Tensor, "u r"]:
    """Which images run which rows in a round; rows that do not go on are left behind."""
    mask_ur = torch.zeros(turns_ur.shape, dtype=torch.bool)
    for race in races:
        if number < len(race.plan):
            n_kept, share = race.plan[number]
            race.rows = tried.best(race.rows, n_kept)
            since = race.plan[number - 1][1] if number else -1.0
            turns_uk = turns_ur[:, race.rows]
            mask_ur[:, race.rows] = (turns_uk > since) & (turns_uk <= share)
    return mask_ur


def _nothing(turns_ur: Tensor) -> Tried:
    n_images, n_rows = turns_ur.shape
    counts = by_block(torch.zeros(0, n_rows, 4).long(), torch.arange(0), n_images)
    return Tried(counts, torch.zeros(n_rows).long(), torch.zeros(n_rows, dtype=torch.bool))


def _run_round(
    pipeline: Pipeline,
    candidates: Sequence[Candidate],
    tried: dict[float, Tried],
    masks: Sequence[Bool[Tensor, "u rows"]],
    used: Int64[Tensor, " u"],
    loader_of: Callable[[Sequence[int]], Loader],
    progress: Progress,
) -> None:
    """Adds one round to what was tried: the wanted images of each scale, in one pass."""
    images = torch.nonzero(torch.stack(list(masks)).any(dim=0).any(dim=1)).flatten()
    if not len(images):
        return
    loader = loader_of(used[images].tolist())
    all_measured = evaluate(
        pipeline,
        [
            Intervention((set_rows(pipeline, AutoFeat.command, scale, candidates),))
            for scale in tried
        ],
        loader,
        n_classes=len(loader.dataset.class_names),
        is_wanted=[mask_ur[images] for mask_ur in masks],
        progress=progress,
        description="causal selection",
    )
    own = images[loader.positions.start : loader.positions.stop]
    for one, mask_ur, measured in zip(tried.values(), masks, all_measured, strict=True):
        one.counts_gr4 += by_block(measured.counts.per_image, own, len(used))
        one.n_images += mask_ur.sum(dim=0)
