"""Controls: against slow, obvious versions, in the world with known answers, with their seeds."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from worlds import PLANTED, World, members, slow_predict, slow_set_latent

from semseg_cli.engine.counts import Counts
from semseg_cli.engine.edits import Edit, Intervention
from semseg_cli.engine.latent_edits import direction, exchanged, set_latents
from semseg_cli.engine.measures import measured_by
from semseg_cli.engine.pushes import mean_moves, mean_push
from semseg_cli.engine.random_edits import other_classes
from semseg_cli.engine.readings import coefficients, read
from semseg_cli.engine.supervised_edits import head_units
from semseg_cli.errors import SemsegError, UsageError
from semseg_cli.experiment.run import Outcome, run
from semseg_cli.experiment.session import Session
from semseg_cli.models.head import argmax_logits
from semseg_cli.runs.lookup_csv import Reused
from semseg_cli.settings.controls import NextBest, OtherClass, Push, RandFeat, RandVec
from semseg_cli.settings.inputs import Protocol
from semseg_cli.settings.methods import Ablate, AutoFeat, HeadDirection, Insert, Method

PROTOCOLS: list[Protocol] = ["class", "label"]
AMPLITUDES = {1: 3.0, 2: 4.0, 3: 5.0, 4: 6.0}  # of the known world


def outcomes(session: Session, *methods: Method, **reused: str) -> list[Outcome]:
    return run(session, methods, {name: Reused(text) for name, text in reused.items()})


def patches_of(session: Session) -> tuple[Tensor, Tensor]:
    """All patches of the lookup split, and their labels."""
    patches, labels = [], []
    for batch in session.loader(session.lookup_dataset):
        patches.append(session.pipeline.patches(session.pipeline.residual(batch.images_bchw)))
        labels.append(batch.labels_bt)
    return torch.cat(patches).flatten(0, 1), torch.cat(labels).flatten()


def added(edit: Edit, x_btd: Tensor, row: int) -> Tensor:
    """What a row of an edit adds to each patch, by the engine's own parts."""
    coefs = coefficients(edit, read(x_btd, [Intervention((edit,))]))[:, :, row]
    images = torch.arange(len(x_btd))
    units = edit.units(images, x_btd.shape[-1])
    directions = edit.directions_kgd
    assert directions is not None
    turned = None if units is None else units[:, row][:, None]
    return edit.delta(coefs, directions[row].expand(len(images), 1, -1, -1), turned)


# --- as long as the automatic edit ----------------------------------------------------------------


@pytest.mark.parametrize("scale", [-2.0, 0.0, 3.0])
def test_an_exchanged_edit_is_as_long_as_the_own_one_and_along_the_other_latent(
    tiny: Session, scale: float
) -> None:
    pipeline, x_btd = tiny.pipeline, torch.randn(2, 5, 24) * 3
    latents, others = members({1: 3, 4: [8, 9]}), members({1: 30, 4: 31})
    own = set_latents(pipeline, "m", scale, latents)
    edit = exchanged(pipeline, "m", scale, latents, others)
    assert edit.latents_by_class == {1: [30], 4: [31]}
    for row, latent in enumerate((30, 31)):
        ours, theirs = added(edit, x_btd, row), added(own, x_btd, row)
        unit = torch.nn.functional.normalize(pipeline.sae.W_dec[latent], dim=0)
        sign = 1.0 if scale > 0 else -1.0
        expected = sign * theirs.norm(dim=-1, keepdim=True) * unit
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_the_direction_of_a_group_counts_each_latent_by_maximum_and_coefficient(
    tiny: Session,
) -> None:
    pipeline = tiny.pipeline
    stats, w_dec = pipeline.latent_stats, pipeline.sae.W_dec
    (group,) = members({1: [8, 9]}).values()
    expected = stats.top_values[8] * w_dec[8] + stats.top_values[9] * w_dec[9]
    unit = torch.nn.functional.normalize(expected, dim=0)
    torch.testing.assert_close(direction(pipeline, group), unit)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "control", [RandFeat(max_freq=1.0), NextBest(max_freq=1.0), OtherClass(max_freq=1.0)]
)
def test_matched_controls_move_patches_as_far_as_the_run_they_control(
    tiny_world: World, control: Method, protocol: Protocol
) -> None:
    session = tiny_world.session(protocol=protocol)
    auto, other = outcomes(session, AutoFeat(max_freq=1.0), control)
    if not isinstance(control, NextBest):  # it has classes without a next best
        assert other.report.edit_norm == pytest.approx(auto.report.edit_norm, rel=1e-4)
    own = auto.intervention.first.latents_by_class
    for class_id, latents in other.intervention.first.latents_by_class.items():
        assert set(latents).isdisjoint(own[class_id])


