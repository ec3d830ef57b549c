"""Edits by chance: random directions, random latents."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from semseg_cli.engine.edits import ALL_CLASSES, Edit, generator
from semseg_cli.engine.latent_edits import Groups, exchanged, set_latents
from semseg_cli.errors import SemsegError
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.runs.lookup_csv import Member
from semseg_cli.settings.controls import RandFeat, RandVec

MIN_ALIKE = 10  # a matched random latent is drawn from at least this many
MAX_TRIES = 10_000  # one permutation in three leaves nothing in place
SHARE_ALIKE = 0.05  # and at least this share of the live latents


def rand_vec(pipeline: Pipeline, scale: float, seed: int, draw: int = 0) -> Edit:
    """`scale` times one random unit vector per image, on every patch; one edit for all classes."""
    length = torch.full((1, 1), scale, device=pipeline.device)
    return Edit(RandVec.command, scale, (ALL_CLASSES,), length, None, None, "random", seed, draw)


def live_latents(pipeline: Pipeline) -> Int64[Tensor, " n"]:
    """The latents that fired on the statistics split.

    Raises:
        SemsegError: none did.
    """
    stats = pipeline.latent_stats
    live = torch.nonzero((stats.sparsity > 0) & (stats.top_values > 0)).flatten()
    if not len(live):
        raise SemsegError("No latent of the SAE ever fired: check --sparsity and --top-values.")
    return live


def rand_feat(
    pipeline: Pipeline,
    method: RandFeat,
    scale: float,
    class_ids: Sequence[int],
    latents: Groups,
    seed: int,
    draw: int = 0,
) -> Edit:
    """One random live latent per class: one that fired on the statistics split.

    Matched in norm, the edit is as long, patch by patch, as that of the class's own latents;
    matched otherwise, the latent is drawn from those most like the class's own.

    Raises:
        SemsegError: no latent is live.
    """
    stats, live = pipeline.latent_stats, live_latents(pipeline)
    like = {"frequency": stats.sparsity, "max": stats.top_values}.get(method.match)
    drawn = {}
    for class_id in class_ids if method.match == "none" else sorted(latents):
        own = latents.get(class_id, ())
        pool = _without(live, own) if like is None else alike(live, like, own[0].latent)
        source = generator(seed, "random-feature", class_id, draw)
        chosen = int(pool[torch.randint(len(pool), (), generator=source)])
        drawn[class_id] = [Member(chosen)]
    if method.match == "norm":
        edit = exchanged(pipeline, RandFeat.command, scale, latents, drawn)
    else:
        edit = set_latents(pipeline, RandFeat.command, scale, drawn)
    return replace(edit, seed=seed, draw=draw)


def _without(live: Tensor, own: Sequence[Member]) -> Tensor:
    """The live latents but for a class's own, where there are others."""
    others = live[~torch.isin(live, torch.tensor([member.latent for member in own]).long())]
    return others if len(others) else live


def alike(live: Tensor, values: Float[Tensor, " s"], latent: int) -> Tensor:
    """The other live latents whose values are nearest to a latent's on a log scale.

    SHARE_ALIKE of all live ones, but no fewer than MIN_ALIKE; as many as there are, where that is
    too few. All live latents where there is no other.
    """
    others = live[live != latent]
    n_kept = max(MIN_ALIKE, int(SHARE_ALIKE * len(live)))
    tiny = torch.finfo(values.dtype).tiny
    logs = values.clamp(min=tiny).log()
    order = (logs[others] - logs[latent]).abs().argsort(stable=True)
    return others[order[:n_kept]] if len(others) else live


def other_classes(latents: Groups, seed: int) -> dict[int, Sequence[Member]]:
    """Each class with the latents of another one: a random permutation that leaves none in place.

    A class never gets the latents that it has, even where two classes share them.

    Raises:
        SemsegError: there is no such permutation.
    """
    class_ids = sorted(latents)
    source = generator(seed, "other-class", 0)
    for _ in range(MAX_TRIES if len(class_ids) > 1 else 0):
        order = torch.randperm(len(class_ids), generator=source).tolist()
        found = {c: latents[class_ids[i]] for c, i in zip(class_ids, order, strict=True)}
        if all(_ids(found[c]).isdisjoint(_ids(latents[c])) for c in class_ids):
            return found
    raise SemsegError(
        "No way was found to give each class the latents of another: too few of the classes asked "
        "for have latents of their own. Name more with --class, or try another --max-freq."
    )


def _ids(members: Sequence[Member]) -> set[int]:
    return {member.latent for member in members}
