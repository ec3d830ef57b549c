"""THE loop: clean prediction, edited predictions, counts.

The ViT runs once up to the autoencoder's layer for each image; every edit re-runs only the rest.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from semseg_cli.config import Protocol
from semseg_cli.counts import Counts
from semseg_cli.data import Batch, Loader
from semseg_cli.interventions import Edit
from semseg_cli.pipeline import Pipeline
from semseg_cli.progress import Progress, silent
from semseg_cli.results import Report, ratio
from semseg_cli.typed import typed


@dataclass
class Measured:
    """What one edit did: counts, and the summed L2 length of the edit over edited patches.

    `is_wanted` [n_images, rows] says which rows are run on which images (None: all).
    """

    edit: Edit
    counts: Counts
    is_wanted: Bool[Tensor, "n_images rows"] | None = None
    norm_sum: float = 0.0
    n_edited: int = 0

    def add_norm(self, norms: Tensor) -> None:
        """Counts the lengths of some patches' edits."""
        self.norm_sum += float(norms.double().sum())
        self.n_edited += norms.numel()


@dataclass(frozen=True)
class State:
    """One batch at the autoencoder's layer: clean tokens, clean predictions, activations."""

    batch: Batch
    tokens_bnd: Float[Tensor, "b n d"]
    clean_bt: Int[Tensor, "b t"]
    acts: dict[int, Float[Tensor, "b t"]]


def evaluate(
    pipeline: Pipeline,
    edits: Sequence[Edit],
    loader: Loader,
    protocol: Protocol = "class",
    *,
    n_classes: int,
    class_ids: Sequence[int] | None = None,
    is_wanted: Sequence[Bool[Tensor, "n_images rows"]] | None = None,
    rows_per_pass: int = 128,
    progress: Progress = silent,
    description: str = "edits",
) -> list[Measured]:
    """The counts of every edit over all images of the loader, in one pass over the data.

    Args:
        pipeline: the frozen parts.
        edits: what to do; several methods and scales share the pass.
        loader: the images.
        protocol: "class" or "label".
        n_classes: C of the dataset.
        class_ids: the classes counted where one edit serves all (default: all).
        is_wanted: per edit, which rows to run on which images (class protocol; default: all).
        rows_per_pass: how many edited images go through the rest of the network at once.
        progress: told about clean and edited images.
        description: what the progress calls this.
    """
    n_images = len(loader.dataset)
    counted = class_ids or range(1, n_classes + 1)
    all_measured = [
        Measured(edit, Counts(counted if edit.is_shared else edit.class_ids, n_images, n_classes))
        for edit in edits
    ]
    if is_wanted is not None:
        for measured, wanted in zip(all_measured, is_wanted, strict=True):
            measured.is_wanted = wanted
    advance = progress(description, n_images + sum(_n_tails(m, protocol) for m in all_measured))
    read = [edit.latents_k for edit in edits if edit.latents_k is not None]
    latents = sorted({latent for latents_k in read for latent in latents_k.tolist()})
    for batch in loader:
        state = _clean_state(pipeline, batch, latents)
        advance(len(batch))
        for measured in all_measured:
            if protocol == "class" and not measured.edit.is_shared:
                steps = _run_rows(pipeline, state, measured, rows_per_pass)
            else:
                steps = _run_pair(pipeline, state, measured, rows_per_pass)
            for n_done in steps:
                advance(n_done)
    return all_measured


def _n_tails(measured: Measured, protocol: Protocol) -> int:
    """How many edited images go through the rest of the network."""
    if measured.is_wanted is not None:
        return int(measured.is_wanted.sum())
    n_images = len(measured.counts.per_image)
    return n_images * (len(measured.edit.class_ids) if protocol == "class" else 1)


@torch.inference_mode()
def _clean_state(pipeline: Pipeline, batch: Batch, latents: list[int]) -> State:
    tokens_bnd = pipeline.residual(batch.images_bchw)
    columns = pipeline.sae.columns(pipeline.patches(tokens_bnd), torch.tensor(latents).long())
    acts = dict(zip(latents, columns.unbind(dim=-1), strict=True))
    return State(batch, tokens_bnd, pipeline.predict(tokens_bnd), acts)


@torch.inference_mode()
def _coefficients(edit: Edit, state: State) -> Float[Tensor, "b t k"]:
    if edit.latents_k is None:
        b, t = state.clean_bt.shape
        return edit.coefficients(
            torch.zeros(b, t, len(edit.class_ids), device=edit.values_k.device)
        )
    acts = [state.acts[latent] for latent in edit.latents_k.tolist()]
    return edit.coefficients(torch.stack(acts, dim=-1))


