"""How far off the clean residuals: against textbook formulas, and the edit done in full."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from worlds import World, make_tiny_world, members

from semseg_cli.engine.edited_batch import clean_state
from semseg_cli.engine.edits import Edit, Intervention, Latents
from semseg_cli.engine.evaluate import evaluate
from semseg_cli.engine.latent_edits import set_latents
from semseg_cli.engine.manifold import (
    HELD_OUT,
    Ground,
    Manifold,
    fit_manifold,
    make_manifold,
    shrunk,
)
from semseg_cli.engine.measured import table_of
from semseg_cli.engine.random_edits import rand_vec
from semseg_cli.engine.readings import Readings
from semseg_cli.experiment.run import run
from semseg_cli.experiment.session import Session
from semseg_cli.settings.inputs import Protocol
from semseg_cli.settings.methods import AutoFeat, RandVec

LATENTS = {1: [3, 7], 2: [13], 4: [5, 20], 5: [2]}


def random_manifold(
    seed: int = 0, d: int = 6, n: int = 400
) -> tuple[Manifold, Tensor, Tensor, Tensor]:
    """A manifold of correlated normal residuals: made of the first, held against the second.

    The third are neither.
    """
    draw = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=draw, dtype=torch.float64)
    x, held, new = torch.randn(3, n, d, generator=draw, dtype=torch.float64) @ mix + 3
    found = make_manifold(x.mean(dim=0), x.T @ x / n, n, held)
    assert found is not None
    return found, x, held, new


def test_distances_are_mahalanobis_under_the_shrunk_covariance() -> None:
    manifold, x, held, _ = random_manifold()
    covariance = shrunk(torch.cov(x.T, correction=0), len(x)).numpy()
    away = (held - x.mean(dim=0)).numpy()
    expected = np.einsum("nd,de,ne->n", away, np.linalg.inv(covariance), away)
    assert manifold.squares_n.numpy() == pytest.approx(np.sort(expected), rel=1e-4)
    ground = Ground.of(manifold, held.float()[None])
    assert ground.white_btd.square().sum(dim=2)[0].numpy() == pytest.approx(expected, rel=1e-3)


def test_quantiles_are_shares_of_those_that_lie_nearer() -> None:
    manifold, *_ = random_manifold()
    squares = torch.tensor([0.0, float(manifold.squares_n[99]) + 1e-4, 1e9])
    assert manifold.quantiles(squares).tolist() == pytest.approx([0.0, 0.25, 1.0])


def test_new_clean_residuals_are_as_far_as_those_held_out() -> None:
    """Their quantiles are uniform, also where there are few residuals for the width."""
    means = []
    for seed in range(20):
        manifold, _, _, new = random_manifold(seed, d=30, n=60)
        ground = Ground.of(manifold, new.float()[None])
        means.append(float(manifold.quantiles(ground.white_btd.square().sum(dim=2)).mean()))
    assert np.mean(means) == pytest.approx(0.5, abs=0.05)


def test_shrinkage_by_hand() -> None:
    """Chen et al. 2010, eq. 23, for variances 3 and 1: trace 4, trace of the square 10, d = 2."""
    share = 16 / ((9 + 1 - 1) * (10 - 16 / 2))
    assert shrunk(torch.diag(torch.tensor([3.0, 1.0]).double()), 9).diagonal().tolist() == (
        pytest.approx([3 - share, 1 + share])
    )
    few = shrunk(torch.diag(torch.tensor([3.0, 1.0]).double()), 1)
    assert few.tolist() == [[2.0, 0.0], [0.0, 2.0]]  # all of it
    equal = torch.eye(3).double()
    assert torch.equal(shrunk(equal, 9), equal)


def test_equal_residuals_have_no_manifold() -> None:
    x = torch.ones(9, 4, dtype=torch.float64)
    assert make_manifold(x[0], torch.ones(4, 4).double(), 9, x) is None


# --- in the network -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    return make_tiny_world(tmp_path_factory.mktemp("manifold")).session()


@pytest.fixture(scope="module")
def manifold(session: Session) -> Manifold:
    found = fit_manifold(session.pipeline, session.loader(session.lookup_dataset))
    assert found is not None
    return found


def test_a_fourth_of_the_images_is_held_out(session: Session, manifold: Manifold) -> None:
    pipeline = session.pipeline
    found: dict[bool, list[Tensor]] = {True: [], False: []}
    for batch in session.loader(session.lookup_dataset):
        patches = pipeline.patches(pipeline.residual(batch.images_bchw)).double()
        for position, x in zip(batch.positions_b.tolist(), patches, strict=True):
            found[position % HELD_OUT == 0].append(x)
    x, held = torch.cat(found[False]), torch.cat(found[True])
    assert (len(x), len(held)) == (5 * 49, 2 * 49)
    expected = make_manifold(x.mean(dim=0), x.T @ x / len(x), len(x), held)
    assert expected is not None
    assert torch.allclose(manifold.squares_n, expected.squares_n, rtol=1e-3)
    assert torch.allclose(manifold.mean_d, x.mean(dim=0).float(), atol=1e-4)


def test_batches_do_not_change_the_manifold(session: Session, manifold: Manifold) -> None:
    small = replace(session, setup=replace(session.setup, batch_size=2))
    found = fit_manifold(small.pipeline, small.loader(session.lookup_dataset))
    assert found is not None
    assert torch.allclose(found.squares_n, manifold.squares_n, rtol=1e-3)


def slow_quantiles(session: Session, manifold: Manifold, edit: Edit, row: int | None) -> list[Any]:
    """Per image the quantiles of patches that are moved in full, each by its label's row."""
    pipeline, found = session.pipeline, []
    for batch in session.loader(session.dataset):
        tokens = pipeline.residual(batch.images_bchw)
        state = clean_state(pipeline, batch, tokens, [Intervention((edit,))])
        x = pipeline.patches(tokens)
        units = edit.units(batch.indices_b, 24)
        for b in range(len(batch)):
            moved = x[b].clone()
            for t in range(49):
                label = int(batch.labels_bt[b, t])
                own = (
                    row
                    if row is not None
                    else (edit.class_ids.index(label) if label in edit.class_ids else -1)
                )
                if own >= 0:
                    moved[t] += delta(edit, state.readings, b, t, own, units)
            square = ((moved - manifold.mean_d) @ manifold.whitener_dd.T).square().sum(dim=1)
            found.append(manifold.quantiles(square))
    return found


