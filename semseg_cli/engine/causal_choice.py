"""The causal rule: of the latents that detect a class best, the one whose edit drives it.

Each candidate is tried by its own edit on images where the class occurs and on as many where it
does not; the largest target minus other change wins, ties go to the better F1.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from semseg_cli.data.dataset import even_subset
from semseg_cli.data.loader import Loader
from semseg_cli.engine.edits import Intervention
from semseg_cli.engine.evaluate import evaluate
from semseg_cli.engine.latent_edits import set_rows
from semseg_cli.engine.measured import Measured
from semseg_cli.engine.stability import with_effect_stability
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.progress import Progress, silent
from semseg_cli.runs.lookup_csv import LookupRow, Member
from semseg_cli.settings.methods import AutoFeat
from semseg_cli.typed import typed


@typed
def selection_images(occurs_n: Bool[Tensor, " n_images"], n_most: int) -> Bool[Tensor, " n_images"]:
    """Which images judge a class: at most `n_most` with it, and as many without, evenly spread."""
    having, lacking = (torch.nonzero(where).flatten() for where in (occurs_n, ~occurs_n))
    n_having = min(len(having), n_most)
    chosen = torch.zeros_like(occurs_n)
    chosen[having[even_subset(len(having), n_having)]] = True
    chosen[lacking[even_subset(len(lacking), min(len(lacking), n_having))]] = True
    return chosen


def wanted_images(
    rows: Sequence[LookupRow], occurs: Bool[Tensor, "n_images labels"], n_most: int
) -> Bool[Tensor, "n_images rows"]:
    """Which images judge which row, given which labels have a clean patch in which image."""
    by_class = {
        row.class_id: selection_images(occurs[:, row.class_id].contiguous(), n_most) for row in rows
    }
    return torch.stack([by_class[row.class_id] for row in rows], dim=1)


def select_causal(
    pipeline: Pipeline,
    rows: Sequence[LookupRow],
    scales: Sequence[float],
    loader: Loader,
    is_wanted: Bool[Tensor, "n_images rows"],
    *,
    n_chosen: int = 1,
    progress: Progress = silent,
) -> dict[float, list[LookupRow]]:
    """Per scale the rows with the measured effect of each, the causal choices marked.

    Args:
        pipeline: the frozen parts.
        rows: candidates, best F1 first within each class.
        scales: at which the latents will be set; the choice is made for each by itself.
        loader: the images that judge some row.
        is_wanted: which of them judge which row.
        n_chosen: latents per class that are marked as chosen.
        progress: told about clean and edited images.
    """
    candidates = [(row.class_id, [Member(row.latent)]) for row in rows]
    edits = [set_rows(pipeline, AutoFeat.name, scale, candidates) for scale in scales]
    all_measured = evaluate(
        pipeline,
        [Intervention((edit,)) for edit in edits],
        loader,
        n_classes=len(loader.dataset.class_names),
        is_wanted=is_wanted,
        progress=progress,
        description="causal selection",
    )
    names = loader.dataset.class_names
    n_images = len(loader.dataset)
    return {
        m.first.scale: with_effect_stability(
            _with_effects(rows, m, names, n_chosen), m.counts, n_images, n_chosen
        )
        for m in all_measured
    }


def _with_effects(
    rows: Sequence[LookupRow], measured: Measured, class_names: Sequence[str], n_chosen: int
) -> list[LookupRow]:
    effects = measured.counts.to_class_results(class_names)
    tried = [
        replace(
            row,
            target_change=effect.target_change,
            other_change=effect.other_change,
            selectivity=effect.selectivity,
        )
        for row, effect in zip(rows, effects, strict=True)
    ]
    # Best first within each class; ties go to the better F1.
    order = sorted(tried, key=lambda row: (row.class_id, -effect_of(row), row.rank))
    by_class = itertools.groupby(order, key=lambda row: row.class_id)
    chosen = {
        (row.class_id, row.latent)
        for _, ranked in by_class
        for row in itertools.islice(ranked, n_chosen)
    }
    return [
        replace(row, chosen=(row.class_id, row.latent) in chosen, runner_up=None) for row in tried
    ]


def effect_of(row: LookupRow) -> float:
    """The measured target minus other change of a row's own edit."""
    assert row.selectivity is not None
    return row.selectivity
