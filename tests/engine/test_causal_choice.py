"""The causal rule: it chooses what drives, not what detects."""

import pytest
import torch
from torch import Tensor
from worlds import (
    PLANTED,
    World,
    known_sae,
    make_known_world,
    members,
    slow_predict,
    slow_predict_edited,
)

from semseg_cli.engine import counts
from semseg_cli.engine.causal_choice import effect_of
from semseg_cli.engine.halving import selection_images
from semseg_cli.experiment.choose_latents import choose_latents
from semseg_cli.experiment.run import run
from semseg_cli.experiment.session import Session
from semseg_cli.models.sae import SparseAutoencoder, Threshold
from semseg_cli.runs.lookup_csv import LookupRow, Member, Reused, chosen_latents
from semseg_cli.settings.latent_choice import Choose
from semseg_cli.settings.methods import AutoFeat

DECOY = 13  # writes where nobody reads


def decoy_sae() -> SparseAutoencoder:
    """Class 1's latent also fires on class 2's patches; latent 13 fires on class 1 alone."""
    sae = known_sae()
    w_enc = sae.W_enc.clone()
    driver, other = PLANTED[1], PLANTED[2]
    w_enc[:, DECOY] = sae.W_enc[:, driver]
    w_enc[:, driver] = sae.W_enc[:, driver] + sae.W_enc[:, other]
    return SparseAutoencoder(w_enc, sae.b_enc, sae.W_dec, sae.b_dec, Threshold(0.01))


@pytest.fixture(scope="module")
def decoy_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_known_world(tmp_path_factory.mktemp("decoy"), decoy_sae())


def rows_of(session: Session, **changes: object) -> list[LookupRow]:
    (rows,) = choose_latents(session, Choose(max_freq=1.0, **changes)).values()  # type: ignore[arg-type]
    return rows


def test_f1_takes_the_latent_that_only_detects_and_causal_the_one_that_drives(
    decoy_world: World,
) -> None:
    session = decoy_world.session()
    assert chosen_latents(rows_of(session)) == members({**PLANTED, 1: DECOY})
    assert chosen_latents(rows_of(session, select="causal")) == members(PLANTED)
    wall = [row for row in rows_of(session, select="causal") if row.class_id == 1]
    assert [(row.latent, row.chosen) for row in wall] == [(DECOY, False), (PLANTED[1], True)]
    assert wall[0].f1 > wall[1].f1
    assert [row.selectivity for row in wall] == [0.0, 1.0]
    assert [row.target_change for row in wall] == [0.0, 1.0]


def test_the_report_says_what_the_choice_is_worth(decoy_world: World) -> None:
    session = decoy_world.session(classes=("wall",))
    methods = [AutoFeat(max_freq=1.0), AutoFeat(max_freq=1.0, select="causal")]
    by_f1, causal = (o.report for o in run(session, methods, {}))
    assert (by_f1.mean_target_change, by_f1.mean_other_change) == (0.0, 0.0)
    assert (causal.mean_target_change, causal.mean_other_change) == (1.0, 0.0)


def test_only_reports_gather_counts_per_image(
    decoy_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    gathered = []

    def gather(own: Tensor, n_all: int) -> Tensor:
        gathered.append(n_all)
        return own

    monkeypatch.setattr(counts, "gather_counts", gather)
    session = decoy_world.session()
    rows_of(session, select="causal")
    assert gathered == []
    run(session, [AutoFeat(max_freq=1.0, select="causal", scale=(-2.0, -1.0))], {})
    assert gathered == [len(session.dataset)] * 2


def test_with_one_candidate_there_is_no_choice(decoy_world: World) -> None:
    rows = rows_of(decoy_world.session(), select="causal", top_k=1)
    assert chosen_latents(rows) == members({**PLANTED, 1: DECOY})


def test_the_choice_is_made_for_each_scale_by_itself(decoy_world: World) -> None:
    chosen = choose_latents(
        decoy_world.session(), Choose(max_freq=1.0, select="causal", scale=(-2.0, 10.0))
    )
    assert set(chosen) == {-2.0, 10.0}
    assert chosen_latents(chosen[-2.0])[1] == [Member(PLANTED[1])]
    # Raised ten times, the driver pulls all other patches over: the decoy is less bad.
    assert chosen_latents(chosen[10.0])[1] == [Member(DECOY)]


def test_ties_go_to_the_better_f1(decoy_world: World) -> None:
    # Set to its own maximum, wall's weak latent changes no prediction: its candidates are equal.
    session = decoy_world.session(classes=("wall",))
    rows = rows_of(session, select="causal", scale=(1.0,))
    assert [(row.latent, row.selectivity) for row in rows] == [(DECOY, 0.0), (PLANTED[1], 0.0)]
    assert [row.chosen for row in rows] == [True, False]


# --- by cause -----------------------------------------------------------------------------------


def test_cause_finds_the_driver_that_f1_does_not_list(decoy_world: World) -> None:
    session = decoy_world.session()
    rows = rows_of(session, select="cause", top_k=1, top_cause=1)
    assert chosen_latents(rows) == members(PLANTED)
    wall = [(row.rank, row.latent, row.drives, row.chosen) for row in rows if row.class_id == 1]
    assert [wall[0][:2], wall[1][:2]] == [(1, DECOY), (2, PLANTED[1])]
    assert [wall[0][3], wall[1][3]] == [False, True]
    assert wall[1][2] == 1
    assert wall[0][2] is not None
    assert wall[0][2] > 1
    assert all(row.drives is None for row in rows_of(session, select="causal"))


def test_a_latent_is_no_driver_where_it_fires_too_often(decoy_world: World) -> None:
    session = decoy_world.session()
    too_often = float(session.pipeline.latent_stats.sparsity[PLANTED[1]])
    (rows,) = choose_latents(
        session, Choose(max_freq=too_often, select="cause", top_cause=9)
    ).values()
    assert rows
    assert PLANTED[1] not in {row.latent for row in rows}


def test_drivers_are_those_of_each_scale(decoy_world: World) -> None:
    choice = Choose(max_freq=1.0, select="cause", top_k=1, top_cause=1, scale=(-2.0, 10.0))
    found = choose_latents(decoy_world.session(), choice)
    for scale, rows in found.items():
        (alone,) = choose_latents(
            decoy_world.session(),
            Choose(max_freq=1.0, select="cause", top_k=1, top_cause=1, scale=(scale,)),
        ).values()
        assert rows == alone


def test_with_many_candidates_few_run_on_all_images(tiny: Session) -> None:
    rows = rows_of(tiny, select="cause", top_k=3, top_cause=6)
    n_all = {row.class_id: row.n_tried for row in rows if row.chosen}
    for class_id, n in n_all.items():
        own = [row for row in rows if row.class_id == class_id]
        assert sum(row.chosen for row in own) == 1
        last = [row for row in own if row.n_tried == n]
        assert max(last, key=effect_of).chosen
        assert [row.drives for row in own if row.drives and row.drives <= 6]
        assert all(row.stability is None for row in own if row.n_tried != n)
        runner_up = next(row.runner_up for row in own if row.chosen)
        assert runner_up in {row.latent for row in last if not row.chosen}


# --- which images judge -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("occurs", "n_most", "expected"),
    [
        ("1100", 9, "1111"),
        ("1000", 9, "1100"),
        ("0111", 9, "1111"),
        ("1111", 2, "1010"),
        ("11110000", 2, "10101010"),
        ("000010", 1, "100010"),
        ("0000", 5, "0000"),
    ],
)
def test_images_with_the_class_and_as_many_without(occurs: str, n_most: int, expected: str) -> None:
    given = torch.tensor([c == "1" for c in occurs])
    chosen = selection_images(given, n_most)
    assert "".join("01"[int(c)] for c in chosen) == expected


