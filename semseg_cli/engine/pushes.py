"""Constant pushes: what the automatic edit does to a patch on average."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from semseg_cli.data.batches import Batch
from semseg_cli.data.loader import Loader
from semseg_cli.engine.edits import Edit, Intervention
from semseg_cli.engine.latent_edits import Groups
from semseg_cli.engine.readings import coefficients, read
from semseg_cli.errors import SemsegError
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.progress import Progress, silent
from semseg_cli.ranks.collectives import all_sum
from semseg_cli.settings.inputs import Protocol


@dataclass(frozen=True)
class Moves:
    """What an edit does on average: per row its length, its length by that of the residual, and
    the vector; 0 where it edits nothing."""

    lengths_k: Float64[Tensor, " k"]
    ratios_k: Float64[Tensor, " k"]
    mean_kd: Float64[Tensor, "k d"]


@dataclass
class _Sums:
    """Of one edit, over patches: lengths, as they are and by the residuals', coefficients, and how
    many there were of each row."""

    edit: Edit
    lengths_k: Tensor = field(init=False)
    ratios_k: Tensor = field(init=False)
    coefs_kg: Tensor = field(init=False)
    n_k: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.coefs_kg = torch.zeros_like(self.edit.values_kg, dtype=torch.float64)
        self.lengths_k = torch.zeros_like(self.coefs_kg[:, 0])
        self.ratios_k = torch.zeros_like(self.lengths_k)
        self.n_k = torch.zeros_like(self.lengths_k)

    def add(self, coefs_btkg: Tensor, counts_btk: Tensor, residual_bt: Tensor) -> None:
        directions_kgd = self.edit.directions_kgd
        assert directions_kgd is not None, "latents have directions"
        coefs_btkg = coefs_btkg.double()
        # The length of a sum of vectors from their products, without making the sum.
        products_kgh = directions_kgd.double() @ directions_kgd.double().transpose(1, 2)
        squares_btk = torch.einsum("btkg,kgh,btkh->btk", coefs_btkg, products_kgh, coefs_btkg)
        lengths_btk = squares_btk.clamp(min=0).sqrt() * counts_btk
        self.lengths_k += lengths_btk.sum(dim=(0, 1))
        self.ratios_k += (lengths_btk / residual_bt[..., None].clamp(min=1e-12)).sum(dim=(0, 1))
        self.coefs_kg += (coefs_btkg * counts_btk[..., None]).sum(dim=(0, 1))
        self.n_k += counts_btk.sum(dim=(0, 1))

    def means(self) -> Moves:
        all_sum(self.lengths_k, self.ratios_k, self.coefs_kg, self.n_k)
        assert self.edit.directions_kgd is not None
        n_k = self.n_k.clamp(min=1)
        coefs_kg = self.coefs_kg / n_k[:, None]
        mean_kd = torch.einsum("kg,kgd->kd", coefs_kg, self.edit.directions_kgd.double())
        return Moves(self.lengths_k / n_k, self.ratios_k / n_k, mean_kd)


@torch.inference_mode()
def mean_moves(
    pipeline: Pipeline,
    edits: Sequence[Edit],
    loader: Loader,
    protocol: Protocol,
    progress: Progress = silent,
) -> list[Moves]:
    """What each edit does on average.

    The means are over the patches of the loader's images that the protocol edits: all of them in
    the class protocol, those labelled as the row's class in the label protocol. One pass for all
    edits.
    """
    all_sums = [_Sums(edit) for edit in edits]
    interventions = [Intervention((edit,)) for edit in edits]
    advance = progress("length of the edits", len(loader.positions))
    for batch, tokens_bnd in pipeline.residuals(loader):
        patches_btd = pipeline.patches(tokens_bnd)
        readings, residual_bt = read(patches_btd, interventions), patches_btd.double().norm(dim=2)
        for sums in all_sums:
            counts_btk = _edited(sums.edit, batch, protocol)
            sums.add(coefficients(sums.edit, readings), counts_btk, residual_bt)
        advance(len(batch))
    return [sums.means() for sums in all_sums]


def mean_push(moves: Moves) -> Float[Tensor, "k d"]:
    """Per row a vector in the direction of an edit's mean, as long as the edit is on average."""
    return (moves.lengths_k[:, None] * torch.nn.functional.normalize(moves.mean_kd, dim=1)).float()


def _edited(edit: Edit, batch: Batch, protocol: Protocol) -> Float[Tensor, "b t k"]:
    """1 where a row is what the protocol edits a patch with, else 0."""
    class_ids = torch.tensor(edit.class_ids)
    is_own_btk = batch.labels_bt[..., None] == class_ids
    if protocol == "class":
        is_own_btk = torch.ones_like(is_own_btk)
    return is_own_btk.to(edit.values_kg.device).double()


def constant_push(
    method: str, scale: float, latents: Groups, pushes_kd: Float[Tensor, "k d"]
) -> Edit:
    """Each class's push, the same on every patch; classes whose push is zero have no row.

    Raises:
        SemsegError: all of them are zero.
    """
    class_ids = sorted(latents)
    rows = [row for row, push_d in enumerate(pushes_kd) if bool(push_d.any())]
    if not rows:
        raise SemsegError(
            "The automatic edit moves no patch of the lookup split: there is nothing to push by."
        )
    return Edit(
        method=method,
        scale=scale,
        class_ids=tuple(class_ids[row] for row in rows),
        values_kg=pushes_kd.new_ones(len(rows), 1),
        reads=None,
        directions_kgd=pushes_kd[rows][:, None],
        along=tuple(tuple(one.latent for one in latents[class_ids[row]]) for row in rows),
    )
