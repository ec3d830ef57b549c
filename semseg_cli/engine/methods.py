"""From a method's settings to edits. The one place that knows what each method does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch

from semseg_cli.engine.edits import Edit, Intervention
from semseg_cli.engine.latent_edits import Groups, set_latents
from semseg_cli.engine.mean_differences import Differences
from semseg_cli.engine.random_edits import rand_feat, rand_vec
from semseg_cli.engine.supervised_edits import mean_diff, project
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.settings.controls import RandFeat, RandVec
from semseg_cli.settings.intervening import Intervening
from semseg_cli.settings.methods import AutoFeat, MeanDiff, Method


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


@edits_of.register
def _rand_feat(
    method: RandFeat, pipeline: Pipeline, scale: float, ingredients: Ingredients
) -> tuple[Edit, ...]:
    classes, seed, latents = ingredients.class_ids, ingredients.seed, ingredients.latents_at(scale)
    return tuple(
        rand_feat(pipeline, method, scale, classes, latents, seed, draw)
        for draw in range(method.n_draws)
    )


@edits_of.register
def _mean_diff(
    method: MeanDiff, pipeline: Pipeline, scale: float, ingredients: Ingredients
) -> tuple[Edit, ...]:
    differences = ingredients.differences
    assert differences is not None, "differences of means are used without being taken"
    if method.match == "project":
        return (project(pipeline, ingredients.class_ids, differences),)
    return (mean_diff(pipeline, scale, ingredients.latents_at(scale), differences),)
