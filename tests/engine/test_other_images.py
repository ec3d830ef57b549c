"""A sample of the images without a class stands for all of them, and no number knows the way."""

import copy
import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from worlds import World, members

from semseg_cli.engine.edits import Intervention
from semseg_cli.engine.evaluate import evaluate
from semseg_cli.engine.latent_edits import set_latents
from semseg_cli.engine.measured import Measured, to_report, weighted_table
from semseg_cli.engine.other_images import LEAST, image_weights, may_sample, n_sampled
from semseg_cli.engine.peers import predicted_patches
from semseg_cli.experiment.session import Session

LATENTS = {1: 3, 2: 13, 4: 5, 5: 20}


def run(session: Session, weight_bc: Tensor | None) -> Measured:
    edits = tuple(
        set_latents(session.pipeline, "set", scale, members(LATENTS)) for scale in (-2.0, -1.0)
    )
    (found,) = evaluate(
        session.pipeline,
        [Intervention(edits)],
        session.loader(session.dataset),
        n_classes=5,
        weight_bc=weight_bc,
    )
    return found


@pytest.fixture(scope="module")
def session(tiny_world: World) -> Session:
    """Its head hardly ever says classes 1 and 2, so that most images are without them."""
    session = tiny_world.session()
    head = copy.deepcopy(session.pipeline.class_head)
    head.bias.data[1:3] -= torch.tensor([4.0, 6.0])
    session.pipeline = replace(session.pipeline, head=head)
    return session


@pytest.fixture(scope="module")
def n_own_bc(session: Session) -> Tensor:
    return predicted_patches(session.pipeline, session.loader(session.dataset), 5)


@pytest.mark.parametrize(
    ("n_with", "n_without", "asked", "expected"),
    [
        (0, 129, "auto", 129),
        (0, 130, "auto", LEAST),
        (150, 1850, "auto", 150),
        (5, 1995, "auto", LEAST),
        (900, 1100, "auto", 900),
        (980, 1020, "auto", 980),
        (990, 1010, "auto", 1010),
        (5, 1995, "all", 1995),
        (5, 1995, 40, 40),
        (5, 30, 40, 30),
    ],
)
def test_how_many_are_run(n_with: int, n_without: int, asked: Any, expected: int) -> None:
    assert n_sampled(n_with, n_without, asked) == expected


@given(st.integers(1, 400), st.one_of(st.sampled_from(["auto", "all"]), st.integers(3, 300)))
def test_where_nothing_could_be_sampled_nothing_is(n_images: int, asked: Any) -> None:
    sampled = any(n_sampled(k, n_images - k, asked) < n_images - k for k in range(n_images + 1))
    assert may_sample(n_images, asked) == sampled


def test_the_sample_is_every_image_with_the_class_and_even_chances_for_the_others() -> None:
    n_own = torch.tensor([0, 3, 0, 0, 7, 0, 0, 0])[:, None]
    taken = torch.zeros(8)
    for seed in range(2000):
        weight_b = image_weights(n_own, range(8), 3, seed)[:, 0]
        assert weight_b[[1, 4]].tolist() == [1.0, 1.0]
        assert sorted(set(weight_b.tolist())) == [0.0, 1.0, 2.0]
        assert float(weight_b.sum()) == 8.0
        taken += weight_b > 0
    share = taken[[0, 2, 3, 5, 6, 7]] / 2000
    assert (share - 0.5).abs().max() < 4 * 0.5 / 2000**0.5


def test_larger_samples_contain_smaller_ones_and_subsets_what_they_can() -> None:
    n_own = torch.zeros(50, 2, dtype=torch.int64)
    small, large = (image_weights(n_own, range(50), n, 7) > 0 for n in (10, 30))
    assert bool((large | ~small).all())
    assert not torch.equal(small[:, 0], small[:, 1])
    part = image_weights(n_own[::2], range(0, 50, 2), 10, 7) > 0
    assert bool((part | ~small[::2]).all())


def test_over_all_samples_the_estimates_are_the_whole(session: Session, n_own_bc: Tensor) -> None:
    """Every pair of the images without a class, one after the other: the mean is exact."""
    whole, n_images = run(session, None), len(session.dataset)
    class_id = next(c for c in LATENTS if 2 < int((n_own_bc[:, c - 1] == 0).sum()) < n_images)
    row = list(LATENTS).index(class_id)
    without = torch.nonzero(n_own_bc[:, class_id - 1] == 0).flatten().tolist()
    found: dict[str, list[np.ndarray]] = {}
    moved = []
    for pair in itertools.combinations(without, 2):
        weight_bc = torch.ones(n_images, 5, dtype=torch.float64)
        weight_bc[without, class_id - 1] = 0.0
        weight_bc[list(pair), class_id - 1] = len(without) / 2
        one = run(session, weight_bc)
        for name, values in weighted_table(one).items():
            found.setdefault(name, []).append(values[:, row].sum())
        assert one.outcomes is not None
        assert one.counts.factor_k is not None
        of_absent = one.outcomes.of_absent[row] * (one.counts.factor_k[row] - 1)
        moved.append(one.outcomes.segmented[row] + of_absent)
        assert torch.equal(one.counts.matrix, whole.counts.matrix)
        draws = one.counts.weighted_rk4
        assert torch.equal(draws[:, :, [0, 1]], whole.counts.per_draw[:, :, [0, 1]])
        assert torch.equal(draws[..., 2], whole.counts.per_draw[..., 2])
        assert torch.equal(
            draws.sum(dim=0)[:, 3], one.counts.weighted_bk4[..., 3].sum(dim=0).round().long()
        )
    for name, values in weighted_table(whole).items():
        assert np.mean(found[name]) == pytest.approx(values[:, row].sum(), rel=1e-6, abs=1e-6), name
    assert whole.outcomes is not None
    mean = torch.stack(moved).mean(dim=0)
    assert torch.allclose(mean, whole.outcomes.segmented[row].double())


def test_a_sample_of_all_is_all(session: Session, n_own_bc: Tensor) -> None:
    assert not may_sample(len(session.dataset), "auto")
    weight_bc = image_weights(n_own_bc, session.dataset.indices, "all", 3)
    assert torch.equal(weight_bc, torch.ones_like(weight_bc))
    names = session.dataset.class_names
    reports = [to_report(run(session, w), names, "class").to_dict() for w in (None, weight_bc)]
    assert reports[0] == reports[1]
    assert "run_share" not in reports[0]["extra"]


def test_a_report_says_how_large_the_sample_was(session: Session, n_own_bc: Tensor) -> None:
    weight_bc = image_weights(n_own_bc, session.dataset.indices, 3, 3)
    found = run(session, weight_bc)
    report = to_report(found, session.dataset.class_names, "class")
    whole = to_report(run(session, None), session.dataset.class_names, "class")
    is_run_bk = weight_bc[:, torch.tensor(list(LATENTS)) - 1] > 0
    assert report.extra["run_share"] == pytest.approx(float(is_run_bk.double().mean()), abs=1e-6)
    assert report.n_patches == whole.n_patches
    for row, (one, other) in enumerate(zip(report.class_results, whole.class_results, strict=True)):
        n_without = int((n_own_bc[:, one.class_id - 1] == 0).sum())
        assert one.outcomes["n_other_images"] == min(3, n_without)
        assert (one.n_orig_patches, one.n_changed_patches) == (
            other.n_orig_patches,
            other.n_changed_patches,
        )
        assert one.n_other_patches == other.n_other_patches
        assert int(is_run_bk[:, row].sum()) == len(n_own_bc) - n_without + min(3, n_without)
