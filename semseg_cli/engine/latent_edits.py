"""Edits that set latents of the autoencoder."""

from collections.abc import Mapping, Sequence

import torch

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
        reads=Latents(ids_kg.to(pipeline.device)),
        directions_kgd=directions_kgd,
    )


def set_latents(pipeline: Pipeline, method: str, scale: float, latents: Groups) -> Edit:
    """One row per class."""
    return set_rows(pipeline, method, scale, sorted(latents.items()))