def test_a_matched_random_latent_is_drawn_by_seed_class_and_draw(tiny_world: World) -> None:
    def drawn(seed: int) -> list[dict[int, list[int]]]:
        (outcome,) = outcomes(tiny_world.session(seed=seed), RandFeat(max_freq=1.0, draws=2))
        return [edit.latents_by_class for edit in outcome.intervention.draws]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert drawn(1)[0] != drawn(1)[1]


# --- constant pushes ------------------------------------------------------------------------------


def slow_lengths(session: Session, class_id: int, latent: int, scale: float) -> float:
    """Mean length of the automatic edit over the patches that the protocol edits, one by one."""
    pipeline = session.pipeline
    value = scale * float(pipeline.latent_stats.top_values[latent])
    lengths = []
    for x, label in zip(*patches_of(session), strict=True):
        if session.setup.protocol == "class" or int(label) == class_id:
            moved = slow_set_latent(pipeline.sae, x[None], latent, value)
            lengths.append(float((moved - x).norm()))
    return sum(lengths) / len(lengths)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("scale", [-2.0, 0.0, 1.5])
def test_a_push_is_the_decoder_direction_at_the_mean_length(
    tiny_world: World, protocol: Protocol, scale: float
) -> None:
    session = tiny_world.session(protocol=protocol)
    latents = {1: 3, 4: 8}
    edit = set_latents(session.pipeline, "m", scale, members(latents))
    loader = session.loader(session.lookup_dataset)
    (moves,) = mean_moves(session.pipeline, [edit], loader, protocol)
    for push, (class_id, latent) in zip(mean_push(moves), latents.items(), strict=True):
        unit = torch.nn.functional.normalize(session.pipeline.sae.W_dec[latent], dim=0)
        length = slow_lengths(session, class_id, latent, scale)
        expected = (1.0 if scale > 0 else -1.0) * length * unit
        torch.testing.assert_close(push, expected, rtol=1e-3, atol=1e-4)


