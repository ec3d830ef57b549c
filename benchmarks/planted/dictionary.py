"""The autoencoder of a planted world: latents that stand for factors, and some for nothing."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from benchmarks.planted.images import draw_classes, draw_factors
from benchmarks.planted.network import BASE, Axes
from benchmarks.planted.plan import Plan, rng
from semseg_cli.models.sae import SparseAutoencoder

N_SAMPLED = 48  # images, to set how often latents that stand for nothing fire


def make_sae(plan: Plan, axes: Axes) -> SparseAutoencoder:
    """Planted latents first, in the order of the plan; then fillers along random directions."""
    draw = rng(plan.seed, "dictionary")
    readers_fd, rows, readers, biases = axes.readers_fd, [], [], []
    for latent in plan.latents:
        written_d = _mixed(latent.writes, axes.factors_fd)
        noise_d = latent.noise * _random_units(draw, 1, axes)[0]
        rows.append(torch.nn.functional.normalize(written_d, dim=0) + noise_d)
        readers.append(_mixed(latent.reads, readers_fd))
        biases.append(-latent.threshold)
    fillers_sd = _random_units(draw, len(plan.fillers), axes)
    read_sd = _without_classes(plan, axes, fillers_sd)
    patches_nf = draw_factors(plan, draw_classes(plan, N_SAMPLED, draw).reshape(-1), draw)
    values_ns = torch.from_numpy(patches_nf).float() @ axes.factors_fd @ read_sd.T
    thresholds = [
        torch.quantile(values_n, 1 - frequency)
        for values_n, frequency in zip(values_ns.T, plan.fillers, strict=True)
    ]
    rows_sd = torch.nn.functional.normalize(torch.cat([torch.stack(rows), fillers_sd]), dim=1)
    reads_sd = torch.cat([torch.stack(readers), read_sd])
    b_enc = torch.tensor([*biases, *(-float(one) for one in thresholds)])
    return SparseAutoencoder(reads_sd.T.contiguous(), b_enc, rows_sd, BASE * axes.base_d)


def _without_classes(plan: Plan, axes: Axes, vectors_sd: Tensor) -> Tensor:
    """The vectors without what they read of factors that belong to classes."""
    basis_fd = torch.linalg.qr(axes.factors_fd[: plan.textures.start].T).Q.T
    return vectors_sd - vectors_sd @ basis_fd.T @ basis_fd


def _mixed(weights: Mapping[int, float], vectors_fd: Tensor) -> Tensor:
    return torch.stack([weight * vectors_fd[factor] for factor, weight in weights.items()]).sum(0)


def _random_units(draw: np.random.Generator, n: int, axes: Axes) -> Tensor:
    drawn = torch.from_numpy(draw.normal(size=(n, len(axes.rest_nd)))).float()
    return torch.nn.functional.normalize(drawn, dim=1) @ axes.rest_nd
