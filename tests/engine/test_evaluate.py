"""THE loop: known answers, the slow way round, and nothing that must not matter matters."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from worlds import (
    PLANTED,
    World,
    make_head,
    make_sae,
    make_tiny_world,
    make_vit,
    members,
    slow_class_counts,
    slow_predict,
    slow_predict_edited,
    totals_of,
)

from semseg_cli.data.batches import Batch
from semseg_cli.engine.counts import compute_class_results
from semseg_cli.engine.edited_batch import _edited, row_of_patch
from semseg_cli.engine.edits import Edit, Intervention
from semseg_cli.engine.evaluate import evaluate
from semseg_cli.engine.latent_edits import set_latents
from semseg_cli.engine.measured import Measured, table_of, to_report
from semseg_cli.engine.random_edits import rand_vec
from semseg_cli.errors import SemsegError, UsageError
from semseg_cli.experiment.parts import find_device
from semseg_cli.experiment.run import Outcome, run
from semseg_cli.experiment.session import Session, open_session
from semseg_cli.models import sae as saes
from semseg_cli.models.head import save_head
from semseg_cli.models.pipeline import Pipeline, Prediction
from semseg_cli.models.sae import SparseAutoencoder, Threshold, TopK
from semseg_cli.runs.lookup_csv import Reused
from semseg_cli.runs.report import Report
from semseg_cli.settings.controls import NextBest, OtherClass, Push, RandFeat, RandVec
from semseg_cli.settings.inputs import Imgs, Protocol, Setup
from semseg_cli.settings.methods import (
    METHODS,
    Ablate,
    AutoFeat,
    HeadDirection,
    Insert,
    MeanDiff,
    Method,
)

LATENTS = {1: 3, 2: 13, 4: 5, 5: 20}
PROTOCOLS: list[Protocol] = ["class", "label"]


def outcomes(session: Session, *methods: Method, **reused: str) -> list[Outcome]:
    return run(session, methods, {name: Reused(text) for name, text in reused.items()})


def measured(session: Session, edit: Edit, protocol: Protocol = "class", **more: Any) -> Measured:
    loader = session.loader(session.dataset)
    interventions = [Intervention((edit,))]
    (found,) = evaluate(session.pipeline, interventions, loader, protocol, n_classes=5, **more)
    return found


# --- known answers --------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.0, -2.0, -10.0])
def test_suppressing_planted_latents_has_target_one_and_other_zero(
    known_world: World, scale: float
) -> None:
    (outcome,) = outcomes(known_world.session(), AutoFeat(scale=(scale,), max_freq=1.0))
    report = outcome.report
    assert outcome.intervention.first.latents_by_class == {c: [i] for c, i in PLANTED.items()}
    assert (report.mean_target_change, report.mean_other_change) == (1.0, 0.0)
    assert (report.macro_target_change, report.macro_other_change) == (1.0, 0.0)
    assert (report.target_change_std, report.other_change_std) == (0.0, 0.0)
    assert report.selectivity == 1.0
    assert report.is_pooled_telling
    assert [r.class_id for r in report.class_results] == [1, 2, 3, 4]  # 5 never occurs: no row
    assert report.n_patches == 3 * 16
    assert sum(r.n_orig_patches for r in report.class_results) == 3 * 16


def test_at_scale_zero_everything_falls_back_to_the_class_that_needs_no_evidence(
    known_world: World,
) -> None:
    (outcome,) = outcomes(known_world.session(), AutoFeat(scale=(0.0,), max_freq=1.0))
    for result in outcome.report.class_results:
        assert result.change_distribution == {5: result.n_orig_patches}


def test_the_planted_edit_norm_is_known(known_world: World) -> None:
    # Class c's patches hold amplitude a: the edit at -2 moves them by 3 a, all others by 2 a.
    (outcome,) = outcomes(known_world.session(), AutoFeat(max_freq=1.0))
    by_class = {r.class_id: r.n_orig_patches for r in outcome.report.class_results}
    amplitude = {1: 3.0, 2: 4.0, 3: 5.0, 4: 6.0}
    total = sum(a * (48 * 2 + by_class[c]) for c, a in amplitude.items())
    assert outcome.report.edit_norm == pytest.approx(total / (48 * 4), rel=1e-4)


def test_the_label_protocol_shows_one_number_where_the_class_protocol_shows_two(
    known_world: World,
) -> None:
    session = known_world.session(protocol="label")
    (outcome,) = outcomes(session, AutoFeat(max_freq=1.0))
    report = outcome.report
    assert report.mean_target_change == report.mean_other_change == 1.0
    assert not report.is_pooled_telling


def test_statistics_may_be_computed_too(known_world: World) -> None:
    session = known_world.session(act_mean=None, act_norm=None)
    (outcome,) = outcomes(session, AutoFeat(max_freq=1.0))
    assert (outcome.report.mean_target_change, outcome.report.mean_other_change) == (1.0, 0.0)


def test_raising_a_latent_moves_every_other_patch_to_its_class(known_world: World) -> None:
    session = known_world.session(classes=("sky",))
    (outcome,) = outcomes(session, AutoFeat(scale=(5.0,), max_freq=1.0))
    assert (outcome.report.mean_target_change, outcome.report.mean_other_change) == (0.0, 1.0)


# --- against the slow way -----------------------------------------------------------------------


@pytest.fixture(
    scope="module", params=[Threshold(), Threshold(0.4), TopK(6)], ids=["relu", "jump", "topk"]
)
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Session:
    world = make_tiny_world(tmp_path_factory.mktemp("evaluate"), request.param)
    return world.session()


@pytest.mark.parametrize("scale", [-2.0, 0.0, 6.0])
def test_the_class_protocol_counts_what_whole_models_with_full_edits_count(
    session: Session, scale: float
) -> None:
    found = measured(session, set_latents(session.pipeline, "m", scale, members(LATENTS)))
    loader = session.loader(session.dataset)
    slow = slow_class_counts(session.pipeline, loader, LATENTS, scale)
    assert totals_of(found.counts) == slow
    assert any(0 < n_changed < n for _, (n, n_changed, _, _) in slow)


def test_the_label_protocol_gives_each_patch_its_own_labels_latent(session: Session) -> None:
    edit = set_latents(session.pipeline, "m", -2.0, members(LATENTS))
    found = measured(session, edit, "label").counts.to_class_results("abcde")
    clean, edited, n_untouched = [], [], 0
    for batch in session.loader(session.dataset):
        latents = torch.full_like(batch.labels_bt, -1)
        for class_id, latent in LATENTS.items():
            latents[batch.labels_bt == class_id] = latent
        n_untouched += int((latents == -1).sum())
        clean.append(slow_predict(session.pipeline, batch.images_bchw))
        edited.append(slow_predict_edited(session.pipeline, batch.images_bchw, latents, -2.0))
    expected = compute_class_results(
        torch.cat(clean), torch.cat(edited), n_classes=5, class_names=list("abcde")
    )
    assert n_untouched > 0  # labels 0 and 3
    assert found == [expected[c - 1] for c in LATENTS]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_shared_edit_counts_all_classes_from_one_pair(
    session: Session, protocol: Protocol
) -> None:
    found = measured(session, rand_vec(session.pipeline, 25.0, seed=1), protocol)
    report = to_report(found, "abcde", protocol)
    assert [r.class_id for r in report.class_results] == [1, 2, 3, 4, 5]
    assert 0 < report.mean_target_change < 1
    assert report.mean_target_change == pytest.approx(report.mean_other_change, abs=1e-12)
    assert not report.is_pooled_telling
    assert report.edit_norm == pytest.approx(25.0)
    only = measured(session, found.first, protocol, class_ids=[2, 4])
    assert totals_of(only.counts) == [totals_of(found.counts)[i] for i in (1, 3)]


def test_label_protocol_pooled_numbers_are_identical_where_all_classes_have_a_row(
    session: Session,
) -> None:
    edit = set_latents(session.pipeline, "m", -2.0, members({**LATENTS, 3: 1}))
    report = to_report(measured(session, edit, "label"), "abcde", "label")
    assert 0 < report.mean_target_change < 1
    assert report.mean_target_change == pytest.approx(report.mean_other_change, abs=1e-12)
    assert not report.is_pooled_telling
    by_class = to_report(measured(session, edit), "abcde", "class")
    assert by_class.mean_target_change != pytest.approx(by_class.mean_other_change, abs=1e-6)
    assert by_class.is_pooled_telling


def test_only_patch_tokens_are_edited(session: Session) -> None:
    seen: list[Tensor] = []
    pipeline = session.pipeline

    class Spy(Pipeline):
        def predict(self, tokens_bnd: Tensor, of_bt: Tensor | None = None) -> Prediction:
            seen.append(tokens_bnd)
            return super().predict(tokens_bnd, of_bt)

    spy = Spy(
        **{name: getattr(pipeline, name) for name in ("vit", "layer", "sae", "head", "stats")}
    )
    edits = [set_latents(spy, "m", -2.0, members({1: 3})), rand_vec(spy, 9.0, seed=0)]
    loader = session.loader(session.dataset)
    evaluate(spy, [Intervention((edit,)) for edit in edits], loader, "class", n_classes=5)
    n = pipeline.vit.n_prefix_tokens
    assert n == 3
    assert len(seen) == 2 * 3
    for clean, *all_edited in (seen[:3], seen[3:]):
        for edited in all_edited:
            assert torch.equal(edited[:, :n], clean[:, :n])
            assert bool((edited[:, n:] != clean[:, n:]).any(dim=-1).all())


def test_editing_does_not_change_the_tokens_it_is_given(session: Session) -> None:
    tokens = torch.randn(2, 3 + 49, 24)
    before = tokens.clone()
    _edited(session.pipeline, tokens, torch.tensor([0, 1]), torch.ones(2, 49, 24))
    assert torch.equal(tokens, before)


def test_the_edit_norm_is_the_mean_length_of_what_is_added(session: Session) -> None:
    pipeline = session.pipeline
    edit = set_latents(pipeline, "m", -2.0, members(LATENTS))
    lengths = []
    for batch in session.loader(session.dataset):
        patches = pipeline.patches(pipeline.residual(batch.images_bchw))
        for latent in LATENTS.values():
            value = -2.0 * float(pipeline.latent_stats.top_values[latent])
            f = pipeline.sae.encode(pipeline.sae.scale(patches))[..., latent]
            direction = pipeline.sae.W_dec[latent] * pipeline.sae.act_norm
            lengths.append(((value - f)[..., None] * direction).norm(dim=-1).flatten())
    expected = float(torch.cat(lengths).mean())
    report = to_report(measured(session, edit), "abcde", "class")
    assert report.edit_norm == pytest.approx(expected, rel=1e-4)


def test_unlabelled_patches_do_not_count_in_the_label_protocols_edit_norm(
    session: Session,
) -> None:
    found = measured(session, set_latents(session.pipeline, "m", -2.0, members({1: 3})), "label")
    n_own = sum(int((b.labels_bt == 1).sum()) for b in session.loader(session.dataset))
    assert found.outcomes is not None
    assert int(found.outcomes.to_table()["n_edited"].sum()) == n_own


def test_wanted_rows_only_are_run(session: Session) -> None:
    edit = set_latents(session.pipeline, "m", -2.0, members(LATENTS))
    wanted = torch.rand(6, 4, generator=torch.Generator().manual_seed(0)) < 0.5
    part = measured(session, edit, is_wanted=[wanted]).counts.per_image
    whole = measured(session, edit).counts.per_image
    assert torch.equal(part[wanted], whole[wanted])
    assert not part[~wanted].any()


def test_a_group_is_set_together_as_whole_models_do_it(session: Session) -> None:
    """Two latents of a class against encode, set both, decode, add the error back."""
    pipeline, group = session.pipeline, {2: [13, 5]}
    found = measured(session, set_latents(pipeline, "m", -2.0, members(group)))
    clean, edited = [], []
    for batch in session.loader(session.dataset):
        tokens = pipeline.residual(batch.images_bchw)
        patches = pipeline.patches(tokens)
        f = pipeline.sae.encode(pipeline.sae.scale(patches))
        moved = f.clone()
        for latent in group[2]:
            moved[..., latent] = -2.0 * pipeline.latent_stats.top_values[latent]
        delta = (pipeline.sae.decode(moved) - pipeline.sae.decode(f)) * pipeline.sae.act_norm
        moved = _edited(pipeline, tokens, torch.arange(len(tokens)), delta)
        clean.append(pipeline.predict(tokens).classes_bt)
        edited.append(pipeline.predict(moved).classes_bt)
    (expected,) = compute_class_results(
        torch.cat(clean), torch.cat(edited), n_classes=5, class_names=list("abcde")
    )[1:2]
    assert found.counts.to_class_results("abcde") == [expected]


@pytest.mark.parametrize("token_norm", ["layer_norm", "constant_norm_rescale"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_autoencoder_that_normalises_each_token_is_edited_in_the_tokens_own_units(
    session: Session, token_norm: str, protocol: Protocol
) -> None:
    """Against encode, set, decode and restore, token by token."""
    own = session.pipeline.sae
    sae = SparseAutoencoder(
        own.W_enc, own.b_enc, own.W_dec, own.b_dec, Threshold(), token_norm=token_norm
    ).scaled(torch.ones(24), 1.5)
    pipeline = replace(session.pipeline, sae=sae)
    session = replace(session, pipeline=pipeline)
    found = measured(session, set_latents(pipeline, "m", -2.0, members({2: 13})), protocol)
    clean, edited = [], []
    for batch in session.loader(session.dataset):
        tokens = pipeline.residual(batch.images_bchw)
        z = sae.scale(pipeline.patches(tokens))
        f = sae.encode(z)
        moved = f.clone()
        moved[..., 13] = -2.0 * pipeline.latent_stats.top_values[13]
        delta = (sae.restore(sae.decode(moved), z) - sae.restore(sae.decode(f), z)) * sae.act_norm
        if protocol == "label":
            delta = delta * (batch.labels_bt == 2)[..., None]
        moved = _edited(pipeline, tokens, torch.arange(len(tokens)), delta)
        clean.append(pipeline.predict(tokens).classes_bt)
        edited.append(pipeline.predict(moved).classes_bt)
    expected = compute_class_results(
        torch.cat(clean), torch.cat(edited), n_classes=5, class_names=list("abcde")
    )
    assert found.counts.to_class_results("abcde") == expected[1:2]


def test_labels_beyond_255_find_their_rows() -> None:
    labels = torch.tensor([[0, 299, 7, 300]])
    zeros = torch.zeros(1, dtype=torch.int64)
    batch = Batch(torch.zeros(1, 3, 2, 2), labels, torch.ones(1, 4).double(), zeros, zeros)
    edit = Edit("m", -2.0, (7, 300), torch.zeros(2, 1), None, None, "random")
    assert row_of_patch(edit, batch).tolist() == [[-1, -1, 0, 1]]


# --- draws ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("method", [RandVec, RandFeat])
def test_draws_add_up_and_the_first_one_is_the_single_draw(
    session: Session, method: type[RandVec] | type[RandFeat], protocol: Protocol
) -> None:
    session = replace(session, setup=replace(session.setup, protocol=protocol))
    (single,) = outcomes(session, method(match="none", scale=(8.0,)))
    (several,) = outcomes(session, method(match="none", scale=(8.0,), draws=3))
    per_draw = several.counts.per_draw
    assert per_draw.shape[0] == 3
    assert torch.equal(per_draw.sum(dim=0), several.counts.per_image.sum(dim=0))
    assert torch.equal(per_draw[0], single.counts.per_image.sum(dim=0))
    assert not torch.equal(per_draw[0], per_draw[1])
    assert several.report.n_patches == single.report.n_patches


def test_a_shuffled_dictionary_detects_the_same_and_writes_something_else(
    known_world: World,
) -> None:
    session = known_world.session()
    (plain,) = outcomes(session, AutoFeat(max_freq=1.0))
    (control,) = outcomes(session, AutoFeat(max_freq=1.0, control="shuffled"))
    edits = [one.intervention.first for one in (plain, control)]
    assert edits[0].latents_by_class == edits[1].latents_by_class
    rows = [edit.directions_kgd for edit in edits]
    assert rows[0] is not None
    assert rows[1] is not None
    assert not torch.equal(rows[0], rows[1])
    assert control.report.mean_target_change < plain.report.mean_target_change
    assert torch.equal(session.pipeline.sae.W_dec, known_world.session().pipeline.sae.W_dec)


@pytest.mark.parametrize("match", ["norm", "project"])
@pytest.mark.parametrize("direction", ["mean", "lda"])
def test_supervised_directions_of_planted_classes_drive_them(
    known_world: World, match: Any, direction: Any
) -> None:
    method = MeanDiff(max_freq=1.0, match=match, direction=direction)
    (outcome,) = outcomes(known_world.session(), method)
    assert outcome.report.method == "mean-diff"
    assert outcome.report.mean_target_change == 1.0


# --- what must not matter ---------------------------------------------------------------------


def every_method(protocol: Protocol = "class") -> list[Method]:
    """All that mean something under a protocol; a test below says that none is forgotten."""
    scales = (-2.0, 7.0)
    every: list[Method] = [
        RandVec(scale=scales),
        RandFeat(scale=scales, match="none"),
        RandFeat(max_freq=1.0, draws=2),
        AutoFeat(scale=scales, max_freq=1.0),
        RandVec(match="norm", max_freq=1.0, draws=2),
        RandFeat(match="frequency", max_freq=1.0, draws=3),
        MeanDiff(scale=scales, max_freq=1.0),
        MeanDiff(match="project", direction="lda", max_freq=1.0),
        AutoFeat(top_k_group=2, control="shuffled", max_freq=1.0),
        AutoFeat(control="pca", max_freq=1.0),
        Ablate(max_freq=1.0),
        Insert(max_freq=1.0),
        Push(scale=scales, max_freq=1.0),
        NextBest(max_freq=1.0),
        OtherClass(match="none", max_freq=1.0),
        HeadDirection(max_freq=1.0),
    ]
    return [method for method in every if protocol in method.protocols]


def test_no_method_is_forgotten() -> None:
    assert {type(method) for method in every_method()} == set(METHODS)


def assert_same(found: Sequence[Outcome], expected: Sequence[Outcome]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours.counts.per_image, theirs.counts.per_image)
        assert torch.equal(ours.counts.matrix, theirs.counts.matrix)
        tables = [table_of(outcome.measured) for outcome in (ours, theirs)]
        for name, expected_bc in tables[1].items():
            if not name.endswith("_sum"):
                assert (tables[0][name] == expected_bc).all()
        numbers = [rounded_numbers(outcome.report) for outcome in (ours, theirs)]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-3, abs=1e-5)
        assert without_numbers(ours.report) == without_numbers(theirs.report)


def rounded_numbers(report: Report) -> dict[str, float]:
    """Those that sums of floats are in: their last digits depend on the order of the parts."""
    of_classes = {
        f"{r.class_id} {k}": v for r in report.class_results for k, v in r.outcomes.items()
    }
    assert report.edit_norm is not None
    return {**report.extra, **of_classes, "edit_norm": report.edit_norm}


def without_numbers(report: Report) -> Report:
    """The rest, which is whole numbers."""
    classes = [replace(result, outcomes={}) for result in report.class_results]
    return replace(report, class_results=classes, edit_norm=None, extra={})


@pytest.fixture(scope="module")
def base(tiny_world: World) -> dict[Protocol, list[Outcome]]:
    return {
        p: outcomes(tiny_world.session(protocol=p, batch_size=6), *every_method(p))
        for p in PROTOCOLS
    }


@pytest.mark.parametrize(
    ("protocol", "batch_size", "n_workers"), [("class", 1, 0), ("label", 1, 0), ("class", 4, 2)]
)
def test_batch_size_and_workers_do_not_change_a_report(
    tiny_world: World,
    base: dict[Protocol, list[Outcome]],
    protocol: Protocol,
    batch_size: int,
    n_workers: int,
) -> None:
    session = tiny_world.session(protocol=protocol, batch_size=batch_size, n_workers=n_workers)
    assert_same(outcomes(session, *every_method(protocol)), base[protocol])


@pytest.mark.parametrize(
    ("memory_budget", "protocol"), [(1e-6, "class"), (2e-3, "label"), (4.0, "class")]
)
def test_the_memory_budget_does_not_change_a_report(
    tiny_world: World,
    base: dict[Protocol, list[Outcome]],
    protocol: Protocol,
    memory_budget: float,
) -> None:
    session = tiny_world.session(protocol=protocol, memory_budget=memory_budget, batch_size=128)
    rows = session.pipeline.rows_per_pass()
    assert rows == 1 if memory_budget == 1e-6 else rows > 1
    assert_same(outcomes(session, *every_method(protocol)), base[protocol])


def test_one_pass_over_several_methods_is_each_method_alone(
    tiny_world: World, base: dict[Protocol, list[Outcome]]
) -> None:
    alone = [o for m in every_method() for o in outcomes(tiny_world.session(), m)]
    assert_same(alone, base["class"])


@pytest.mark.parametrize("method", [RandVec(scale=(25.0,)), RandVec(match="norm", max_freq=1.0)])
def test_a_subset_of_images_is_counted_as_in_the_full_run(
    tiny_world: World, method: RandVec
) -> None:
    (whole,) = outcomes(tiny_world.session(), method)
    session = tiny_world.session(images=2)
    (part,) = outcomes(session, method)
    assert session.dataset.indices == (0, 3)
    assert torch.equal(part.counts.per_image, whole.counts.per_image[[0, 3]])
    assert part.report.n_images == 2
    assert part.report.n_patches == 2 * 49


def test_another_seed_draws_other_directions(tiny_world: World) -> None:
    first, second = (
        outcomes(tiny_world.session(seed=seed), RandVec(scale=(25.0,)))[0] for seed in (1, 2)
    )
    assert not torch.equal(first.counts.per_image, second.counts.per_image)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_faster_precision_runs_and_flips_few_patches(
    tiny_world: World, base: dict[Protocol, list[Outcome]], dtype: str
) -> None:
    found = outcomes(tiny_world.session(dtype=dtype), *every_method())
    for ours, exact in zip(found, base["class"], strict=True):
        n_ours, n_exact = ours.counts.per_image[..., 0], exact.counts.per_image[..., 0]
        assert int((n_ours - n_exact).abs().sum()) < 0.1 * int(n_exact.sum())


def test_classes_can_be_chosen_by_name_or_id(tiny_world: World) -> None:
    (whole,) = outcomes(tiny_world.session(), AutoFeat(max_freq=1.0))
    session = tiny_world.session(classes=("tree", "2"))
    (part,) = outcomes(session, AutoFeat(max_freq=1.0))
    assert [r.class_id for r in part.report.class_results] == [2, 4]
    assert part.report.class_results == [whole.report.class_results[i] for i in (1, 3)]
    with pytest.raises(UsageError, match="did you mean floor"):
        outcomes(tiny_world.session(classes=("flor",)), AutoFeat())


def test_progress_ends_where_it_said_it_would(tiny_world: World) -> None:
    done: dict[str, int] = {}
    totals: dict[str, int] = {}

    def progress(description: str, total: int, unit: str = "images") -> Any:
        done.setdefault(description, 0)
        totals[description] = totals.get(description, 0) + total

        def advance(n: int) -> None:
            done[description] += n

        return advance

    methods: list[Method] = [
        AutoFeat(max_freq=1.0, select="causal"),
        RandFeat(match="none"),
        RandVec(),
    ]
    for protocol in PROTOCOLS:
        run(tiny_world.session(protocol=protocol), methods, {}, progress)
    assert done == totals
    assert len(done) == 4


# --- reused lookups and refusals ------------------------------------------------------------------


def test_a_lookup_can_be_reused(tiny_world: World) -> None:
    (first,) = outcomes(tiny_world.session(), AutoFeat(max_freq=1.0))
    assert first.lookup_csv is not None
    reused = {"table": first.lookup_csv}
    (second,) = outcomes(tiny_world.session(), AutoFeat(lookup="table"), **reused)
    assert_same([second], [first])
    with pytest.raises(SemsegError, match="for none of the classes"):
        outcomes(tiny_world.session(classes=("floor",)), AutoFeat(lookup="table"), **reused)


def test_no_class_with_a_latent_is_an_error_that_says_what_to_try(tiny_world: World) -> None:
    with pytest.raises(SemsegError, match=r"No class has a latent.*--label-threshold"):
        outcomes(tiny_world.session(), AutoFeat(max_freq=1e-6))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"vit_layer": 4}, "Layer 4 does not exist: the ViT has layers 1 to 3"),
        ({"patch_size_px": 14}, "patch_size_px is 14, the ViT has 32"),
        ({"n_patches_per_img": 256}, "n_patches_per_img is 256, the ViT has 49"),
        ({"cls_token": False}, "cls_token is False, the ViT has True"),
        ({"sae_ckpt": None}, "Missing --sae-ckpt"),
        ({"imgs": Imgs()}, "Missing --imgs-root"),
        ({"split": "test"}, "no split 'test'"),
        ({"act_norm": 0.0}, "act_norm must be one number above 0"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    tiny_world: World, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(SemsegError, match=sentence):
        open_session(tiny_world.setup(**changes))


def test_an_autoencoder_or_head_of_another_width_is_refused(
    tiny_world: World, tmp_path: Path
) -> None:
    saes.save(tmp_path / "sae.pt", make_sae(d_model=16))
    with pytest.raises(SemsegError, match="SAE reads width 16, the ViT has width 24"):
        open_session(tiny_world.setup(sae_ckpt=str(tmp_path / "sae.pt")))
    save_head(tmp_path / "wide.pt", make_head(d_model=16))
    with pytest.raises(SemsegError, match="head reads width 16, the ViT has width 24"):
        open_session(tiny_world.setup(seg_ckpt=str(tmp_path / "wide.pt")))
    save_head(tmp_path / "long.pt", make_head(n_classes=7))
    with pytest.raises(SemsegError, match=r"head knows 7 classes .* the dataset 5"):
        open_session(tiny_world.setup(seg_ckpt=str(tmp_path / "long.pt")))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_asked_for_and_absent_is_refused() -> None:
    assert find_device("auto").type == "cpu"
    with pytest.raises(SemsegError, match="--device cpu"):
        find_device("cuda")


# --- real images ------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_real_images_go_through_the_whole_pipeline(
    ade20k_sample: Path, tmp_path: Path, protocol: Protocol
) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 14}
    make_vit(registers=4, seed=5, **sizes).save_pretrained(tmp_path / "vit")
    saes.save(tmp_path / "sae.pt", make_sae(d_model=32, d_sae=96))
    save_head(tmp_path / "head.pt", make_head(d_model=32, n_classes=150))
    setup = Setup(
        vit_ckpt=str(tmp_path / "vit"),
        sae_ckpt=str(tmp_path / "sae.pt"),
        seg_ckpt=str(tmp_path / "head.pt"),
        vit_layer=1,
        imgs=Imgs(root=ade20k_sample),
        lookup_split="validation",
        protocol=protocol,
        n_patches_per_img=256,
        device="cpu",
        cache_dir=tmp_path / "cache",
    )
    found = outcomes(open_session(setup), AutoFeat(max_freq=1.0), RandVec(scale=(20.0,)))
    reports: list[Report] = [outcome.report for outcome in found]
    assert [report.n_patches for report in reports] == [3 * 256] * 2
    auto, vector = reports
    assert 5 < len(auto.class_results) < 100
    assert {r.class_name for r in auto.class_results} >= {"wall", "building"}
    assert len(vector.class_results) == 150
    assert sum(r.n_orig_patches for r in vector.class_results) == 3 * 256
    assert not vector.is_pooled_telling
    assert auto.edit_norm is not None
    assert auto.edit_norm > 0
