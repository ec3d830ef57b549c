"""How often a latent is chosen again: against recounting the resampled patches one by one."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from semseg_cli.engine import blocks, stability
from semseg_cli.engine.blocks import block_of
from semseg_cli.engine.counts import Counts
from semseg_cli.engine.detections import Detections, rank_latents
from semseg_cli.engine.stability import (
    LEAST_BLOCKS,
    N_BLOCKS,
    RESAMPLES,
    by_block,
    chosen_again,
    resamples,
    told,
    with_effect_stability,
    with_f1_stability,
)
from semseg_cli.engine.thresholds import Thresholds
from semseg_cli.experiment.choose_latents import choose_latents
from semseg_cli.experiment.session import Session
from semseg_cli.models.sae.statistics import SaeStats
from semseg_cli.runs.lookup_csv import LookupRow
from semseg_cli.settings.latent_choice import Choose

N_IMAGES, N_LATENTS, LEVELS = 12, 5, (0.1, 0.5)
NAMES = ["a", "b"]
STATS = SaeStats(
    torch.zeros(3), 1.0, torch.tensor([0.1, 0.1, 0.1, 0.1, 0.9]), torch.ones(N_LATENTS)
)


def patches(seed: int, n: int = 80) -> tuple[Tensor, Tensor, Tensor]:
    """Activations on a grid, labels with 0, and images; all latents are about as good."""
    draw = torch.Generator().manual_seed(seed)
    grid = torch.tensor([0.0, 0.0, 0.3, 0.7, -0.2])
    f_ns = grid[torch.randint(0, 5, (n, N_LATENTS), generator=draw)]
    labels_n, images_n = (torch.randint(0, k, (n,), generator=draw) for k in (3, N_IMAGES))
    return f_ns, labels_n, images_n


def detections_of(f_ns: Tensor, labels_n: Tensor, images_n: Tensor, cuts: int = 1) -> Detections:
    made = Detections(
        N_IMAGES, 2, N_LATENTS, Thresholds.absolute(LEVELS), candidates_s=STATS.sparsity < 0.5
    )
    for part in zip(*(each.tensor_split(cuts) for each in (f_ns, labels_n, images_n)), strict=True):
        made.add(*part)
    return made


def slow_winners(
    f_ns: Tensor, labels_n: Tensor, class_id: int, times: Sequence[int], n_chosen: int
) -> list[int]:
    """The best latents when each patch counts so many times; none that detects nothing."""
    scores = []
    for latent in range(N_LATENTS - 1):
        best = 0.0
        for level in LEVELS:
            tp = fp = fn = 0
            for f, label, n in zip(f_ns[:, latent].tolist(), labels_n.tolist(), times, strict=True):
                tp += n * (label == class_id and f > level)
                fp += n * (label != class_id and f > level)
                fn += n * (label == class_id and not f > level)
            best = max(best, 2 * tp / max(1, 2 * tp + fp + fn))
        scores.append((-best, latent))
    return [latent for score, latent in sorted(scores)[:n_chosen] if score < 0]


@pytest.mark.parametrize("n_chosen", [1, 2])
@given(seed=st.integers(0, 2**31), cuts=st.integers(1, 5), pending=st.sampled_from([0, 20, 10**6]))
@settings(max_examples=4, deadline=None)
def test_stability_is_that_of_choosing_anew_from_resampled_patches(
    n_chosen: int, seed: int, cuts: int, pending: int
) -> None:
    f_ns, labels_n, images_n = patches(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "PENDING", pending)
        patch.setattr(stability, "RESAMPLES", 25)
        made = detections_of(f_ns, labels_n, images_n, cuts)
        weights = resamples(N_IMAGES)
        rows = rank_latents(made, STATS, NAMES, 0.5, top_k=9, n_chosen=n_chosen)
        assert made.blocks is not None
        found = with_f1_stability(rows, made.blocks, n_chosen)
    assert [replace(row, stability=None, runner_up=None) for row in found] == rows
    for class_id in (1, 2):
        won = [0.0] * N_LATENTS
        for drawn in weights:
            times = drawn[images_n.numpy()].astype(int).tolist()
            for latent in slow_winners(f_ns, labels_n, class_id, times, n_chosen):
                won[latent] += 1 / len(weights)
        own = {row.latent: row.stability for row in found if row.class_id == class_id}
        assert own == pytest.approx({latent: won[latent] for latent in own})


@given(st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_block_counts_add_up_to_all_counts(seed: int) -> None:
    f_ns, labels_n, images_n = patches(seed)
    made = detections_of(f_ns, labels_n, images_n, 3)
    assert made.blocks is not None
    assert torch.equal(made.blocks.n.sum(dim=0), made.n)
    labels, latents = (t.flatten() for t in torch.meshgrid(
        torch.arange(3), torch.arange(N_LATENTS - 1), indexing="ij"
    ))  # fmt: skip
    tp, active = made.blocks.counts_of(labels, latents)
    for i, (label, latent) in enumerate(zip(labels.tolist(), latents.tolist(), strict=True)):
        assert torch.equal(tp[:, :, i].sum(dim=0), made.tp[label, :, latent])
        assert torch.equal(active[:, :, i].sum(dim=0), made.tp[:, :, latent].sum(dim=0))


@given(st.integers(1, 1000))
def test_blocks_are_neighbours_of_almost_equal_size(n_images: int) -> None:
    found = block_of(torch.arange(n_images), n_images)
    sizes = torch.bincount(found)
    assert torch.equal(found, found.sort().values)
    assert len(sizes) == min(N_BLOCKS, n_images)
    assert int(sizes.max() - sizes.min()) <= 1


def test_every_resample_has_as_many_blocks_as_there_are() -> None:
    drawn = resamples(30)
    assert drawn.shape == (RESAMPLES, 30)
    assert (drawn.sum(axis=1) == 30).all()
    assert np.array_equal(drawn, resamples(30))  # the same in every run


def row(latent: int, rank: int, *, chosen: bool = False) -> LookupRow:
    return LookupRow(1, "a", rank, latent, chosen, 0.1, 0.1, 0.9, 0.9, 0.9, 0.8, 10, 0.01, 1.0)


def test_the_runner_up_is_chosen_most_often_among_the_others() -> None:
    rows = [row(8, 1, chosen=True), row(3, 2), row(5, 3)]
    assert [r.runner_up for r in told(rows, [0.6, 0.1, 0.3])] == [5, None, None]
    assert [r.runner_up for r in told(rows, [1.0, 0.0, 0.0])] == [3, None, None]
    assert [r.runner_up for r in told(rows, [None] * 3)] == [3, None, None]
    assert told(rows[:1], [1.0])[0].runner_up is None


def test_a_resample_without_the_class_chooses_nothing() -> None:
    scores = np.array([[0.2, 0.1], [-np.inf, -np.inf], [0.1, 0.1], [0.0, 0.3]])
    assert chosen_again(scores, 1).tolist() == [0.5, 0.25]
    assert chosen_again(scores, 2).tolist() == [0.75, 0.75]


@pytest.mark.parametrize("n_having", [LEAST_BLOCKS - 1, LEAST_BLOCKS])
def test_nothing_is_said_of_a_class_in_few_blocks(n_having: int) -> None:
    images_n = torch.arange(N_IMAGES)
    labels_n = (images_n < n_having).long()
    f_ns = labels_n[:, None] * torch.tensor([1.0, 0.3, 0.0, 0.0, 0.0])
    made = detections_of(f_ns, labels_n, images_n)
    assert made.blocks is not None
    rows = with_f1_stability(rank_latents(made, STATS, NAMES, 0.5, top_k=9), made.blocks, 1)
    is_thin = n_having < LEAST_BLOCKS
    assert (rows[0].stability is None) == is_thin
    assert is_thin or rows[0].stability > 0.95  # type: ignore[operator]
    assert rows[0].runner_up == 1


# --- the causal rule ----------------------------------------------------------------------------


def slow_effect(counts: Tensor, times: Sequence[int]) -> float | None:
    total = sum(
        (n * image for n, image in zip(times, counts, strict=True)),
        start=torch.zeros(4, dtype=torch.int64),
    )
    n_orig, n_changed, n_other, n_other_changed = total.tolist()
    return n_changed / n_orig - n_other_changed / max(1, n_other) if n_orig else None


@given(st.integers(0, 2**31))
@settings(max_examples=5, deadline=None)
def test_the_causal_stability_is_that_of_choosing_anew_from_resampled_images(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    counts = Counts([1, 1, 2], N_IMAGES, n_classes=2)
    n_orig, n_other = torch.randint(0, 5, (2, N_IMAGES, 1), generator=draw).expand(-1, -1, 3)
    shares = torch.rand(2, N_IMAGES, 3, generator=draw)
    columns = (n_orig, (n_orig * shares[0]).long(), n_other, (n_other * shares[1]).long())
    counts.per_image = torch.stack(columns, dim=2)
    rows = [row(4, 1, chosen=True), row(2, 2), replace(row(3, 1, chosen=True), class_id=2)]
    found = with_effect_stability(
        rows, by_block(counts.per_image, torch.arange(N_IMAGES), N_IMAGES), 1
    )
    won = [0.0, 0.0, 0.0]
    for drawn in resamples(N_IMAGES):
        effects = [
            slow_effect(counts.per_image[:, i], drawn.astype(int).tolist()) for i in range(3)
        ]
        for own in ([0, 1], [2]):
            known = [(-effects[i], i) for i in own if effects[i] is not None]  # type: ignore[operator]
            if known:
                won[min(known)[1]] += 1 / RESAMPLES
    assert [r.stability for r in found] == pytest.approx(won)


def test_ranks_add_their_images_to_the_same_blocks() -> None:
    per_image = torch.arange(7 * 2 * 4).view(7, 2, 4)
    every = torch.arange(7)
    whole = by_block(per_image, every, 7)
    parts = [by_block(per_image[part], every[part], 7) for part in (slice(3), slice(3, 7))]
    assert torch.equal(parts[0] + parts[1], whole)
    assert torch.equal(whole, per_image)


# --- a whole choice -----------------------------------------------------------------------------


@pytest.mark.parametrize("select", ["f1", "causal"])
def test_chosen_rows_have_a_runner_up_whatever_is_listed(tiny: Session, select: str) -> None:
    (few,) = choose_latents(tiny, Choose(max_freq=1.0, top_k=1, select=select)).values()  # type: ignore[arg-type]
    assert all(row.chosen for row in few)
    if select == "f1":  # the causal rule has no other candidate
        (more,) = choose_latents(tiny, Choose(max_freq=1.0, top_k=4)).values()
        assert [row for row in more if row.rank == 1] == few
        assert all(row.runner_up is not None and row.runner_up != row.latent for row in few)
    assert all(row.stability is None or 0 <= row.stability <= 1 for row in few)
