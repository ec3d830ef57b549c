"""Edits along directions that were made with labels, without any autoencoder."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from semseg_cli.engine.edits import Edit, Projections
from semseg_cli.engine.latent_edits import Groups, set_latents
from semseg_cli.engine.mean_differences import Differences
from semseg_cli.errors import SemsegError
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.settings.methods import MeanDiff


def mean_diff(pipeline: Pipeline, scale: float, latents: Groups, differences: Differences) -> Edit:
    """Each class's mean difference, taken out at the length of the automatic edit."""
    auto = set_latents(pipeline, MeanDiff.name, scale, latents)
    units_kd = differences.units_cd[list(auto.class_ids)].to(pipeline.device)
    return replace(auto, towards=units_kd)


def project(pipeline: Pipeline, class_ids: Sequence[int], differences: Differences) -> Edit:
    """Each patch's component along a class's mean difference set to that of the other classes.

    Raises:
        SemsegError: none of the classes has clean patches.
    """
    known = tuple(c for c in sorted(class_ids) if bool(differences.units_cd[c].any()))
    if not known:
        raise SemsegError(
            "No class has clean patches in the lookup split: try more --lookup-images or a smaller "
            "--label-threshold."
        )
    units_kd = differences.units_cd[list(known)].to(pipeline.device)
    offsets_k = (differences.others_cd[list(known)].to(pipeline.device) * units_kd).sum(dim=1)
    return Edit(
        method=MeanDiff.name,
        scale=0.0,
        class_ids=known,
        values_kg=torch.zeros(len(known), 1, device=pipeline.device),
        reads=Projections(units_kd, offsets_k),
        directions_kgd=units_kd[:, None],
    )