@torch.inference_mode()
def _run_rows(
    pipeline: Pipeline, state: State, measured: Measured, rows_per_pass: int
) -> Iterator[int]:
    """The class protocol: every wanted (image, row) goes through the network by itself."""
    edit, batch = measured.edit, state.batch
    coefs_btk = _coefficients(edit, state)
    directions_bkd = edit.directions(batch.indices_b, pipeline.vit.d_model)
    wanted = torch.ones(len(batch), len(edit.class_ids), dtype=torch.bool)
    if measured.is_wanted is not None:
        wanted = measured.is_wanted[batch.positions_b]
    pairs = torch.nonzero(wanted)
    # Nothing may be wanted of a batch, and an empty tensor splits into one empty part.
    for part in pairs.split(rows_per_pass) if len(pairs) else ():
        images_p, rows_p = part.to(pipeline.device).unbind(dim=1)
        coefs_pt = coefs_btk[images_p, :, rows_p]
        delta_ptd = coefs_pt[..., None] * directions_bkd[images_p, rows_p][:, None]
        edited_pt = _predict_edited(pipeline, state.tokens_bnd[images_p], delta_ptd)
        positions_p = batch.positions_b.to(pipeline.device)[images_p]
        measured.counts.add_rows(positions_p, rows_p, state.clean_bt[images_p], edited_pt)
        measured.add_norm(coefs_pt.abs() * edit.lengths_k[rows_p][:, None])
        yield len(part)


@torch.inference_mode()
def _run_pair(
    pipeline: Pipeline, state: State, measured: Measured, rows_per_pass: int
) -> Iterator[int]:
    """One edit of the whole image, all rows counted from it: the label protocol, shared edits."""
    edit, batch = measured.edit, state.batch
    rows_bt = _row_of_patch(edit, batch).to(pipeline.device)
    is_edited_bt = rows_bt >= 0
    rows_bt = rows_bt.clamp(min=0)
    coefs_bt = _coefficients(edit, state).gather(2, rows_bt[..., None])[..., 0] * is_edited_bt
    directions_bkd = edit.directions(batch.indices_b, pipeline.vit.d_model)
    for part in torch.arange(len(batch), device=pipeline.device).split(rows_per_pass):
        directions_ptd = directions_bkd[part[:, None], rows_bt[part]]
        delta_ptd = coefs_bt[part][..., None] * directions_ptd
        edited_pt = _predict_edited(pipeline, state.tokens_bnd[part], delta_ptd)
        positions_p = batch.positions_b.to(pipeline.device)[part]
        measured.counts.add_pair(positions_p, state.clean_bt[part], edited_pt)
        lengths_pt = coefs_bt[part].abs() * edit.lengths_k[rows_bt[part]]
        measured.add_norm(lengths_pt[is_edited_bt[part]])
        yield len(part)


def _row_of_patch(edit: Edit, batch: Batch) -> Int64[Tensor, "b t"]:
    """The edit's row for each patch's own label; -1 where it has none and stays untouched."""
    if edit.is_shared:
        return torch.zeros_like(batch.labels_bt)
    rows = torch.full((256,), -1, dtype=torch.int64)
    rows[torch.tensor(edit.class_ids)] = torch.arange(len(edit.class_ids))
    return rows[batch.labels_bt]


@typed
def _predict_edited(
    pipeline: Pipeline, tokens_pnd: Float[Tensor, "p n d"], delta_ptd: Float[Tensor, "p t d"]
) -> Int[Tensor, "p t"]:
    tokens_pnd = tokens_pnd.clone()
    tokens_pnd[:, pipeline.vit.n_prefix_tokens :] += delta_ptd.to(tokens_pnd.dtype)
    return pipeline.predict(tokens_pnd)


def to_report(
    measured: Measured, class_names: Sequence[str], protocol: Protocol, min_patches: int = 0
) -> Report:
    """The report of an edit's counts."""
    n_images = len(measured.counts.per_image)
    n_per_row = measured.counts.per_image[:, :1, [0, 2]].sum()
    return Report(
        method=measured.edit.method,
        class_results=measured.counts.to_class_results(class_names),
        intervention_scale=float(measured.edit.scale),
        protocol=protocol,
        n_images=n_images,
        n_patches=int(n_per_row),
        edit_norm=ratio(measured.norm_sum, measured.n_edited),
        min_patches=min_patches,
        shared_edit=protocol == "label" or measured.edit.is_shared,
    )
