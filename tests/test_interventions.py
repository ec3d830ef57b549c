"""Edits: exact values, where random draws belong, and rank one against the full way round."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor
from worlds import World, make_sae, make_tiny_world, slow_set_latent

from semseg_cli.config import METHODS, AutoFeat, Method, RandFeat, RandVec
from semseg_cli.errors import SemsegError
from semseg_cli.interventions import (
    ALL_CLASSES,
    generator,
    make_edits,
    map_range,
    needs_latents,
    needs_statistics,
    rand_feat,
    rand_vec,
    rand_vec_matched,
    random_unit_vectors,
    set_latents,
    unscaled,
)
from semseg_cli.sae import Threshold, TopK
from semseg_cli.session import Session

ACTIVATIONS = [Threshold(), Threshold(0.5), TopK(6)]

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


def test_a_classs_random_latent_does_not_depend_on_the_other_classes(tiny: Session) -> None:
    whole = rand_feat(tiny.pipeline, -2.0, [1, 2, 3, 4, 5], seed=7)
    part = rand_feat(tiny.pipeline, -5.0, [4, 2], seed=7)
    assert whole.latents_k is not None
    assert part.latents_k is not None
    by_class = dict(zip(whole.class_ids, whole.latents_k.tolist(), strict=True))
    assert part.class_ids == (2, 4)
    assert part.latents_k.tolist() == [by_class[2], by_class[4]]
    other = rand_feat(tiny.pipeline, -2.0, [1, 2, 3, 4, 5], seed=8)
    assert other.latents_k is not None
    assert other.latents_k.tolist() != whole.latents_k.tolist()


def test_random_latents_are_live_ones(tiny: Session) -> None:
    stats = tiny.pipeline.latent_stats
    alive = {3, 17}
    for latent in set(range(40)) - alive:
        (stats.sparsity if latent % 2 else stats.top_values)[latent] = 0.0
    edit = rand_feat(tiny.pipeline, -2.0, list(range(1, 40)), seed=0)
    assert edit.latents_k is not None
    assert set(edit.latents_k.tolist()) == alive
    stats.sparsity.zero_()
    with pytest.raises(SemsegError, match="No latent of the SAE ever fired"):
        rand_feat(tiny.pipeline, -2.0, [1], seed=0)


# --- edits ---------------------------------------------------------------------------------------


@given(st.integers(0, 2**31), st.integers(0, 39), st.floats(-10, 10), st.sampled_from(ACTIVATIONS))
@settings(max_examples=60, deadline=None)
def test_the_rank_one_edit_is_encode_set_decode_plus_error(
    seed: int, latent: int, value: float, activation: Threshold | TopK
) -> None:
    draw = torch.Generator().manual_seed(seed)
    sae = make_sae(activation=activation, seed=seed).scaled(
        torch.randn(24, generator=draw), float(torch.rand((), generator=draw)) + 0.5
    )
    x = torch.randn(3, 5, 24, generator=draw) * 3
    k = torch.tensor([latent])
    fast = x + (value - sae.columns(x, k)) * sae.directions(k)
    torch.testing.assert_close(fast, slow_set_latent(sae, x, latent, value), rtol=1e-4, atol=2e-4)


def test_setting_a_latent_uses_its_own_maximum_and_scale(tiny: Session) -> None:
    pipeline = tiny.pipeline
    edit = set_latents(pipeline, "m", -2.0, {4: 11, 1: 30})
    assert edit.class_ids == (1, 4)
    assert edit.latents_k is not None
    assert edit.latents_k.tolist() == [30, 11]
    maxima = pipeline.latent_stats.top_values[[30, 11]]
    torch.testing.assert_close(edit.values_k, -2 * maxima)
    directions = pipeline.sae.W_dec[[30, 11]] * pipeline.sae.act_norm
    assert edit.directions_kd is not None
    torch.testing.assert_close(edit.directions_kd, directions)
    torch.testing.assert_close(edit.lengths_k, directions.norm(dim=1))
    acts = torch.rand(2, 3, 2)
    torch.testing.assert_close(edit.coefficients(acts), edit.values_k - acts)
    assert not edit.is_shared


def test_a_random_vector_is_scale_long_for_every_patch_and_serves_all_classes(
    tiny: Session,
) -> None:
    edit = rand_vec(tiny.pipeline, -30.0, seed=5)
    assert edit.class_ids == (ALL_CLASSES,)
    assert edit.is_shared
    coefficients = edit.coefficients(torch.rand(2, 3, 1))
    assert coefficients.unique().tolist() == [-30.0]
    images = torch.tensor([4, 9])
    expected = random_unit_vectors(5, images, 24)
    assert torch.equal(edit.directions(images, 24), expected[:, None])


def test_a_matched_random_vector_moves_each_patch_as_far_as_the_automatic_edit(
    tiny: Session,
) -> None:
    latents = {1: 3, 4: 8}
    auto = set_latents(tiny.pipeline, "m", -2.0, latents)
    matched = rand_vec_matched(tiny.pipeline, -2.0, latents, seed=5)
    acts, images = torch.rand(2, 3, 2), torch.tensor([0, 1])
    moved = matched.coefficients(acts)[..., None] * matched.directions(images, 24)[:, None]
    expected = auto.coefficients(acts)[..., None] * auto.directions(images, 24)[:, None]
    torch.testing.assert_close(moved.norm(dim=-1), expected.norm(dim=-1))
    assert matched.method == "random-vector"


EVERY = [*METHODS, lambda **kwargs: RandVec(match="norm", **kwargs)]


@pytest.mark.parametrize("make", EVERY)
def test_every_method_makes_one_edit_per_scale(tiny: Session, make: Any) -> None:
    method: Method = make(scale=(-1.0, 3.0))
    latents = {-1.0: {1: 2, 3: 4}, 3.0: {1: 5}} if needs_latents(method) else {}
    edits = make_edits(method, tiny.pipeline, latents, [1, 2, 3], seed=0)
    assert [edit.scale for edit in edits] == [-1.0, 3.0]
    assert {edit.method for edit in edits} == {method.name}


def test_only_wanted_classes_are_edited(tiny: Session) -> None:
    (edit,) = make_edits(AutoFeat(), tiny.pipeline, {-2.0: {1: 2, 3: 4}}, [3], seed=0)
    assert edit.class_ids == (3,)


def test_what_each_method_needs() -> None:
    assert not needs_statistics(RandVec())
    assert needs_statistics(RandFeat())
    assert not needs_latents(RandFeat())
    assert needs_latents(AutoFeat())
    assert needs_latents(RandVec(match="norm"))


def test_a_scale_outside_ten_is_refused_for_latents_only(tiny: Session) -> None:
    with pytest.raises(ValueError, match="outside the domain"):
        set_latents(tiny.pipeline, "m", 10.5, {1: 2})
    assert rand_vec(tiny.pipeline, 50.0, seed=0).scale == 50.0


def test_worlds_differ_by_activation(tmp_path_factory: pytest.TempPathFactory) -> None:
    world: World = make_tiny_world(tmp_path_factory.mktemp("topk"), TopK(6))
    assert world.session().pipeline.sae.activation == TopK(6)
