"""Edits by chance: random directions, random latents."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from semseg_cli.engine.edits import ALL_CLASSES, Edit, generator
from semseg_cli.engine.latent_edits import Groups, set_latents
from semseg_cli.errors import SemsegError
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.runs.lookup_csv import Member
from semseg_cli.settings.controls import RandFeat, RandVec

MIN_ALIKE = 10  # a matched random latent is drawn from at least this many
SHARE_ALIKE = 0.05  # and at least this share of the live latents


def rand_vec(pipeline: Pipeline, scale: float, seed: int, draw: int = 0) -> Edit:
    """`scale` times one random unit vector per image, on every patch; one edit for all classes."""
    length = torch.full((1, 1), scale, device=pipeline.device)
    return Edit(RandVec.name, scale, (ALL_CLASSES,), length, None, None, "random", seed, draw)


def rand_feat(
    pipeline: Pipeline,
    method: RandFeat,
    scale: float,
    class_ids: Sequence[int],
    latents: Groups,
    seed: int,
    draw: int = 0,
) -> Edit:
    """One random live latent per class; live latents fired on the statistics split.

    With a match, it is drawn from those most like the class's own latent.

    Raises:
        SemsegError: no latent is live.
    """
    stats = pipeline.latent_stats
    live = torch.nonzero((stats.sparsity > 0) & (stats.top_values > 0)).flatten()
    if not len(live):
        raise SemsegError("No latent of the SAE ever fired: check --sparsity and --top-values.")
    like = {"frequency": stats.sparsity, "max": stats.top_values}.get(method.match)
    drawn = {}
    for class_id in class_ids if like is None else sorted(latents):
        pool = live if like is None else alike(live, like, latents[class_id][0].latent)
        source = generator(seed, RandFeat.name, class_id, draw)
        chosen = int(pool[torch.randint(len(pool), (), generator=source)])
        drawn[class_id] = [Member(chosen)]
    edit = set_latents(pipeline, RandFeat.name, scale, drawn)
    return replace(edit, seed=seed, draw=draw)


def alike(live: Tensor, values: Float[Tensor, " s"], latent: int) -> Tensor:
    """The live latents nearest to a latent by the logarithm of a value, without itself.

    At least MIN_ALIKE and at least SHARE_ALIKE of them, where there are so many.
    """
    others = live[live != latent]
    n_kept = max(MIN_ALIKE, int(SHARE_ALIKE * len(live)))
    tiny = torch.finfo(values.dtype).tiny
    logs = values.clamp(min=tiny).log()
    order = (logs[others] - logs[latent]).abs().argsort(stable=True)
    return others[order[:n_kept]] if len(others) else live
