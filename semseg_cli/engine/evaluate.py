"""THE loop: clean prediction, edited predictions, counts.

The ViT runs once up to the autoencoder's layer for each image; every edit re-runs only the rest.
"""

from collections.abc import Sequence

from jaxtyping import Bool
from torch import Tensor

from semseg_cli.data.loader import Loader
from semseg_cli.engine.counts import Counts
from semseg_cli.engine.edited_batch import clean_state, run_edit
from semseg_cli.engine.edits import Intervention
from semseg_cli.engine.manifold import Manifold
from semseg_cli.engine.measured import Measured
from semseg_cli.engine.outcomes import Outcomes, Reference
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.progress import Progress, silent
from semseg_cli.settings.inputs import Protocol


def evaluate(
    pipeline: Pipeline,
    interventions: Sequence[Intervention],
    loader: Loader,
    protocol: Protocol = "class",
    *,
    n_classes: int,
    class_ids: Sequence[int] | None = None,
    is_wanted: Sequence[Bool[Tensor, "n_images rows"]] | None = None,
    manifold: Manifold | None = None,
    has_outcomes: bool = True,
    progress: Progress = silent,
    description: str = "edits",
) -> list[Measured]:
    """The counts of every intervention over all images of the loader, in one pass over the data.

    Of several ranks each runs its own images; all have the same totals, and the counts per image
    of their own.

    Args:
        pipeline: the frozen parts.
        interventions: what to do; several methods, scales and draws share the pass.
        loader: the images.
        protocol: "class" or "label".
        n_classes: C of the dataset.
        class_ids: the classes counted where one edit serves all (default: all).
        is_wanted: of each intervention which rows to run on which images (class protocol; default:
            all). Outcomes are measured only where all are run.
        manifold: of the clean residuals, for how far off it edits are.
        has_outcomes: whether outcomes are measured; without them an edit costs little but its tail.
        progress: told about clean and edited images.
        description: what the progress calls this.
    """
    own = loader.positions
    counted = class_ids or range(1, n_classes + 1)
    reference = Reference(n_classes) if has_outcomes and is_wanted is None else None
    all_measured = []
    masks = [None] * len(interventions) if is_wanted is None else is_wanted
    for one, wanted in zip(interventions, masks, strict=True):
        counts, outcomes = _new_counts(one, counted, own, n_classes), None
        if reference:
            ids, grid = counts.class_ids.tolist(), pipeline.vit.grid
            outcomes = Outcomes(ids, len(own), grid, reference, own.start, manifold is not None)
        all_measured.append(Measured(one, counts, outcomes, wanted))
    n_tails = sum(_n_tails(measured, own, protocol) for measured in all_measured)
    advance = progress(description, len(own) + n_tails, "passes")
    for batch, tokens_bnd in pipeline.residuals(loader):
        state = clean_state(pipeline, batch, tokens_bnd, interventions, manifold)
        advance(len(batch))
        if reference:
            reference.add(state.clean)
        for measured in all_measured:
            for edit in measured.intervention.draws:
                for n_done in run_edit(pipeline, state, measured, edit, protocol):
                    advance(n_done)
    if reference:
        reference.add_ranks()
    for measured in all_measured:
        measured.add_ranks()
    return all_measured


def _new_counts(
    intervention: Intervention, counted: Sequence[int], own: range, n_classes: int
) -> Counts:
    first = intervention.first
    rows = counted if first.is_shared else first.class_ids
    return Counts(rows, len(own), n_classes, len(intervention.draws), begin=own.start)


def _n_tails(measured: Measured, own: range, protocol: Protocol) -> int:
    """How many edited images go through the rest of the network."""
    n_draws = len(measured.intervention.draws)
    if measured.is_wanted is not None:
        return int(measured.is_wanted[own.start : own.stop].sum()) * n_draws
    per_draw = len(measured.first.class_ids) if protocol == "class" else 1
    return len(own) * per_draw * n_draws
