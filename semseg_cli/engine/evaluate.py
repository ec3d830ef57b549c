"""THE loop: clean prediction, edited predictions, counts.

The ViT runs once up to the autoencoder's layer for each image; every edit re-runs only the rest.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from semseg_cli.data.dataset import Batch, Loader
from semseg_cli.engine.counts import Counts
from semseg_cli.engine.edits import Edit, Intervention
from semseg_cli.engine.readings import Readings, coefficients, latents_read, read
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.progress import Progress, silent
from semseg_cli.ranks.collectives import all_sum
from semseg_cli.runs.bootstrap import intervals
from semseg_cli.runs.report import Report, ratio
from semseg_cli.settings.inputs import Protocol
from semseg_cli.typed import typed


@dataclass
class Measured:
    """What one intervention did: counts, and the summed L2 length of the edit per edited patch.

    `is_wanted` [n_images, rows] says which rows are run on which images (None: all).
    """

    intervention: Intervention
    counts: Counts
    is_wanted: Bool[Tensor, "n_images rows"] | None = None
    norm_sum: float = 0.0
    n_edited: int = 0

    @property
    def first(self) -> Edit:
        """The intervention's first draw."""
        return self.intervention.first

    def add_norm(self, norms: Tensor) -> None:
        """Counts the lengths of some patches' edits."""
        self.norm_sum += float(norms.double().sum())
        self.n_edited += norms.numel()

    def add_ranks(self) -> None:
        """Adds what the other ranks measured, in total; see `Counts.add_ranks`."""
        norm_sum = torch.tensor(self.norm_sum, dtype=torch.float64)
        n_edited = torch.tensor(self.n_edited)
        all_sum(norm_sum, n_edited)
        self.norm_sum, self.n_edited = float(norm_sum), int(n_edited)
        self.counts.add_ranks()


@dataclass(frozen=True)
class State:
    """One batch at the autoencoder's layer: clean tokens, clean predictions, what edits read."""

    batch: Batch
    tokens_bnd: Float[Tensor, "b n d"]
    clean_bt: Int[Tensor, "b t"]
    readings: Readings


