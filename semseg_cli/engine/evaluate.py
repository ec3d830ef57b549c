"""THE loop: clean prediction, edited predictions, counts.

The ViT runs once up to the autoencoder's layer for each image; every edit re-runs only the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from semseg_cli.data.batches import Batch
from semseg_cli.data.loader import Loader
from semseg_cli.engine.counts import Counts
from semseg_cli.engine.edited_batch import clean_state, run_edit
from semseg_cli.engine.edits import Intervention
from semseg_cli.engine.manifold import Manifold
from semseg_cli.engine.measured import Measured
from semseg_cli.engine.outcomes import Outcomes, Reference
from semseg_cli.engine.tally import Tally, kept
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.progress import Advance, Progress, silent
from semseg_cli.runs.journal import Journal
from semseg_cli.settings.inputs import Protocol

KEPT_PARTS, LEAST_KEPT = 16, 8  # a stopped run loses no more than a part's images, or so many


def evaluate(
    pipeline: Pipeline,
    interventions: Sequence[Intervention],
    loader: Loader,
    protocol: Protocol = "class",
    *,
    n_classes: int,
    class_ids: Sequence[int] | None = None,
    is_wanted: Sequence[Bool[Tensor, "n_images rows"]] | None = None,
    weight_bc: Float64[Tensor, "n_images c"] | None = None,
    manifold: Manifold | None = None,
    has_outcomes: bool = True,
    journal: Journal | None = None,
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
        weight_bc: of each class of the dataset how many images each one stands for, 0 for those
            that are not run; of edits of one class at a time in the class protocol.
        manifold: of the clean residuals, for how far off it edits are.
        has_outcomes: whether outcomes are measured; without them an edit costs little but its tail.
        journal: what of these images was counted before, and where the rest is noted.
        progress: told about clean and edited images.
        description: what the progress calls this.
    """
    counting = _Counting(
        pipeline,
        interventions,
        [None] * len(interventions) if is_wanted is None else is_wanted,
        class_ids or range(1, n_classes + 1),
        n_classes,
        protocol,
        weight_bc if protocol == "class" else None,
        manifold,
        has_outcomes and is_wanted is None,
    )
    whole, n_done = counting.new(loader.positions), 0
    if journal:
        loader = loader.in_parts(KEPT_PARTS, LEAST_KEPT)
    for part in kept(journal, whole, counting.new) if journal else ():
        whole.add(part)
        n_done += len(part.images)
    if n_done:
        description += f", after the {n_done} of {len(loader.positions)} images that were counted"
    loader = loader.after(n_done)
    left = loader.positions
    n_tails = sum(_n_tails(measured, left, protocol) for measured in whole.measured)
    advance = progress(description, len(left) + n_tails, "passes")
    for batch, tokens_bnd in pipeline.residuals(loader) if left else ():
        part = counting.count(batch, tokens_bnd, advance)
        whole.add(part)
        if journal:
            journal.append(part.to_bytes())
    whole.add_ranks()
    return list(whole.measured)


@dataclass(frozen=True)
class _Counting:
    """What is counted, on whatever images: the arguments of `evaluate`."""

    pipeline: Pipeline
    interventions: Sequence[Intervention]
    masks: Sequence[Bool[Tensor, "n_images rows"] | None]
    counted: Sequence[int]
    n_classes: int
    protocol: Protocol
    weight_bc: Tensor | None
    manifold: Manifold | None
    has_outcomes: bool

    def new(self, images: range) -> Tally:
        """Nothing counted yet on these images."""
        reference = Reference(self.n_classes) if self.has_outcomes else None
        pairs = zip(self.interventions, self.masks, strict=True)
        return Tally(images, [self._new(*pair, images, reference) for pair in pairs], reference)

    def _new(
        self,
        one: Intervention,
        is_wanted: Tensor | None,
        images: range,
        reference: Reference | None,
    ) -> Measured:
        rows = self.counted if one.first.is_shared else one.first.class_ids
        weight_bk, outcomes = self._weights(one), None
        factor_k = None if weight_bk is None else weight_bk.amax(dim=0)
        is_wanted = is_wanted if weight_bk is None else weight_bk > 0
        size = (rows, len(images))
        counts = Counts(*size, self.n_classes, len(one.draws), images.start, factor_k)
        if reference:
            grid, is_placed = self.pipeline.vit.grid, self.manifold is not None
            outcomes = Outcomes(*size, grid, reference, images.start, is_placed, factor_k)
        return Measured(one, counts, outcomes, is_wanted)

    def _weights(self, one: Intervention) -> Tensor | None:
        """How many images each one stands for, by row; None where all rows are run on all."""
        if self.weight_bc is None or one.first.is_shared:
            return None
        weight_bk = self.weight_bc[:, torch.tensor(one.first.class_ids) - 1]
        return None if bool((weight_bk == 1).all()) else weight_bk

    def count(self, batch: Batch, tokens_bnd: Tensor, advance: Advance) -> Tally:
        """What the images of a batch give."""
        state = clean_state(self.pipeline, batch, tokens_bnd, self.interventions, self.manifold)
        advance(len(batch))
        begin = int(batch.positions_b[0])
        part = self.new(range(begin, begin + len(batch)))
        if part.reference:
            part.reference.add(state.clean)
        for measured in part.measured:
            for edit in measured.intervention.draws:
                for n_edited in run_edit(self.pipeline, state, measured, edit, self.protocol):
                    advance(n_edited)
        return part


def _n_tails(measured: Measured, images: range, protocol: Protocol) -> int:
    """How many edited images go through the rest of the network."""
    n_draws = len(measured.intervention.draws)
    if measured.is_wanted is not None:
        return int(measured.is_wanted[images.start : images.stop].sum()) * n_draws
    per_draw = len(measured.first.class_ids) if protocol == "class" else 1
    return len(images) * per_draw * n_draws
