"""Nulls of a class's score: which latents they are, and that they are counted as the class is."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from worlds import World, members, slow_class_counts, slow_predict

from semseg_cli.data.loader import Loader
from semseg_cli.engine.edits import Edit, Intervention
from semseg_cli.engine.evaluate import evaluate
from semseg_cli.engine.latent_edits import exchanged, set_latents
from semseg_cli.engine.peers import (
    covering_images,
    matched_edits,
    peer_latents,
    predicted_patches,
    sampled_images,
)
from semseg_cli.engine.random_edits import live_latents
from semseg_cli.experiment import nulls
from semseg_cli.experiment.nulls import measure_nulls
from semseg_cli.experiment.run import run
from semseg_cli.experiment.session import Session
from semseg_cli.runs.lookup_csv import Member
from semseg_cli.settings.methods import AutoFeat
from semseg_cli.settings.suite import Nulls

SCALE = -2.0
FEW = Nulls(peers=6, matched=4, matched_images=2)
GROUPS = {1: [3], 2: [8, 9], 4: [12]}


def test_every_class_has_as_many_peers_none_of_them_its_own(tiny: Session) -> None:
    live = set(live_latents(tiny.pipeline).tolist())
    few = sorted(live)[:3]
    latents = members({1: few[0], 2: few[1:]})
    for n in (1, 5, 1000):
        peers = peer_latents(tiny.pipeline, latents, n, seed=1)
        assert len(peers) == len(set(peers))
        assert set(peers) <= live
        for group in latents.values():
            others = [latent for latent in peers if latent not in {m.latent for m in group}]
            assert len(others) >= min(n, len(live) - len(group))
    assert len(peer_latents(tiny.pipeline, latents, 5, seed=1)) <= 5 + 3


def test_peers_belong_to_the_seed(tiny: Session) -> None:
    latents = members({1: 3})
    one, same, other = (peer_latents(tiny.pipeline, latents, 8, seed) for seed in (1, 1, 2))
    assert one == same != other


def test_matched_peers_differ_by_draw_and_class_and_are_never_a_class_s_own(tiny: Session) -> None:
    latents = members(GROUPS)
    own, *drawn = matched_edits(tiny.pipeline, SCALE, latents, 5, seed=1)
    assert own.latents_by_class == GROUPS
    assert [edit.draw for edit in (own, *drawn)] == list(range(6))
    for class_id, group in GROUPS.items():
        found = [edit.latents_by_class[class_id][0] for edit in drawn]
        assert len(set(found)) == 5
        assert set(found).isdisjoint(group)
    of_classes = [[edit.latents_by_class[c] for edit in drawn] for c in GROUPS]
    assert of_classes[0] != of_classes[1]


def test_there_are_no_more_matched_peers_than_other_live_latents(tiny: Session) -> None:
    n_live = len(live_latents(tiny.pipeline))
    edits = list(matched_edits(tiny.pipeline, SCALE, members({1: 3}), 10_000, seed=1))
    is_live = 3 in live_latents(tiny.pipeline).tolist()
    assert len(edits) == 1 + n_live - is_live


def test_sampled_images_have_the_class_and_belong_to_the_seed() -> None:
    n_own_bk = torch.tensor([[3, 0], [0, 0], [1, 0], [2, 5], [1, 0]])
    wanted = sampled_images(n_own_bk, (1, 7), 2, seed=3)
    assert wanted.sum(dim=0).tolist() == [2, 1]
    assert bool((n_own_bk[wanted] > 0).all())
    assert sampled_images(n_own_bk, (1, 7), 9, seed=3).sum(dim=0).tolist() == [4, 1]
    samples = [sampled_images(n_own_bk, (1, 7), 2, seed=s).tolist() for s in range(8)]
    assert samples[3] == wanted.tolist()
    assert any(sample != samples[0] for sample in samples)


def test_few_images_show_as_many_classes_as_can_be() -> None:
    n_own_bc = torch.zeros(20, 3, dtype=torch.int64)
    n_own_bc[:, 0] = 10
    n_own_bc[[3, 11, 17, 18], 1] = 4
    n_own_bc[12, 2] = 1
    chosen = covering_images(n_own_bc, 6, least_patches=0, least=3)
    assert len(chosen) == len(set(chosen)) == 6
    assert {3, 11, 12, 17} <= set(chosen)
    assert {3, 11, 12, 17, 18} <= set(covering_images(n_own_bc, 6, least_patches=16, least=3))
    assert covering_images(n_own_bc, 25, 0, 3) == covering_images(n_own_bc, None, 0, 3)
    assert covering_images(n_own_bc, None, 0, 3) == list(range(20))


@given(st.integers(0, 10_000))
def test_three_images_for_each_class_are_enough_to_show_it_in_three(seed: int) -> None:
    drawn = torch.rand(30, 4, generator=torch.Generator().manual_seed(seed))
    n_own_bc = (drawn < 0.2).long()
    chosen = covering_images(n_own_bc, 12, least_patches=0, least=3)
    shown_c = n_own_bc[chosen].sum(dim=0)
    assert len(chosen) == 12
    assert bool((shown_c >= n_own_bc.sum(dim=0).clamp(max=3)).all())


def test_predicted_patches_are_those_of_the_whole_network(tiny: Session) -> None:
    loader = tiny.loader(tiny.dataset)
    found = predicted_patches(tiny.pipeline, loader, 5)
    for batch in loader:
        classes_bt = slow_predict(tiny.pipeline, batch.images_bchw)
        for position, classes_t in zip(batch.positions_b.tolist(), classes_bt, strict=True):
            expected = [int((classes_t == class_id).sum()) for class_id in range(1, 6)]
            assert found[position].tolist() == expected


def test_peers_and_rivals_are_counted_as_the_class_protocol_counts_them(
    tiny_world: World,
) -> None:
    """Every edit of a whole image against the obvious procedure, class by class."""
    session = tiny_world.session()
    latents = members({1: 3, 2: 8, 4: 12})
    found = measure_nulls(session, latents, SCALE, FEW)
    loader = Loader(session.dataset, 4)
    for latent, counts_c4 in zip(found.peers, found.peers_rc4, strict=True):
        slow = slow_class_counts(session.pipeline, loader, {1: latent, 2: latent, 4: latent}, SCALE)
        assert [counts_c4[c - 1].tolist() for c, _ in slow] == [four for _, four in slow]
    for (group,), counts_c4 in zip(found.latents, found.own_kc4, strict=True):
        slow = slow_class_counts(session.pipeline, loader, dict.fromkeys(range(1, 6), group), SCALE)
        assert counts_c4.tolist() == [four for _, four in slow]


def test_peers_may_have_fewer_images_and_matched_peers_any_number_of_parts(
    tiny_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, latents = tiny_world.session(), members(GROUPS)
    fewer = replace(FEW, peer_images=3)
    found = measure_nulls(session, latents, SCALE, fewer)
    n_patches = found.own_kc4[0, 0, 0] + found.own_kc4[0, 0, 2]
    whole = measure_nulls(session, latents, SCALE, FEW)
    assert 2 * n_patches == whole.own_kc4[0, 0, 0] + whole.own_kc4[0, 0, 2]
    monkeypatch.setattr(nulls, "AT_ONCE", 2)
    again = measure_nulls(session, latents, SCALE, FEW)
    assert again.matched_rk4.tolist() == whole.matched_rk4.tolist()
    assert again.matched_bk4.tolist() == whole.matched_bk4.tolist()


def test_a_class_s_own_score_is_that_of_auto_feat(tiny_world: World) -> None:
    session = tiny_world.session()
    (outcome,) = run(session, [AutoFeat(max_freq=1.0)], {})
    edit = outcome.intervention.first
    latents = members(edit.latents_by_class)
    found = measure_nulls(session, latents, SCALE, FEW)
    for row, class_id in enumerate(found.class_ids):
        expected = outcome.counts.per_image[:, row].sum(dim=0)
        assert found.own_kc4[row, class_id - 1].tolist() == expected.tolist()
    n_images = (outcome.counts.per_image[..., 0] > 0).sum(dim=0)
    assert [found.n_images_c[c - 1] for c in found.class_ids] == n_images.tolist()


def alone(session: Session, edit: Edit) -> torch.Tensor:
    """What an edit counts by itself, on all images [images, classes, 4]."""
    loader = Loader(session.dataset, 4)
    (measured,) = evaluate(session.pipeline, [Intervention((edit,))], loader, n_classes=5)
    return measured.counts.per_image


def test_matched_peers_and_the_own_edit_are_counted_on_the_same_sampled_images(
    tiny_world: World,
) -> None:
    session = tiny_world.session()
    latents = members(GROUPS)
    found = measure_nulls(session, latents, SCALE, FEW)
    _own, *drawn = matched_edits(session.pipeline, SCALE, latents, FEW.matched, session.setup.seed)
    clean = alone(session, set_latents(session.pipeline, "m", SCALE, latents))
    wanted = sampled_images(clean[..., 0], sorted(GROUPS), FEW.matched_images, session.setup.seed)
    assert found.n_sampled_k.tolist() == wanted.sum(dim=0).tolist()
    assert found.n_matched == len(drawn) == FEW.matched
    edits = [set_latents(session.pipeline, "m", SCALE, latents)]
    for edit in drawn:
        others = {c: [Member(latent) for latent in ids] for c, ids in edit.latents_by_class.items()}
        edits.append(exchanged(session.pipeline, "m", SCALE, latents, others))
    for edit, counts_k4 in zip(edits, found.matched_rk4, strict=True):
        expected = (alone(session, edit) * wanted[..., None]).sum(dim=0)
        assert counts_k4.tolist() == expected.tolist()
    of_peers = sum(alone(session, edit) * wanted[..., None] for edit in edits[1:])
    assert found.matched_bk4.tolist() == torch.as_tensor(of_peers).tolist()