# --- against the slow way ------------------------------------------------------------------------


def slow_effect(
    session: Session, row: LookupRow, images: list[int], scale: float
) -> tuple[float, float]:
    """Target and other change of one candidate on some images of the lookup split."""
    counts = [0, 0, 0, 0]
    for index in images:
        picture = session.lookup_dataset[index].image_chw[None]
        latents = torch.full((1, 49), row.latent)
        clean = slow_predict(session.pipeline, picture)
        edited = slow_predict_edited(session.pipeline, picture, latents, scale)
        own, changed = clean == row.class_id, clean != edited
        parts = (own, own & changed, ~own, ~own & changed)
        counts = [total + int(part.sum()) for total, part in zip(counts, parts, strict=True)]
    n_own, n_changed, n_other, n_other_changed = counts
    return n_changed / n_own if n_own else 0.0, n_other_changed / n_other if n_other else 0.0


def occurring(session: Session, class_id: int, threshold: float) -> Tensor:
    samples = [session.lookup_dataset[i] for i in range(len(session.lookup_dataset))]
    return torch.tensor(
        [bool(((s.labels_t == class_id) & (s.share_t >= threshold)).any()) for s in samples]
    )


@pytest.mark.parametrize("select_images", [1, 2, 200])
def test_effects_and_choice_are_those_of_each_edit_by_itself(
    tiny: Session, select_images: int
) -> None:
    rows = rows_of(tiny, select="causal", select_images=select_images)
    assert len(rows) == 4 * 3
    best: dict[int, tuple[float, int]] = {}
    for row in rows:
        judges = selection_images(occurring(tiny, row.class_id, 0.9), select_images)
        target, other = slow_effect(tiny, row, torch.nonzero(judges).flatten().tolist(), -2.0)
        assert (row.target_change, row.other_change) == (target, other)
        if row.class_id not in best or target - other > best[row.class_id][0]:
            best[row.class_id] = (target - other, row.latent)
    assert chosen_latents(rows) == members({c: latent for c, (_, latent) in best.items()})
    assert chosen_latents(rows) != chosen_latents(rows_of(tiny))


@pytest.mark.parametrize("batch_size", [1, 128])
def test_batches_do_not_change_the_choice(
    tiny: Session, tiny_world: World, batch_size: int
) -> None:
    other = tiny_world.session(batch_size=batch_size)
    assert rows_of(other, select="causal") == rows_of(tiny, select="causal")


def test_only_the_asked_for_classes_are_tried(tiny_world: World) -> None:
    rows = rows_of(tiny_world.session(classes=("sky",)), select="causal")
    assert {row.class_name for row in rows} == {"sky"}


def test_a_table_of_tried_latents_can_be_reused(decoy_world: World) -> None:
    session = decoy_world.session()
    methods = [AutoFeat(max_freq=1.0, select="causal")]
    (outcome,) = run(session, methods, {})
    assert outcome.lookup_csv is not None
    reused = {"its table": Reused(outcome.lookup_csv)}
    (again,) = run(session, [AutoFeat(lookup="its table")], reused)
    assert again.report == outcome.report
