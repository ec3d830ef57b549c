"""The causal rules: of the latents that may drive a class, the one whose own edit does.

Candidates are the best detectors of a class, and with `--select cause` also the latents whose edit
would do most to first order. Each is tried by its own edit on images where the class occurs and on
as many where it does not; the largest target minus other change wins, ties go to the better F1.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from semseg_cli.data.loader import Loader
from semseg_cli.engine.first_order import Falls
from semseg_cli.engine.halving import Tried, try_out, turns
from semseg_cli.engine.stability import with_effect_stability
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.progress import Progress, silent
from semseg_cli.runs.lookup_csv import LookupRow, Member
from semseg_cli.typed import typed


@typed
def turns_of_rows(
    rows: Sequence[LookupRow], occurs: Bool[Tensor, "n_images labels"], n_most: int
) -> Float64[Tensor, "n_images rows"]:
    """When which image judges which row, given which labels have a clean patch in which image."""
    class_ids = dict.fromkeys(row.class_id for row in rows)
    by_class = {c: turns(occurs[:, c].contiguous(), n_most) for c in class_ids}
    return torch.stack([by_class[row.class_id] for row in rows], dim=1)


@dataclass(frozen=True)
class Drives:
    """Per class and candidate latent its place by first-order effect, from 1; 0 for no candidate.

    Classes without a predicted patch have no places.
    """

    places_cs: Int64[Tensor, "c s"]

    @classmethod
    def of(cls, falls: Falls, scale: float, is_candidate_s: Bool[Tensor, " s"]) -> "Drives":
        """The places at a scale; ties go to the smaller latent."""
        effects_cs = falls.effects(scale).masked_fill(~is_candidate_s, -torch.inf)
        order_cs = effects_cs.argsort(dim=1, descending=True, stable=True)
        places = torch.arange(1, effects_cs.shape[1] + 1).expand_as(order_cs)
        places_cs = torch.zeros_like(order_cs).scatter(1, order_cs, places)
        return cls(places_cs * is_candidate_s * (falls.n > 0)[:, None])

    def best(self, class_id: int, n: int) -> list[int]:
        """The first `n` latents of a class."""
        places_s = self.places_cs[class_id - 1]
        latents = torch.nonzero((places_s > 0) & (places_s <= n)).flatten().tolist()
        return sorted(latents, key=lambda latent: int(places_s[latent]))

    def place(self, row: LookupRow) -> int | None:
        """The place of a row's latent; None where there is none."""
        return int(self.places_cs[row.class_id - 1, row.latent]) or None


def select_causal(
    pipeline: Pipeline,
    rows_at: Mapping[float, Sequence[LookupRow]],
    occurs: Bool[Tensor, "n_images labels"],
    loader_of: Callable[[Sequence[int], int], Loader],
    *,
    n_most: int,
    n_chosen: int = 1,
    progress: Progress = silent,
) -> dict[float, list[LookupRow]]:
    """Per scale the rows with the measured effect of each, the causal choices marked.

    Args:
        pipeline: the frozen parts.
        rows_at: per scale the candidates, best F1 first within each class.
        occurs: which labels have a clean patch in which image.
        loader_of: batches of the images at some positions, where so many latents are held.
        n_most: images with a class, and as many without it, at most.
        n_chosen: latents per class that are marked as chosen.
        progress: told about clean and edited images.
    """
    every = {(row.class_id, row.latent): row for rows in rows_at.values() for row in rows}
    order = sorted(every, key=lambda key: (key[0], every[key].rank))
    row_of = {key: i for i, key in enumerate(order)}
    numbers = {
        scale: [row_of[row.class_id, row.latent] for row in rows] for scale, rows in rows_at.items()
    }
    tried = try_out(
        pipeline,
        [(class_id, [Member(latent)]) for class_id, latent in order],
        numbers,
        turns_of_rows([every[key] for key in order], occurs, n_most),
        lambda positions: loader_of(positions, len(order)),
        n_last=n_chosen + 1,
        progress=progress,
    )
    return {
        scale: _with_effects(rows, tried[scale].of(numbers[scale]), n_chosen)
        for scale, rows in rows_at.items()
    }


def _with_effects(rows: Sequence[LookupRow], tried: Tried, n_chosen: int) -> list[LookupRow]:
    """The rows with their effects and the choice; those that ran on all images also know how often
    they are chosen."""
    found = zip(
        *tried.changes.tolist(), tried.effects.tolist(), tried.n_images.tolist(), strict=True
    )
    measured = [
        replace(
            row, target_change=target, other_change=other, selectivity=effect, n_tried=n,
            chosen=False, stability=None, runner_up=None,
        )
        for row, (target, other, effect, n) in zip(rows, found, strict=True)
    ]  # fmt: skip
    last = torch.nonzero(tried.is_last).flatten().tolist()
    chosen = _chosen([measured[i] for i in last], n_chosen)
    judged = with_effect_stability(chosen, tried.counts_gr4[:, last], n_chosen)
    for i, row in zip(last, judged, strict=True):
        measured[i] = row
    return measured


def _chosen(rows: Sequence[LookupRow], n_chosen: int) -> list[LookupRow]:
    """The rows, the best of each class marked; ties go to the better F1."""
    order = sorted(
        range(len(rows)), key=lambda i: (rows[i].class_id, -effect_of(rows[i]), rows[i].rank)
    )
    by_class = itertools.groupby(order, key=lambda i: rows[i].class_id)
    marked = {i for _, ranked in by_class for i in itertools.islice(ranked, n_chosen)}
    return [replace(row, chosen=i in marked) for i, row in enumerate(rows)]


def effect_of(row: LookupRow) -> float:
    """The measured target minus other change of a row's own edit."""
    assert row.selectivity is not None
    return row.selectivity
