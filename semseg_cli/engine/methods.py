"""From a method's settings to edits. The one place that knows what each method does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import singledispatch

from jaxtyping import Float
from torch import Tensor

from semseg_cli.engine.edits import Edit, Intervention
from semseg_cli.engine.latent_edits import Groups, exchanged, set_latents
from semseg_cli.engine.mean_differences import Differences
from semseg_cli.engine.pushes import constant_push
from semseg_cli.engine.random_edits import other_classes, rand_feat, rand_vec
from semseg_cli.engine.supervised_edits import head_units, move_along, project
from semseg_cli.errors import SemsegError
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.settings.controls import NextBest, OtherClass, Push, RandFeat, RandVec
from semseg_cli.settings.intervening import Intervening
from semseg_cli.settings.methods import Ablate, AutoFeat, HeadDirection, Insert, MeanDiff, Method


@dataclass(frozen=True)
class Ingredients:
    """What edits are made from: per scale each class's latents, its next best and its pushes;
    differences of means, classes, seed."""

    latents: Mapping[float, Groups]
    class_ids: Sequence[int]
    seed: int
    differences: Differences | None = None
    name: str | None = None  # of a method whose latents were named by hand
    next_best: Mapping[float, Groups] = field(default_factory=dict)
    pushes: Mapping[float, Tensor] = field(default_factory=dict)  # [k, d], of the classes by id

    def latents_at(self, scale: float) -> Groups:
        """The latents at a scale, of the classes to intervene on."""
        return self._wanted(self.latents.get(scale, {}))

    def next_best_at(self, scale: float) -> Groups:
        """The next best at a scale, of the classes to intervene on."""
        return self._wanted(self.next_best.get(scale, {}))

    def _wanted(self, groups: Groups) -> Groups:
        wanted = set(self.class_ids)
        return {i: group for i, group in groups.items() if i in wanted}


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
    name = ingredients.name or method.command
    return (set_latents(pipeline, name, scale, ingredients.latents_at(scale)),)


@edits_of.register
def _rand_vec(
    method: RandVec, pipeline: Pipeline, scale: float, ingredients: Ingredients
) -> tuple[Edit, ...]:
    seed, draws = ingredients.seed, range(method.n_draws)
    if method.match == "none":
        return tuple(rand_vec(pipeline, scale, seed, draw) for draw in draws)
    auto = set_latents(pipeline, RandVec.command, scale, ingredients.latents_at(scale))
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
def _ablate(
    method: Ablate, pipeline: Pipeline, scale: float, ingredients: Ingredients
) -> tuple[Edit, ...]:
    return (set_latents(pipeline, method.command, scale, ingredients.latents_at(scale)),)


@edits_of.register
def _insert(
    method: Insert, pipeline: Pipeline, scale: float, ingredients: Ingredients
) -> tuple[Edit, ...]:
    edit = set_latents(pipeline, method.command, scale, ingredients.latents_at(scale))
    return (replace(edit, spares_own=True),)


@edits_of.register
def _push(
    method: Push, pipeline: Pipeline, scale: float, ingredients: Ingredients
) -> tuple[Edit, ...]:
    latents = ingredients.latents_at(scale)
    return (constant_push(method.command, scale, latents, ingredients.pushes[scale]),)


@edits_of.register
def _next_best(
    method: NextBest, pipeline: Pipeline, scale: float, ingredients: Ingredients
) -> tuple[Edit, ...]:
    latents, others = ingredients.latents_at(scale), ingredients.next_best_at(scale)
    if not others:
        raise SemsegError(
            "No class has a second latent that detects it: try a larger --top-k or --max-freq."
        )
    return (_in_place(method, pipeline, scale, latents, others),)


@edits_of.register
def _other_class(
    method: OtherClass, pipeline: Pipeline, scale: float, ingredients: Ingredients
) -> tuple[Edit, ...]:
    latents = ingredients.latents_at(scale)
    others = other_classes(latents, ingredients.seed)
    return (_in_place(method, pipeline, scale, latents, others),)


def _in_place(
    method: NextBest | OtherClass, pipeline: Pipeline, scale: float, latents: Groups, others: Groups
) -> Edit:
    """The edit of others in place of a class's latents."""
    if method.match == "norm":
        return exchanged(pipeline, method.command, scale, latents, others)
    return set_latents(pipeline, method.command, scale, others)


@edits_of.register
def _mean_diff(
    method: MeanDiff, pipeline: Pipeline, scale: float, ingredients: Ingredients
) -> tuple[Edit, ...]:
    differences = ingredients.differences
    assert differences is not None, "differences of means are used without being taken"
    return (_directed(method, pipeline, scale, ingredients, differences.units_cd),)


@edits_of.register
def _head_direction(
    method: HeadDirection, pipeline: Pipeline, scale: float, ingredients: Ingredients
) -> tuple[Edit, ...]:
    return (_directed(method, pipeline, scale, ingredients, head_units(pipeline)),)


def _directed(
    method: MeanDiff | HeadDirection,
    pipeline: Pipeline,
    scale: float,
    ingredients: Ingredients,
    units_cd: Float[Tensor, "c d"],
) -> Edit:
    """One direction per class, moved along or projected out."""
    if method.match == "norm":
        return move_along(pipeline, method.command, scale, ingredients.latents_at(scale), units_cd)
    differences = ingredients.differences
    assert differences is not None, "means of other classes are used without being taken"
    return project(pipeline, method.command, ingredients.class_ids, units_cd, differences.others_cd)