def delta(edit: Edit, readings: Readings, b: int, t: int, row: int, units: Tensor | None) -> Tensor:
    if edit.reads is None:
        assert units is not None
        return edit.values_kg[row, 0] * units[b, row]
    assert isinstance(edit.reads, Latents)
    assert edit.directions_kgd is not None
    total, acts = torch.zeros(24), readings.acts[edit.reads.sae]
    for g, latent in enumerate(edit.reads.ids_kg[row].tolist()):
        if latent >= 0:
            total += (edit.values_kg[row, g] - acts[latent][b, t]) * edit.directions_kgd[row, g]
    return total if units is None else (1 if edit.scale > 0 else -1) * total.norm() * units[b, row]


@pytest.mark.parametrize("protocol", ["class", "label"])
@pytest.mark.parametrize("kind", ["latents", "matched vector", "vector"])
def test_edited_patches_are_as_far_off_as_those_moved_in_full(
    session: Session, manifold: Manifold, protocol: Protocol, kind: str
) -> None:
    pipeline = session.pipeline
    edit = rand_vec(pipeline, 9.0, seed=1)
    if kind != "vector":
        edit = set_latents(pipeline, "m", -2.0, members(LATENTS))
    if kind == "matched vector":
        edit = replace(edit, towards="random", seed=1)
    loader = session.loader(session.dataset)
    (found,) = evaluate(
        pipeline, [Intervention((edit,))], loader, protocol, n_classes=5, manifold=manifold
    )
    table = table_of(found)
    labels = torch.cat([batch.labels_bt for batch in session.loader(session.dataset)])
    for k, class_id in enumerate(table_ids(found)):
        by_label = protocol == "label" and not edit.is_shared
        row = None if by_label else (0 if edit.is_shared else k)
        for b, quantiles in enumerate(slow_quantiles(session, manifold, edit, row)):
            counted = quantiles[labels[b] == class_id] if by_label else quantiles
            # A patch whose distance is that of one held out, but for rounding, may fall either way.
            expected = pytest.approx(float(counted.sum()), abs=0.05)
            assert table["off_manifold_sum"][b, k] == expected


def table_ids(found: Any) -> list[int]:
    return found.counts.class_ids.tolist()


def test_reports_say_how_far_off_edits_are(known_world: World, tiny_world: World) -> None:
    (ablation, far) = run(tiny_world.session(), [AutoFeat(scale=(0.0, -10.0), max_freq=1.0)], {})
    near, off = (one.report.extra["off_manifold"] for one in (ablation, far))
    assert 0.3 < near < off <= 1.0
    (still,) = run(tiny_world.session(), [RandVec(scale=(1e-6,))], {})
    assert 0.3 < still.report.extra["off_manifold"] < 0.7  # clean residuals of other images
    assert "off_manifold" in still.report.class_results[0].outcomes


def test_without_a_lookup_split_the_rest_is_measured(tiny_world: World) -> None:
    session = tiny_world.session()
    session.setup = replace(session.setup, lookup_split="nowhere")
    del session.__dict__["lookup_dataset"]
    (outcome,) = run(session, [RandVec(scale=(9.0,))], {})
    assert "off_manifold" not in outcome.report.extra
    assert "edit_ratio" in outcome.report.extra