def evaluate(
    pipeline: Pipeline,
    interventions: Sequence[Intervention],
    loader: Loader,
    protocol: Protocol = "class",
    *,
    n_classes: int,
    class_ids: Sequence[int] | None = None,
    is_wanted: Bool[Tensor, "n_images rows"] | None = None,
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
        is_wanted: which rows to run on which images (class protocol; default: all).
        progress: told about clean and edited images.
        description: what the progress calls this.
    """
    own = loader.positions
    counted = class_ids or range(1, n_classes + 1)
    all_measured = [
        Measured(one, _new_counts(one, counted, own, n_classes), is_wanted) for one in interventions
    ]
    n_tails = sum(_n_tails(measured, own, protocol) for measured in all_measured)
    advance = progress(description, len(own) + n_tails)
    for batch, tokens_bnd in pipeline.residuals(loader):
        state = clean_state(pipeline, batch, tokens_bnd, interventions)
        advance(len(batch))
        for measured in all_measured:
            for edit in measured.intervention.draws:
                for n_done in _steps(pipeline, state, measured, edit, protocol):
                    advance(n_done)
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
    if measured.is_wanted is not None:
        return int(measured.is_wanted[own.start : own.stop].sum())
    per_draw = len(measured.first.class_ids) if protocol == "class" else 1
    return len(own) * per_draw * len(measured.intervention.draws)


def n_latents_held(interventions: Sequence[Intervention]) -> int:
    """Of how many latents (or settings of an edit) a number is held for each patch of a batch."""
    n_settings = (edit.values_kg.numel() for one in interventions for edit in one.draws)
    return max(sum(map(len, latents_read(interventions).values())), *n_settings)


@torch.inference_mode()
def clean_state(
    pipeline: Pipeline, batch: Batch, tokens_bnd: Tensor, interventions: Sequence[Intervention]
) -> State:
    """What the edits of a batch start from; the activations are those that some edit reads."""
    readings = read(pipeline.patches(tokens_bnd), interventions)
    return State(batch, tokens_bnd, pipeline.predict(tokens_bnd), readings)


def _steps(
    pipeline: Pipeline, state: State, measured: Measured, edit: Edit, protocol: Protocol
) -> Iterator[int]:
    """Runs one edit on one batch; yields how many edited images are done after each pass."""
    if protocol == "class" and not edit.is_shared:
        return _run_rows(pipeline, state, measured, edit)
    return _run_pair(pipeline, state, measured, edit)


@torch.inference_mode()
def _run_rows(pipeline: Pipeline, state: State, measured: Measured, edit: Edit) -> Iterator[int]:
    """The class protocol: every wanted (image, row) goes through the network by itself."""
    batch = state.batch
    coefs_btkg = coefficients(edit, state.readings)
    units_bkd = edit.units(batch.indices_b, pipeline.vit.d_model)
    wanted = torch.ones(len(batch), len(edit.class_ids), dtype=torch.bool)
    if measured.is_wanted is not None:
        wanted = measured.is_wanted[batch.positions_b]
    pairs = torch.nonzero(wanted)
    for part in pairs.split(pipeline.rows_per_pass()) if len(pairs) else ():
        images_p, rows_p = part.to(pipeline.device).unbind(dim=1)
        is_edited_pt = _is_edited(edit, state.clean_bt[images_p], rows_p)
        coefs_ptg = coefs_btkg[images_p, :, rows_p] * is_edited_pt[..., None]
        edited_pt, norms_pt = _predict_part(
            pipeline, state, edit, units_bkd, images_p, rows_p[:, None], coefs_ptg
        )
        positions_p = batch.positions_b.to(pipeline.device)[images_p]
        clean_pt = state.clean_bt[images_p]
        measured.counts.add_rows(positions_p, rows_p, clean_pt, edited_pt, edit.draw)
        measured.add_norm(norms_pt[is_edited_pt])
        yield len(part)


def _is_edited(edit: Edit, clean_pt: Tensor, rows_p: Tensor) -> Tensor:
    """Which patches the class protocol edits: all, or all that are not of the row's class."""
    if not edit.spares_own:
        return torch.ones_like(clean_pt, dtype=torch.bool)
    return clean_pt != torch.tensor(edit.class_ids, device=clean_pt.device)[rows_p][:, None]


@torch.inference_mode()
def _run_pair(pipeline: Pipeline, state: State, measured: Measured, edit: Edit) -> Iterator[int]:
    """One edit of the whole image, all rows counted from it: the label protocol, shared edits."""
    positions_b = state.batch.positions_b.to(pipeline.device)
    rows_bt = row_of_patch(edit, state.batch)
    is_edited_bt = rows_bt.to(pipeline.device) >= 0
    for part, edited_pt, norms_pt in edited_by_patch(pipeline, state, edit, rows_bt):
        measured.counts.add_pair(positions_b[part], state.clean_bt[part], edited_pt, edit.draw)
        measured.add_norm(norms_pt[is_edited_bt[part]])
        yield len(part)


@torch.inference_mode()
def edited_by_patch(
    pipeline: Pipeline, state: State, edit: Edit, rows_bt: Int64[Tensor, "b t"]
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Images, their edited predictions and the length of the edit at each patch, pass by pass.

    Each patch gets its own row of the edit; -1 leaves it untouched.
    """
    rows_bt = rows_bt.to(pipeline.device)
    is_edited_bt = rows_bt >= 0
    rows_bt = rows_bt.clamp(min=0)
    coefs_btkg = coefficients(edit, state.readings)
    units_bkd = edit.units(state.batch.indices_b, pipeline.vit.d_model)
    n_most = pipeline.rows_per_pass(n_directions=edit.values_kg.shape[1])
    for part in torch.arange(len(rows_bt), device=pipeline.device).split(n_most):
        own_pt = rows_bt[part]
        images, patches = part[:, None], torch.arange(own_pt.shape[1], device=part.device)
        coefs_ptg = coefs_btkg[images, patches, own_pt] * is_edited_bt[part][..., None]
        edited_pt, norms_pt = _predict_part(
            pipeline, state, edit, units_bkd, part, own_pt, coefs_ptg
        )
        yield part, edited_pt, norms_pt


@typed
def _predict_part(
    pipeline: Pipeline,
    state: State,
    edit: Edit,
    units_bkd: Float[Tensor, "b k d"] | None,
    images_p: Int64[Tensor, " p"],
    rows_pr: Int64[Tensor, "p r"],
    coefs_ptg: Float[Tensor, "p t g"],
) -> tuple[Int[Tensor, "p t"], Float[Tensor, "p t"]]:
    """Edited predictions of some images, and the length of the edit at each patch.

    `rows_pr` has one row of the edit per image, or one per patch.
    """
    directions = None if edit.directions_kgd is None else edit.directions_kgd[rows_pr]
    units = None if units_bkd is None else units_bkd[images_p[:, None], rows_pr]
    delta_ptd = edit.delta(coefs_ptg, directions, units)
    norms_pt = delta_ptd.norm(dim=2)
    tokens_pnd = _edited(pipeline, state.tokens_bnd, images_p, delta_ptd)
    del directions, units, delta_ptd  # as large as the tokens: the blocks need the room
    return pipeline.predict(tokens_pnd), norms_pt


def row_of_patch(edit: Edit, batch: Batch) -> Int64[Tensor, "b t"]:
    """The edit's row for each patch's own label; -1 where it has none and stays untouched."""
    if edit.is_shared:
        return torch.zeros_like(batch.labels_bt)
    n_labels = 1 + max(int(batch.labels_bt.max()), *edit.class_ids)
    rows = torch.full((n_labels,), -1, dtype=torch.int64)
    rows[torch.tensor(edit.class_ids)] = torch.arange(len(edit.class_ids))
    return rows[batch.labels_bt]


@torch.inference_mode()
@typed
def _edited(
    pipeline: Pipeline,
    tokens_bnd: Float[Tensor, "b n d"],
    images_p: Int64[Tensor, " p"],
    delta_ptd: Float[Tensor, "p t d"],
) -> Float[Tensor, "p n d"]:
    """The tokens of these images with their patches moved; the only copy that an edit needs."""
    tokens_pnd = tokens_bnd[images_p]
    tokens_pnd[:, pipeline.vit.n_prefix_tokens :] += delta_ptd.to(tokens_pnd.dtype)
    return tokens_pnd


def to_report(
    measured: Measured, class_names: Sequence[str], protocol: Protocol, min_patches: int = 0
) -> Report:
    """The report of an edit's counts."""
    n_images = len(measured.counts.per_image)
    n_draws = len(measured.intervention.draws)
    n_per_row = int(measured.counts.per_draw[0, :1, [0, 2]].sum())
    return Report(
        method=measured.first.method,
        class_results=measured.counts.to_class_results(class_names),
        intervention_scale=float(measured.first.scale),
        protocol=protocol,
        n_images=n_images,
        n_patches=n_per_row,
        # A float sum depends on the order of its parts in the last digits; six do not.
        edit_norm=float(f"{ratio(measured.norm_sum, measured.n_edited):.6g}"),
        min_patches=min_patches,
        shared_edit=protocol == "label" or measured.first.is_shared,
        n_draws=n_draws,
        extra=intervals(measured.counts.per_image.numpy(), min_patches * n_draws),
    )
