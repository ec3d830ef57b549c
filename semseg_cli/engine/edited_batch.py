"""One edit on one batch: what it starts from, and the passes through the rest of the network."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from semseg_cli.data.batches import Batch
from semseg_cli.engine.edits import Edit, Intervention
from semseg_cli.engine.manifold import Course, Ground, Manifold
from semseg_cli.engine.measured import Measured
from semseg_cli.engine.neighbours import is_interior
from semseg_cli.engine.outcomes import Clean, Edited
from semseg_cli.engine.readings import Readings, coefficients, latents_read, read
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.settings.inputs import Protocol
from semseg_cli.typed import typed


@dataclass(frozen=True)
class State:
    """One batch at the autoencoder's layer: clean tokens, what they are, what edits read.

    `ground` is where the patches lie on the manifold (None: it is not known).
    """

    batch: Batch
    tokens_bnd: Float[Tensor, "b n e"]
    clean: Clean
    readings: Readings
    ground: Ground | None

    @property
    def clean_bt(self) -> Int[Tensor, "b t"]:
        """The clean predictions."""
        return self.clean.prediction.classes_bt


def n_latents_held(interventions: Sequence[Intervention]) -> int:
    """How many numbers per patch the edits of a batch hold.

    These are activations of all latents that they read, or coefficients of the largest edit,
    whichever are more.
    """
    n_settings = (edit.values_kg.numel() for one in interventions for edit in one.draws)
    return max(sum(map(len, latents_read(interventions).values())), *n_settings)


@torch.inference_mode()
def clean_state(
    pipeline: Pipeline,
    batch: Batch,
    tokens_bnd: Tensor,
    interventions: Sequence[Intervention],
    manifold: Manifold | None = None,
) -> State:
    """What the edits of a batch start from; the activations are those that some edit reads."""
    patches_btd = pipeline.patches(tokens_bnd)
    clean = _clean(pipeline, batch, tokens_bnd)
    ground = Ground.of(manifold, patches_btd) if manifold else None
    return State(batch, tokens_bnd, clean, read(patches_btd, interventions), ground)


def _clean(pipeline: Pipeline, batch: Batch, tokens_bnd: Tensor) -> Clean:
    prediction = pipeline.predict(tokens_bnd)
    return Clean(
        labels_bt=batch.labels_bt.to(pipeline.device),
        prediction=prediction,
        is_interior_bt=is_interior(prediction.classes_bt, pipeline.vit.grid),
        lengths_bt=pipeline.patches(tokens_bnd).norm(dim=2),
    )


def _course(state: State, edit: Edit, units_bkd: Tensor | None) -> Course | None:
    if state.ground is None:
        return None
    if units_bkd is not None:
        return state.ground.course(units_bkd[:, :, None])
    assert edit.directions_kgd is not None, "an edit without directions has a turn"
    return state.ground.course(edit.directions_kgd[None])


def run_edit(
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
    course = _course(state, edit, units_bkd)
    wanted = torch.ones(len(batch), len(edit.class_ids), dtype=torch.bool)
    if measured.is_wanted is not None:
        wanted = measured.is_wanted[batch.positions_b]
    pairs = torch.nonzero(wanted)
    for part in pairs.split(pipeline.rows_per_pass()) if len(pairs) else ():
        images_p, rows_p = part.to(pipeline.device).unbind(dim=1)
        clean = state.clean.of(images_p)
        coefs_ptg = coefs_btkg[images_p, :, rows_p]
        is_edited_pt = _is_edited(edit, clean.prediction.classes_bt, rows_p)
        if is_edited_pt is not None:
            coefs_ptg = coefs_ptg * is_edited_pt[..., None]
        edited = _edit_part(
            pipeline, state, edit, units_bkd, course, images_p, rows_p[:, None], coefs_ptg
        )
        positions_p = batch.positions_b.to(pipeline.device)[images_p]
        measured.add_rows(positions_p, rows_p, is_edited_pt, clean, edited, edit.draw)
        yield len(part)


def _is_edited(edit: Edit, clean_pt: Tensor, rows_p: Tensor) -> Tensor | None:
    """Which patches the class protocol edits: those not of the row's class, or all (None)."""
    if not edit.spares_own:
        return None
    return clean_pt != torch.tensor(edit.class_ids, device=clean_pt.device)[rows_p][:, None]


