"""Edits that set latents of the autoencoder."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from semseg_cli.engine.edits import Edit, Latents, group_rows, unscaled
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.runs.lookup_csv import Member

Groups = Mapping[int, Sequence[Member]]  # class id -> the latents that are set together


def set_rows(
    pipeline: Pipeline,
    method: str,
    scale: float,
    rows: Sequence[tuple[int, Sequence[Member]]],
) -> Edit:
    """Each row's latents set to scale x coefficient x their maximum observed activation.

    A class may come in several rows.
    """
    top_values = pipeline.latent_stats.top_values
    ids_kg = group_rows([[m.latent for m in members] for _, members in rows], pad=-1)
    values = [
        [float(unscaled(scale * m.coefficient, float(top_values[m.latent]))) for m in members]
        for _, members in rows
    ]
    width = ids_kg.shape[1]
    values_kg = torch.tensor([[*row, *[0.0] * (width - len(row))] for row in values])
    flat = pipeline.sae.directions(ids_kg.clamp(min=0).flatten())
    directions_kgd = flat.view(*ids_kg.shape, -1) * (ids_kg >= 0).to(flat)[..., None]
    return Edit(
        method=method,
        scale=scale,
        class_ids=tuple(class_id for class_id, _ in rows),
        values_kg=values_kg.reshape(ids_kg.shape).to(pipeline.device),
        reads=Latents(ids_kg.to(pipeline.device), pipeline.sae),
        directions_kgd=directions_kgd,
    )


def set_latents(pipeline: Pipeline, method: str, scale: float, latents: Groups) -> Edit:
    """One row per class."""
    return set_rows(pipeline, method, scale, sorted(latents.items()))


def direction(pipeline: Pipeline, members: Sequence[Member]) -> Float[Tensor, " d"]:
    """The unit vector along which latents that are set together move a patch with rising scale.

    That of one latent is its decoder row; of several, each counts by its maximum and coefficient.
    """
    latents = torch.tensor([member.latent for member in members])
    weights = torch.tensor([member.coefficient for member in members])
    weights = weights * pipeline.latent_stats.top_values[latents].to(weights)
    rows_gd = pipeline.sae.directions(latents)
    return torch.nn.functional.normalize(weights.to(rows_gd) @ rows_gd, dim=0)


def exchanged(
    pipeline: Pipeline, method: str, scale: float, latents: Groups, others: Groups
) -> Edit:
    """The edit that sets each class's latents, turned onto the direction of others.

    Classes without others have no row.
    """
    own = set_latents(pipeline, method, scale, {c: latents[c] for c in latents if c in others})
    towards = torch.stack([direction(pipeline, others[c]) for c in own.class_ids])
    along = tuple(tuple(member.latent for member in others[c]) for c in own.class_ids)
    return replace(own, towards=towards, along=along)
