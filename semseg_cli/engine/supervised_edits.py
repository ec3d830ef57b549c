"""Edits along directions that were made with labels, without any autoencoder."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from semseg_cli.engine.edits import Edit, Projections
from semseg_cli.engine.latent_edits import Groups, set_latents
from semseg_cli.errors import SemsegError
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.models.vit.sites import NORM_OUT, added


def move_along(
    pipeline: Pipeline,
    method: str,
    scale: float,
    latents: Groups,
    units_cd: Float[Tensor, "c d"],
) -> Edit:
    """Each class's unit vector, followed (or left, below 0) at the length of the automatic edit."""
    auto = set_latents(pipeline, method, scale, latents)
    return replace(auto, towards=units_cd[list(auto.class_ids)].to(pipeline.device))


def project(
    pipeline: Pipeline,
    method: str,
    class_ids: Sequence[int],
    units_cd: Float[Tensor, "c d"],
    others_cd: Float[Tensor, "c d"],
) -> Edit:
    """Each patch's component along a class's unit vector set to that of the other classes' mean.

    Classes without a direction, or without patches of their own, have no row.

    Raises:
        SemsegError: none of the classes has a row.
    """
    has_row_c = units_cd.any(dim=1).cpu() & others_cd.any(dim=1).cpu()
    known = tuple(c for c in sorted(class_ids) if bool(has_row_c[c]))
    if not known:
        raise SemsegError(
            "No class has clean patches in the lookup split: try more --lookup-images or a smaller "
            "--label-threshold."
        )
    units_kd = units_cd[list(known)].to(pipeline.device)
    offsets_k = (others_cd[list(known)].to(pipeline.device) * units_kd).sum(dim=1)
    return Edit(
        method=method,
        scale=0.0,
        class_ids=known,
        values_kg=torch.zeros(len(known), 1, device=pipeline.device),
        reads=Projections(units_kd, offsets_k),
        directions_kgd=units_kd[:, None],
    )


@torch.inference_mode()
def head_units(pipeline: Pipeline) -> Float[Tensor, "c d"]:
    """Per label 0..C the unit vector along which the head's logit of the class grows most against
    the mean of the other classes' logits; zero for null.

    It is the head's row minus the mean of the other rows, times the gain of the final norm, which
    the head reads through; a layer norm takes means out, so the vector has none. Where the edit
    comes after the norm, neither counts; where a block multiplies what is edited, the factor does.
    Blocks between the edit and the head are left out of account.

    Raises:
        SemsegError: there is a single class.
    """
    rows_cd = pipeline.class_head.weight.double().clone()
    n_classes = len(rows_cd) - 1
    if n_classes < 2:
        raise SemsegError("The head knows one class only: it has no direction against others.")
    rows_cd[1:] -= (rows_cd[1:].sum(dim=0) - rows_cd[1:]) / (n_classes - 1)
    if pipeline.site != NORM_OUT:
        rows_cd = _before_norm(pipeline, rows_cd)
    rows_cd[0] = 0.0
    return nn.functional.normalize(rows_cd, dim=1).float()


def _before_norm(pipeline: Pipeline, rows_cd: Tensor) -> Tensor:
    vit = pipeline.vit
    norm = vit.family.final_norm(vit.model)
    gain = getattr(norm, "weight", None)
    if gain is not None:
        rows_cd = rows_cd * gain.double()
    if isinstance(norm, nn.LayerNorm):
        rows_cd = rows_cd - rows_cd.mean(dim=1, keepdim=True)
    return added(vit.blocks[pipeline.layer - 1], vit.family.parts, pipeline.site, rows_cd)