@torch.inference_mode()
def _run_pair(pipeline: Pipeline, state: State, measured: Measured, edit: Edit) -> Iterator[int]:
    """One edit of the whole image, all rows counted from it: the label protocol, shared edits."""
    positions_b = state.batch.positions_b.to(pipeline.device)
    rows_bt = row_of_patch(edit, state.batch).to(pipeline.device)
    for part, edited in edited_by_patch(pipeline, state, edit, rows_bt):
        own_pt = None if edit.is_shared else rows_bt[part]
        measured.add_pair(positions_b[part], own_pt, state.clean.of(part), edited, edit.draw)
        yield len(part)


@torch.inference_mode()
def edited_by_patch(
    pipeline: Pipeline, state: State, edit: Edit, rows_bt: Int64[Tensor, "b t"]
) -> Iterator[tuple[Tensor, Edited]]:
    """Images, and what the edit makes of them, pass by pass.

    Each patch gets its own row of the edit; -1 leaves it untouched.
    """
    rows_bt = rows_bt.to(pipeline.device)
    is_edited_bt = rows_bt >= 0
    rows_bt = rows_bt.clamp(min=0)
    coefs_btkg = coefficients(edit, state.readings)
    units_bkd = edit.units(state.batch.indices_b, pipeline.vit.d_model)
    course = _course(state, edit, units_bkd)
    n_most = pipeline.rows_per_pass(n_directions=edit.values_kg.shape[1])
    for part in torch.arange(len(rows_bt), device=pipeline.device).split(n_most):
        own_pt = rows_bt[part]
        images, patches = part[:, None], torch.arange(own_pt.shape[1], device=part.device)
        coefs_ptg = coefs_btkg[images, patches, own_pt] * is_edited_bt[part][..., None]
        yield part, _edit_part(pipeline, state, edit, units_bkd, course, part, own_pt, coefs_ptg)


@typed
def _edit_part(
    pipeline: Pipeline,
    state: State,
    edit: Edit,
    units_bkd: Float[Tensor, "b k d"] | None,
    course: Course | None,
    images_p: Int64[Tensor, " p"],
    rows_pr: Int64[Tensor, "p r"],
    coefs_ptg: Float[Tensor, "p t g"],
) -> Edited:
    """What the edit makes of some images.

    `rows_pr` has one row of the edit per image, or one per patch.
    """
    directions = None if edit.directions_kgd is None else edit.directions_kgd[rows_pr]
    units = None if units_bkd is None else units_bkd[images_p[:, None], rows_pr]
    delta_ptd = edit.delta(coefs_ptg, directions, units)
    norms_pt, quantiles_pt = delta_ptd.norm(dim=2), None
    if course is not None:
        lengths_ptg = edit.lengths(coefs_ptg, directions)
        quantiles_pt = course.quantiles(images_p, rows_pr, lengths_ptg)
    tokens_pnd = _edited(pipeline, state.tokens_bnd, images_p, delta_ptd)
    del directions, units, delta_ptd  # as large as the tokens: the blocks need the room
    prediction = pipeline.predict(tokens_pnd, of_bt=state.clean_bt[images_p])
    return Edited(prediction, norms_pt, quantiles_pt)


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
    tokens_bnd: Float[Tensor, "b n e"],
    images_p: Int64[Tensor, " p"],
    delta_ptd: Float[Tensor, "p t d"],
) -> Float[Tensor, "p n e"]:
    """The tokens of these images with their patches moved; the only copy that an edit needs."""
    tokens_pnd = tokens_bnd[images_p]
    pipeline.vit.patches(tokens_pnd).add_(delta_ptd.to(tokens_pnd.dtype))
    return tokens_pnd
