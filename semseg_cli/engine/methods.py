"""From a method's settings to edits. The one place that knows what each method does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch

import torch
from jaxtyping import Float
from torch import Tensor

from semseg_cli.engine.edits import (
    ALL_CLASSES,
    Edit,
    Intervention,
    Latents,
    Projections,
    generator,
    group_rows,
    unscaled,
)
from semseg_cli.engine.mean_differences import Differences
from semseg_cli.errors import SemsegError
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.runs.lookup_csv import Member
from semseg_cli.settings.controls import RandFeat, RandVec
from semseg_cli.settings.intervening import Intervening
from semseg_cli.settings.methods import AutoFeat, MeanDiff, Method

Groups = Mapping[int, Sequence[Member]]  # class id -> the latents that are set together
MIN_ALIKE = 10  # a matched random latent is drawn from at least this many
SHARE_ALIKE = 0.05  # and at least this share of the live latents


@dataclass(frozen=True)
class Ingredients:
    """What edits are made from: latents per scale, differences of means, classes, seed."""

    latents: Mapping[float, Groups]
    class_ids: Sequence[int]
    seed: int
    differences: Differences | None = None
    name: str | None = None  # of a method whose latents were named by hand

    def latents_at(self, scale: float) -> Groups:
        """The latents at a scale, of the classes to intervene on."""
        wanted = set(self.class_ids)
        return {i: group for i, group in self.latents.get(scale, {}).items() if i in wanted}


def make_interventions(
    method: Method, pipeline: Pipeline, ingredients: Ingredients
) -> list[Intervention]:
    """One intervention per scale."""
    return [Intervention(edits_of(method, pipeline, scale, ingredients)) for scale in method.scale]


@singledispatch
def edits_of(
    method: Intervening, pipeline: Pipeline, scale: float, ingredients: Ingredients
) -> tuple[Edit, ...]:
    """A method's edits at one scale, one per draw: the function registered for its settings."""
    raise NotImplementedError(f"no edits are written for {type(method).__name__}")


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


@edits_of.register
def _auto_feat(
    method: AutoFeat, pipeline: Pipeline, scale: float, ingredients: Ingredients
) -> tuple[Edit, ...]:
    name = ingredients.name or method.name
    return (set_latents(pipeline, name, scale, ingredients.latents_at(scale)),)


@edits_of.register
def _rand_vec(
    method: RandVec, pipeline: Pipeline, scale: float, ingredients: Ingredients
) -> tuple[Edit, ...]:
    seed, draws = ingredients.seed, range(method.n_draws)
    if method.match == "none":
        return tuple(rand_vec(pipeline, scale, seed, draw) for draw in draws)
    auto = set_latents(pipeline, RandVec.name, scale, ingredients.latents_at(scale))
    return tuple(replace(auto, towards="random", seed=seed, draw=draw) for draw in draws)


def rand_vec(pipeline: Pipeline, scale: float, seed: int, draw: int = 0) -> Edit:
    """`scale` times one random unit vector per image, on every patch; one edit for all classes."""
    length = torch.full((1, 1), scale, device=pipeline.device)
    return Edit(RandVec.name, scale, (ALL_CLASSES,), length, None, None, "random", seed, draw)


@edits_of.register
def _rand_feat(
    method: RandFeat, pipeline: Pipeline, scale: float, ingredients: Ingredients
) -> tuple[Edit, ...]:
    classes, seed, latents = ingredients.class_ids, ingredients.seed, ingredients.latents_at(scale)
    return tuple(
        rand_feat(pipeline, method, scale, classes, latents, seed, draw)
        for draw in range(method.n_draws)
    )


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


@edits_of.register
def _mean_diff(
    method: MeanDiff, pipeline: Pipeline, scale: float, ingredients: Ingredients
) -> tuple[Edit, ...]:
    differences = ingredients.differences
    assert differences is not None, "differences of means are used without being taken"
    if method.match == "project":
        return (project(pipeline, ingredients.class_ids, differences),)
    return (mean_diff(pipeline, scale, ingredients.latents_at(scale), differences),)


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
