"""Edits: exact values, where random draws belong, and rank one against the full way round."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor
from worlds import World, make_sae, make_tiny_world, members, slow_set_latent

from semseg_cli.engine.edits import (
    ALL_CLASSES,
    Edit,
    Latents,
    generator,
    map_range,
    random_unit_vectors,
    sum_along,
    unscaled,
)
from semseg_cli.engine.latent_edits import set_latents
from semseg_cli.engine.mean_differences import mean_differences, shrunk
from semseg_cli.engine.methods import Ingredients, edits_of, make_interventions
from semseg_cli.engine.random_edits import alike, rand_feat, rand_vec
from semseg_cli.errors import SemsegError
from semseg_cli.experiment.estimate import make_plan
from semseg_cli.experiment.run import run
from semseg_cli.experiment.session import Session
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.models.sae import Threshold, TopK
from semseg_cli.runs.lookup_csv import Member
from semseg_cli.settings.controls import NextBest, OtherClass, RandFeat, RandVec
from semseg_cli.settings.intervening import Dosed, Intervening
from semseg_cli.settings.methods import METHODS, AutoFeat, MeanDiff, Method, is_control

NONLINEARITIES = [Threshold(), Threshold(0.5), TopK(6)]

# --- scales ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "domain", "onto", "expected"),
    [
        (0.0, (0, 10), (0, 1), 0.0),
        (10.0, (0, 10), (0, 1), 1.0),
        (5.0, (0, 10), (20, 40), 30.0),
        (-2.0, (-4, 4), (8, 0), 6.0),
        (3, (0, 4), (0, 1), 0.75),
    ],
)
def test_map_range_is_exact(
    x: float, domain: tuple[float, float], onto: tuple[float, float], expected: float
) -> None:
    assert map_range(x, domain, onto) == expected
    mapped = map_range(torch.tensor([[float(x)]]), domain, onto)
    assert isinstance(mapped, Tensor)
    assert mapped.tolist() == [[expected]]


@given(st.floats(-10, 10), st.floats(0, 1e4))
def test_unscaled_is_in_units_of_the_maximum(scale: float, maximum: float) -> None:
    tolerance = 1e-12 * max(1.0, maximum * 10)
    assert unscaled(scale, maximum) == pytest.approx(scale * maximum, abs=tolerance)


def test_unscaled_at_its_bounds() -> None:
    assert (unscaled(-10.0, 3), unscaled(10.0, 3), unscaled(0.0, 3)) == (-30.0, 30.0, 0.0)
    tensor = unscaled(torch.tensor([-2.0, 0.5]), 4.0)
    assert isinstance(tensor, Tensor)
    assert tensor.tolist() == [-8.0, 2.0]


@pytest.mark.parametrize("outside", [10.5, -11.0, float("nan"), float("inf")])
def test_a_value_outside_the_domain_is_named_with_the_domain(outside: float) -> None:
    sentence = rf"{outside} lies outside the domain \[-10\.0, 10\.0\]"
    for x in (outside, torch.tensor([[0.0, outside]])):
        with pytest.raises(ValueError, match=sentence):
            unscaled(x, 2.0)
    with pytest.raises(ValueError, match=rf"{outside} lies outside the domain \[0, 1\]"):
        map_range(outside, (0, 1), (5, 6))


def test_wrong_types_are_refused() -> None:
    bad: Any = "two"
    with pytest.raises(TypeCheckError):
        unscaled(bad, 1.0)
    with pytest.raises(TypeCheckError):
        map_range(1.0, bad, (0, 1))


# --- random draws --------------------------------------------------------------------------------


def test_a_generator_belongs_to_seed_purpose_and_identity() -> None:
    keys = [(1, "a", 2), (2, "a", 2), (1, "b", 2), (1, "a", 3), (11, "a", 2), (1, "a", 22)]
    drawn = [float(torch.rand((), generator=generator(*key))) for key in keys]
    assert len(set(drawn)) == len(keys)
    assert drawn[0] == float(torch.rand((), generator=generator(*keys[0])))


@given(st.permutations(range(6)), st.integers(0, 5))
@settings(max_examples=20)
def test_each_images_direction_is_its_own_whatever_batch_it_is_in(
    order: list[int], cut: int
) -> None:
    whole = random_unit_vectors(42, torch.arange(6), 8)
    for part in (order[:cut], order[cut:]):
        if part:
            assert torch.equal(random_unit_vectors(42, torch.tensor(part), 8), whole[part])


def test_directions_have_length_one_and_differ() -> None:
    drawn = random_unit_vectors(0, torch.arange(50), 24)
    torch.testing.assert_close(drawn.norm(dim=1), torch.ones(50))
    assert (drawn @ drawn.T).fill_diagonal_(0).abs().max() < 0.95
    assert drawn.mean(dim=0).norm() < 0.5
    assert not torch.equal(drawn, random_unit_vectors(1, torch.arange(50), 24))


def drawn(session: Session, class_ids: list[int], seed: int, draw: int = 0) -> dict[int, list[int]]:
    edit = rand_feat(session.pipeline, RandFeat(match="none"), -2.0, class_ids, {}, seed, draw)
    return edit.latents_by_class


def test_a_classs_random_latent_does_not_depend_on_the_other_classes(tiny: Session) -> None:
    whole = drawn(tiny, [1, 2, 3, 4, 5], seed=7)
    part = drawn(tiny, [4, 2], seed=7)
    assert part == {2: whole[2], 4: whole[4]}
    assert drawn(tiny, [1, 2, 3, 4, 5], seed=8) != whole
    assert drawn(tiny, [1, 2, 3, 4, 5], seed=7, draw=1) != whole


def test_random_latents_are_live_ones(tiny: Session) -> None:
    stats = tiny.pipeline.latent_stats
    alive = {3, 17}
    for latent in set(range(40)) - alive:
        (stats.sparsity if latent % 2 else stats.top_values)[latent] = 0.0
    found = drawn(tiny, list(range(1, 40)), seed=0)
    assert {latent for (latent,) in found.values()} == alive
    stats.sparsity.zero_()
    with pytest.raises(SemsegError, match="No latent of the SAE ever fired"):
        drawn(tiny, [1], seed=0)


# --- edits ---------------------------------------------------------------------------------------


@given(
    st.integers(0, 2**31), st.integers(0, 39), st.floats(-10, 10), st.sampled_from(NONLINEARITIES)
)
@settings(max_examples=60, deadline=None)
def test_the_rank_one_edit_is_encode_set_decode_plus_error(
    seed: int, latent: int, value: float, nonlinearity: Threshold | TopK
) -> None:
    draw = torch.Generator().manual_seed(seed)
    sae = make_sae(nonlinearity=nonlinearity, seed=seed).scaled(
        torch.randn(24, generator=draw), float(torch.rand((), generator=draw)) + 0.5
    )
    x = torch.randn(3, 5, 24, generator=draw) * 3
    k = torch.tensor([latent])
    fast = x + (value - sae.columns(x, k)) * sae.directions(k)
    torch.testing.assert_close(fast, slow_set_latent(sae, x, latent, value), rtol=1e-4, atol=2e-4)


def test_setting_a_latent_uses_its_own_maximum_and_scale(tiny: Session) -> None:
    pipeline = tiny.pipeline
    edit = set_latents(pipeline, "m", -2.0, members({4: 11, 1: 30}))
    assert edit.class_ids == (1, 4)
    assert edit.latents_by_class == {1: [30], 4: [11]}
    maxima = pipeline.latent_stats.top_values[[30, 11]]
    torch.testing.assert_close(edit.values_kg[:, 0], -2 * maxima)
    assert edit.directions_kgd is not None
    directions = pipeline.sae.W_dec[[30, 11]] * pipeline.sae.act_norm
    torch.testing.assert_close(edit.directions_kgd[:, 0], directions)
    assert not edit.is_shared


def test_a_group_is_filled_up_with_nothing(tiny: Session) -> None:
    edit = set_latents(tiny.pipeline, "m", -2.0, members({1: [30], 2: [7, 8]}))
    assert isinstance(edit.reads, Latents)
    assert edit.reads.ids_kg.tolist() == [[30, -1], [7, 8]]
    assert edit.directions_kgd is not None
    assert not edit.directions_kgd[0, 1].any()
    assert edit.latents_by_class == {1: [30], 2: [7, 8]}


def test_a_coefficient_multiplies_the_scale(tiny: Session) -> None:
    edit = set_latents(tiny.pipeline, "m", -2.0, {1: [Member(30, 0.5), Member(7, -1.0)]})
    maxima = tiny.pipeline.latent_stats.top_values[[30, 7]]
    expected = torch.tensor([-1.0, 2.0]) * maxima
    torch.testing.assert_close(edit.values_kg[0], expected)


def test_a_random_vector_is_scale_long_for_every_patch_and_serves_all_classes(
    tiny: Session,
) -> None:
    edit = rand_vec(tiny.pipeline, -30.0, seed=5)
    assert edit.class_ids == (ALL_CLASSES,)
    assert edit.is_shared
    images = torch.tensor([4, 9])
    units = edit.units(images, 24)
    assert units is not None
    delta = edit.delta(edit.values_kg.expand(2, 3, 1), None, units)
    expected = -30.0 * random_unit_vectors(5, images, 24)
    torch.testing.assert_close(delta, expected[:, None].expand(-1, 3, -1))


def added(edit: Edit, acts_btkg: Tensor, row: int, images: Tensor) -> Tensor:
    """What a row of an edit adds to each patch, given the activations it reads."""
    coefs = (edit.values_kg - acts_btkg)[:, :, row]
    directions, units = edit.directions_kgd, edit.units(images, 24)
    assert directions is not None
    turned = None if units is None else units[:, row][:, None]
    return edit.delta(coefs, directions[row].expand(len(images), 1, -1, -1), turned)


def test_matched_random_vectors_move_each_patch_as_far_as_the_automatic_edit(
    tiny: Session,
) -> None:
    latents = members({1: [3], 4: [8, 9]})
    auto = set_latents(tiny.pipeline, "m", -2.0, latents)
    ingredients = Ingredients({-2.0: latents}, [1, 4], seed=5)
    (matched,) = make_interventions(RandVec(match="norm", draws=2), tiny.pipeline, ingredients)
    acts, images = torch.rand(2, 3, 2, 2), torch.tensor([0, 1])
    for edit in matched.draws:
        for row in (0, 1):
            ours, theirs = added(edit, acts, row, images), added(auto, acts, row, images)
            torch.testing.assert_close(ours.norm(dim=-1), theirs.norm(dim=-1))
            units = random_unit_vectors(5, images, 24, edit.draw)[:, None].expand(-1, 3, -1)
            cosines = torch.nn.functional.cosine_similarity(ours, units, dim=-1)
            torch.testing.assert_close(cosines.abs(), torch.ones(2, 3))


# --- differences of means -------------------------------------------------------------------------


def clean_patches(session: Session) -> tuple[Tensor, Tensor]:
    """All clean patches of the lookup split, and their labels."""
    patches, labels = [], []
    for batch in session.loader(session.lookup_dataset):
        is_clean = batch.share_bt >= session.setup.label_threshold
        tokens = session.pipeline.residual(batch.images_bchw)
        patches.append(session.pipeline.patches(tokens)[is_clean])
        labels.append(batch.labels_bt[is_clean])
    return torch.cat(patches), torch.cat(labels)


def test_mean_differences_are_what_they_say(tiny: Session) -> None:
    loader = tiny.loader(tiny.lookup_dataset)
    found = mean_differences(tiny.pipeline, loader, tiny.setup.label_threshold)
    patches, labels = clean_patches(tiny)
    for class_id in range(6):
        own, others = patches[labels == class_id], patches[labels != class_id]
        if not len(own):
            assert not found.units_cd[class_id].any()
            continue
        unit = torch.nn.functional.normalize(own.mean(dim=0) - others.mean(dim=0), dim=0)
        torch.testing.assert_close(found.units_cd[class_id], unit, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.others_cd[class_id], others.mean(dim=0))


def test_linear_discriminants_are_what_they_say(tiny: Session) -> None:
    loader, threshold = tiny.loader(tiny.lookup_dataset), tiny.setup.label_threshold
    found = mean_differences(tiny.pipeline, loader, threshold, direction="lda")
    plain = mean_differences(tiny.pipeline, loader, threshold)
    torch.testing.assert_close(found.others_cd, plain.others_cd)
    patches, labels = clean_patches(tiny)
    patches, n = patches.double(), len(patches)
    within = torch.zeros(24, 24, dtype=torch.float64)
    for x, label in zip(patches, labels, strict=True):
        gap = x - patches[labels == label].mean(dim=0)
        within += torch.outer(gap, gap) / n
    for class_id in labels.unique().tolist():
        own, others = patches[labels == class_id], patches[labels != class_id]
        gap = own.mean(dim=0) - others.mean(dim=0)
        expected = torch.nn.functional.normalize(torch.linalg.inv(shrunk(within, n)) @ gap, dim=0)
        torch.testing.assert_close(
            found.units_cd[class_id].double(), expected, rtol=1e-3, atol=1e-4
        )


def test_a_covariance_is_drawn_towards_the_identity_the_less_the_more_is_known() -> None:
    spread = torch.diag(torch.tensor([9.0, 1.0, 0.0], dtype=torch.float64))
    few, many = shrunk(spread, 20), shrunk(spread, 10**9)
    assert float(few.trace()) == pytest.approx(10.0)
    assert float(few[2, 2]) > float(many[2, 2]) > 0
    torch.testing.assert_close(many, spread, rtol=0.0, atol=1e-7)
    same = torch.eye(3, dtype=torch.float64) * 2
    torch.testing.assert_close(shrunk(same, 5), same)
    # By hand: the trace is 10, that of the square 82, and d is 3.
    weight = ((1 - 2 / 3) * 82 + 100) / ((20 + 1 - 2 / 3) * (82 - 100 / 3))
    assert float(few[2, 2]) == pytest.approx(weight * 10 / 3)


def test_a_projection_leaves_the_component_of_the_other_classes(tiny: Session) -> None:
    loader = tiny.loader(tiny.lookup_dataset)
    differences = mean_differences(tiny.pipeline, loader, 0.9)
    ingredients = Ingredients({-2.0: members({1: 3, 4: 8})}, [1, 4], 0, differences)
    (made,) = make_interventions(MeanDiff(match="project"), tiny.pipeline, ingredients)
    edit = made.first
    assert edit.scale == 0.0
    assert edit.reads is not None
    assert not isinstance(edit.reads, Latents)
    x, images = torch.randn(2, 3, 24) * 5, torch.tensor([0, 1])
    for row, class_id in enumerate(edit.class_ids):
        moved = x + added(edit, edit.reads.read(x), row, images)
        unit, others = differences.units_cd[class_id], differences.others_cd[class_id]
        torch.testing.assert_close(moved @ unit, (others @ unit).expand(2, 3), rtol=1e-4, atol=1e-4)
        across = torch.eye(24) - torch.outer(unit, unit)
        torch.testing.assert_close(moved @ across, x @ across, rtol=1e-4, atol=1e-4)


def test_a_mean_difference_is_taken_out_at_the_automatic_edits_length(tiny: Session) -> None:
    loader = tiny.loader(tiny.lookup_dataset)
    differences = mean_differences(tiny.pipeline, loader, 0.9)
    latents = members({1: 3})
    ingredients = Ingredients({-2.0: latents}, [1], 0, differences)
    (made,) = make_interventions(MeanDiff(), tiny.pipeline, ingredients)
    auto = set_latents(tiny.pipeline, "m", -2.0, latents)
    acts, images = torch.rand(2, 3, 1, 1), torch.tensor([0, 1])
    length = added(auto, acts, 0, images).norm(dim=-1, keepdim=True)
    expected = -length * differences.units_cd[1]
    torch.testing.assert_close(added(made.first, acts, 0, images), expected)


# --- methods --------------------------------------------------------------------------------------


@pytest.mark.parametrize("match", ["frequency", "max"])
def test_a_matched_random_latent_is_like_the_classs_own(tiny: Session, match: Any) -> None:
    stats = tiny.pipeline.latent_stats
    values = {"frequency": stats.sparsity, "max": stats.top_values}[match]
    values[:] = torch.arange(1.0, 41.0)
    stats.sparsity.clamp_(min=1e-3)
    stats.top_values.clamp_(min=1e-3)
    found = {
        latent
        for draw in range(200)
        for (latent,) in rand_feat(
            tiny.pipeline, RandFeat(match=match), -2.0, [1], members({1: 30}), 0, draw
        ).latents_by_class.values()
    }
    # Values 26 to 36 are the ten nearest to 31 by ratio; latent i has the value i + 1.
    assert found == {25, 26, 27, 28, 29, 31, 32, 33, 34, 35}


def test_alike_latents_do_not_hold_the_latent_itself() -> None:
    live = torch.tensor([2, 5, 7])
    assert sorted(alike(live, torch.ones(9), 5).tolist()) == [2, 7]
    assert alike(torch.tensor([5]), torch.ones(9), 5).tolist() == [5]


EVERY = [
    *METHODS,
    lambda **kwargs: RandFeat(match="none", **kwargs),
    lambda **kwargs: NextBest(match="none", **kwargs),
    lambda **kwargs: OtherClass(match="none", **kwargs),
    lambda **kwargs: RandVec(match="norm", **kwargs),
    lambda **kwargs: RandFeat(match="max", **kwargs),
]


FIXED = [method for method in METHODS if method().fixed_scale is not None]


@pytest.mark.parametrize("make", EVERY)
def test_every_method_makes_one_intervention_per_scale(tiny: Session, make: Any) -> None:
    method: Method = make() if make in FIXED else make(scale=(-1.0, 3.0))
    latents = {scale: members({1: 2, 3: 4}) for scale in method.scale}
    differences = mean_differences(tiny.pipeline, tiny.loader(tiny.lookup_dataset), 0.9)
    ingredients = Ingredients(
        latents if method.needs_latents else {},
        [1, 2, 3],
        0,
        differences,
        next_best={scale: members({1: 6, 3: 7}) for scale in method.scale},
        pushes={scale: torch.ones(2, 24) for scale in method.scale},
    )
    made = make_interventions(method, tiny.pipeline, ingredients)
    assert [one.first.scale for one in made] == list(method.scale)
    assert {one.first.method for one in made} == {method.command}


def test_draws_are_independent(tiny: Session) -> None:
    for method in (RandVec(draws=3), RandFeat(match="none", draws=3)):
        (made,) = make_interventions(method, tiny.pipeline, Ingredients({}, [1, 2, 3], seed=0))
        assert [edit.draw for edit in made.draws] == [0, 1, 2]
    first, second, _ = made.draws
    assert first.latents_by_class != second.latents_by_class


def test_only_wanted_classes_are_edited(tiny: Session) -> None:
    ingredients = Ingredients({-2.0: members({1: 2, 3: 4})}, [3], seed=0)
    (made,) = make_interventions(AutoFeat(), tiny.pipeline, ingredients)
    assert made.first.class_ids == (3,)


def test_controls_are_the_methods_that_say_so_and_null_saes() -> None:
    said = {method for method in METHODS if (method.__doc__ or "").startswith("Control:")}
    assert {method for method in METHODS if is_control(method())} == said != set()
    assert is_control(AutoFeat(control="pca"))


def test_what_each_method_needs() -> None:
    assert not RandVec().needs_statistics
    assert RandFeat().needs_statistics
    assert not RandFeat(match="none").needs_latents
    assert RandFeat().needs_latents
    assert RandFeat(match="max").needs_latents
    assert MeanDiff().needs_latents
    assert not MeanDiff(match="project").needs_latents
    assert AutoFeat().needs_latents
    assert RandVec(match="norm").needs_latents


@dataclass(frozen=True, kw_only=True)
class Nudge(Dosed):
    """A method that only this test knows."""

    command: ClassVar[str] = "nudge"

    @property
    def needs_latents(self) -> bool:
        return False


@edits_of.register
def _nudge(
    method: Nudge, pipeline: Pipeline, scale: float, ingredients: Ingredients
) -> tuple[Edit, ...]:
    return (
        replace(rand_vec(pipeline, 10.0, ingredients.seed), method=method.command, scale=scale),
    )


def test_a_settings_class_and_a_function_make_a_method(tiny: Session) -> None:
    method: Any = Nudge(scale=(1.0, 2.0))
    outcomes = run(tiny, [method], {})
    assert [o.report.method for o in outcomes] == [method.command] * 2
    assert all(outcome.lookup_csv is None for outcome in outcomes)
    assert make_plan(tiny, [method]).n_encoded == 0


def test_every_method_has_its_own_edits(tiny: Session) -> None:
    fallback = edits_of.dispatch(object)
    assert len({edits_of.dispatch(kind) for kind in METHODS} | {fallback}) == len(METHODS) + 1
    unknown: Any = Intervening()
    with pytest.raises(NotImplementedError, match="Intervening"):
        edits_of(unknown, tiny.pipeline, 1.0, Ingredients({}, [1], seed=0))


def test_a_scale_outside_ten_is_refused_for_latents_only(tiny: Session) -> None:
    with pytest.raises(ValueError, match="outside the domain"):
        set_latents(tiny.pipeline, "m", 10.5, members({1: 2}))
    assert rand_vec(tiny.pipeline, 50.0, seed=0).scale == 50.0


def test_worlds_differ_by_activation(tmp_path_factory: pytest.TempPathFactory) -> None:
    world: World = make_tiny_world(tmp_path_factory.mktemp("topk"), TopK(6))
    assert world.session().pipeline.sae.nonlinearity == TopK(6)


@pytest.mark.parametrize("n_vectors", [1, 3])
@pytest.mark.parametrize("n_own", [1, 5])
def test_vectors_are_summed_as_often_as_lengths_say(n_vectors: int, n_own: int) -> None:
    generator = torch.Generator().manual_seed(0)
    lengths_ptg = torch.randn(2, 5, n_vectors, generator=generator)
    vectors = torch.randn(2, n_own, n_vectors, 4, generator=generator)
    summed = sum_along(lengths_ptg, vectors)
    for image in range(2):
        for patch in range(5):
            own_gd = vectors[image, patch % n_own]
            slow = sum(
                float(lengths_ptg[image, patch, g]) * own_gd[g].double() for g in range(n_vectors)
            )
            torch.testing.assert_close(summed[image, patch].double(), slow, rtol=1e-5, atol=1e-6)