def test_a_push_of_a_group_goes_along_its_mean_edit(tiny: Session) -> None:
    edit = set_latents(tiny.pipeline, "m", -2.0, members({2: [8, 9]}))
    loader = tiny.loader(tiny.lookup_dataset)
    (found,) = mean_moves(tiny.pipeline, [edit], loader, "class")
    x_nd, _ = patches_of(tiny)
    moves = added(edit, x_nd[None], 0)[0]
    mean = torch.nn.functional.normalize(moves.mean(dim=0), dim=0)
    torch.testing.assert_close(
        mean_push(found)[0], moves.norm(dim=1).mean() * mean, rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_on_the_lookup_split_a_push_is_as_long_as_the_automatic_edit(
    tiny_world: World, protocol: Protocol
) -> None:
    session = tiny_world.session(protocol=protocol, split="training")
    auto, push = outcomes(session, AutoFeat(max_freq=1.0), Push(max_freq=1.0))
    assert push.report.edit_norm == pytest.approx(auto.report.edit_norm, rel=1e-4)
    assert push.intervention.first.latents_by_class == auto.intervention.first.latents_by_class


def test_a_push_ignores_what_the_latent_says(known_world: World) -> None:
    (outcome,) = outcomes(known_world.session(), Push(max_freq=1.0))
    edit = outcome.intervention.first
    assert edit.reads is None
    assert edit.directions_kgd is not None
    assert outcome.report.mean_target_change == 1.0


def test_a_push_by_nothing_is_refused(tiny: Session) -> None:
    tiny.pipeline.sae.b_enc[5] = -1e6  # never fires, so setting it to zero does nothing
    text = "class_id,latent\n1,5\n"
    with pytest.raises(SemsegError, match="nothing to push by"):
        outcomes(tiny, Push(lookup="table", scale=(0.0,)), table=text)


# --- necessity and sufficiency --------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_ablation_is_the_automatic_edit_at_zero(tiny_world: World, protocol: Protocol) -> None:
    session = tiny_world.session(protocol=protocol)
    auto, ablated = outcomes(session, AutoFeat(scale=(0.0,), max_freq=1.0), Ablate(max_freq=1.0))
    assert torch.equal(auto.counts.per_image, ablated.counts.per_image)
    report = ablated.report
    assert (report.method, report.intervention_scale) == ("ablate", 0.0)
    assert report.extra["necessity"] == report.mean_target_change
    for end in ("lo", "hi"):
        assert report.extra[f"necessity_{end}"] == report.extra[f"target_change_{end}"]
    assert "necessity" not in auto.report.extra


def test_planted_latents_are_necessary(known_world: World) -> None:
    (outcome,) = outcomes(known_world.session(), Ablate(max_freq=1.0))
    assert outcome.report.extra["necessity"] == 1.0


def test_a_planted_latent_is_enough_against_weaker_ones(known_world: World) -> None:
    (outcome,) = outcomes(known_world.session(), Insert(max_freq=1.0))
    n_of = {r.class_id: r.n_orig_patches for r in outcome.report.class_results}
    for row, class_id in enumerate(sorted(PLANTED)):
        # The inserted direction lies beside the patch's own: the longer one is the prediction.
        weaker = sum(n for c, n in n_of.items() if AMPLITUDES[c] < AMPLITUDES[class_id])
        assert int(outcome.counts.joined[:, row].sum()) == weaker
    n_weaker = sum(n * (4 - c) for c, n in n_of.items())
    n_others = sum(r.n_other_patches for r in outcome.report.class_results)
    assert outcome.report.extra["sufficiency"] == pytest.approx(n_weaker / n_others)
    assert outcome.report.mean_target_change == 0.0  # these patches were not edited


@torch.inference_mode()
def slow_insert(session: Session, class_id: int, latent: int) -> tuple[list[int], list[float]]:
    """Others that become the class, others, changed targets, targets; lengths of the edits."""
    pipeline, vit = session.pipeline, session.pipeline.vit
    value = float(pipeline.latent_stats.top_values[latent])
    totals, lengths = [0, 0, 0, 0], []
    for batch in session.loader(session.dataset):
        clean_bt = slow_predict(pipeline, batch.images_bchw)
        tokens = pipeline.residual(batch.images_bchw).clone()
        for image, patches in enumerate(tokens[:, vit.n_prefix_tokens :]):
            for patch, x in enumerate(patches):
                if int(clean_bt[image, patch]) != class_id:
                    moved = slow_set_latent(pipeline.sae, x[None], latent, value)[0]
                    lengths.append(float((moved - x).norm()))
                    patches[patch] = moved
        after_bt = argmax_logits(pipeline.class_head(vit.tail(tokens, pipeline.layer).float()))
        for before, after in zip(
            clean_bt.flatten().tolist(), after_bt.flatten().tolist(), strict=True
        ):
            if before == class_id:
                totals[2] += after != before
                totals[3] += 1
            else:
                totals[0] += after == class_id
                totals[1] += 1
    return totals, lengths


def test_insertion_is_the_slow_way_round(tiny_world: World) -> None:
    session = tiny_world.session()
    text = "class_id,latent\n1,3\n2,13\n4,8\n"
    (outcome,) = outcomes(session, Insert(lookup="table"), table=text)
    all_lengths: list[float] = []
    for row, (class_id, latent) in enumerate({1: 3, 2: 13, 4: 8}.items()):
        (joined, others, changed, targets), lengths = slow_insert(session, class_id, latent)
        result = outcome.report.class_results[row]
        assert int(outcome.counts.joined[:, row].sum()) == joined
        assert (result.n_other_patches, result.n_orig_patches) == (others, targets)
        assert result.n_changed_patches == changed
        all_lengths += lengths
    norm = sum(all_lengths) / len(all_lengths)
    assert outcome.report.edit_norm == pytest.approx(norm, rel=1e-3)


def test_insertion_has_no_label_protocol(tiny_world: World) -> None:
    with pytest.raises(UsageError, match="insert has no --protocol label"):
        outcomes(tiny_world.session(protocol="label"), Insert(max_freq=1.0))


def test_methods_without_a_scale_take_the_latents_that_auto_feat_takes(tiny_world: World) -> None:
    causal: dict[str, Any] = {"max_freq": 1.0, "select": "causal"}
    auto, ablated, inserted = outcomes(
        tiny_world.session(), AutoFeat(**causal), Ablate(**causal), Insert(**causal)
    )
    assert auto.lookup_csv == ablated.lookup_csv == inserted.lookup_csv


# --- other latents --------------------------------------------------------------------------------


@pytest.mark.parametrize("select", ["f1", "causal"])
@pytest.mark.parametrize("top_k_group", [1, 2])
def test_the_next_best_is_next_by_the_rule_that_chose(
    tiny_world: World, select: Any, top_k_group: int
) -> None:
    method = NextBest(max_freq=1.0, select=select, top_k_group=top_k_group, top_k=5)
    (outcome,) = outcomes(tiny_world.session(), method)
    assert outcome.lookup_csv is not None
    header, *lines = (line.split(",") for line in outcome.lookup_csv.splitlines())
    ranked: dict[int, list[tuple[float, int, int]]] = {}
    for line in lines:
        row = dict(zip(header, line, strict=True))
        effect = -float(row["selectivity"]) if select == "causal" else 0.0
        ranked.setdefault(int(row["class_id"]), []).append(
            (effect, int(row["rank"]), int(row["latent"]))
        )
    expected = {
        class_id: [latent for _, _, latent in sorted(found)[top_k_group : 2 * top_k_group]]
        for class_id, found in ranked.items()
    }
    assert outcome.intervention.first.latents_by_class == {c: i for c, i in expected.items() if i}


def test_a_next_best_comes_from_a_table_that_a_run_wrote_and_from_no_other(
    tiny_world: World,
) -> None:
    session = tiny_world.session()
    (first,) = outcomes(session, NextBest(max_freq=1.0))
    assert first.lookup_csv is not None
    (again,) = outcomes(session, NextBest(lookup="table"), table=first.lookup_csv)
    assert torch.equal(first.counts.per_image, again.counts.per_image)
    with pytest.raises(SemsegError, match="lists no candidates beside the chosen latents"):
        outcomes(session, NextBest(lookup="table"), table="class_id,latent\n1,5\n")
    with pytest.raises(SemsegError, match="No class has a second latent"):
        outcomes(session, NextBest(max_freq=1.0, top_k=1, lookup="table"), table=_only_best(first))


def _only_best(outcome: Outcome) -> str:
    assert outcome.lookup_csv is not None
    header, *lines = outcome.lookup_csv.splitlines(keepends=True)
    chosen = header.split(",").index("chosen")
    return "".join([header, *(line for line in lines if line.split(",")[chosen] == "1")])


@given(st.integers(2, 12), st.integers(0, 2**31))
@settings(max_examples=40)
def test_no_class_keeps_its_own_latent(n_classes: int, seed: int) -> None:
    latents = members({class_id: 100 + class_id for class_id in range(1, n_classes + 1)})
    found = other_classes(latents, seed)
    assert found == other_classes(latents, seed)
    ids = [member.latent for group in found.values() for member in group]
    assert sorted(ids) == [100 + c for c in latents]
    assert all(ids[i] != 101 + i for i in range(n_classes))


def test_classes_that_share_a_latent_never_get_it_from_each_other() -> None:
    latents = members({1: 7, 2: 7, 3: 8, 4: 9})
    for seed in range(20):
        found = other_classes(latents, seed)
        assert all(found[c][0].latent != latents[c][0].latent for c in latents)
    assert len({str(other_classes(latents, seed)) for seed in range(20)}) > 1


@pytest.mark.parametrize("alone", [{1: 7}, {1: 7, 2: 7}, {}])
def test_without_another_classs_latent_there_is_none(alone: dict[int, int]) -> None:
    with pytest.raises(SemsegError, match="Name more with --class"):
        other_classes(members(alone), 0)


def test_another_classs_planted_latent_does_nothing_to_a_class(known_world: World) -> None:
    (outcome,) = outcomes(known_world.session(), OtherClass(match="none", max_freq=1.0))
    assert outcome.report.mean_target_change == 0.0


# --- the head's own direction ---------------------------------------------------------------------


def slow_head_unit(session: Session, class_id: int) -> Tensor:
    weight = session.pipeline.class_head.weight
    others = [weight[c] for c in range(1, len(weight)) if c != class_id]
    model: Any = session.pipeline.vit.model
    gain = model.layernorm.weight
    row = (weight[class_id] - torch.stack(others).mean(dim=0)) * gain
    return torch.nn.functional.normalize(row - row.mean(), dim=0)


def test_the_heads_direction_is_its_row_against_the_others(tiny: Session) -> None:
    found = head_units(tiny.pipeline)
    assert not found[0].any()
    for class_id in range(1, 6):
        torch.testing.assert_close(found[class_id], slow_head_unit(tiny, class_id))


@torch.inference_mode()
def test_no_small_step_raises_a_class_more_at_a_patch_without_own_component(tiny: Session) -> None:
    pipeline, n_layers = tiny.pipeline, tiny.pipeline.vit.n_layers
    unit = head_units(pipeline)[2]
    x = torch.randn(24)
    x = x - x.mean()
    x = x - (x @ unit) * unit

    def lead(step: Tensor) -> float:
        moved = (x + step).expand(1, pipeline.vit.n_prefix_tokens + 1, -1)
        (logits,) = pipeline.class_head(pipeline.vit.tail(moved, n_layers))[0]
        return float(logits[2] - logits[[1, 3, 4, 5]].mean())

    best = lead(0.01 * unit)
    steps = torch.nn.functional.normalize(torch.randn(50, 24), dim=1)
    assert all(lead(0.01 * step) < best for step in steps)


@pytest.mark.parametrize("match", ["norm", "project"])
def test_the_heads_direction_drives_planted_classes(known_world: World, match: Any) -> None:
    (outcome,) = outcomes(known_world.session(), HeadDirection(max_freq=1.0, match=match))
    assert outcome.report.method == "head-direction"
    assert outcome.report.mean_target_change == 1.0


# --- names ----------------------------------------------------------------------------------------


def test_an_unmatched_random_vector_says_its_unit() -> None:
    assert RandVec().scale_name("-2") == "-2 raw"
    assert RandVec(match="norm").scale_name("-2") == "x-2"


def test_without_other_patches_there_is_no_sufficiency() -> None:
    counts = Counts([1], n_images=2, n_classes=2)
    assert measured_by("sufficiency", counts) == measured_by("", counts) == {}
    counts.per_image[0, 0] = torch.tensor([4, 1, 6, 0])
    counts.joined[0, 0] = 3
    assert measured_by("sufficiency", counts)["sufficiency"] == 0.5
    assert measured_by("necessity", counts)["necessity"] == 0.25
