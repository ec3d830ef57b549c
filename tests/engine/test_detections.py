"""Latents by F1: counts and choice against the obvious loops, ties and bounds by hand."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from worlds import FIRST_NAMES, PLANTED, World

from semseg_cli.data.loader import Loader
from semseg_cli.engine.detections import Detections, count_detections, rank_latents
from semseg_cli.engine.thresholds import ABSOLUTE, SHARES, Thresholds, warn_of_small_maxima
from semseg_cli.experiment.choose_latents import choose_latents
from semseg_cli.experiment.session import Session
from semseg_cli.models.sae.statistics import SaeStats
from semseg_cli.runs.lookup_csv import LookupRow, chosen_latents
from semseg_cli.settings.latent_choice import Choose

N_CLASSES = 4
NAMES = ["a", "b", "c", "d"]
LEVELS = Thresholds.absolute()


def acts(seed: int, n: int, d_sae: int = 6) -> Tensor:
    """Activations on a coarse grid: thresholds are hit exactly, and ties are common."""
    draw = torch.Generator().manual_seed(seed)
    grid = torch.tensor([0.0, 0.0, 0.05, 0.1, 0.2, 0.3, 0.7, 1.0, 1.5])
    return grid[torch.randint(0, len(grid), (n, d_sae), generator=draw)]


def labels(seed: int, n: int, highest: int = N_CLASSES - 1) -> Tensor:
    return torch.randint(0, highest + 1, (n,), generator=torch.Generator().manual_seed(seed + 1))


def detections_of(f_ns: Tensor, labels_n: Tensor, thresholds: Thresholds = LEVELS) -> Detections:
    detections = Detections(1, N_CLASSES, f_ns.shape[1], thresholds)
    detections.add(f_ns, labels_n)
    return detections


def stats(d_sae: int, frequency: list[float] | None = None) -> SaeStats:
    sparsity = torch.tensor(frequency) if frequency else torch.full((d_sae,), 0.001)
    return SaeStats(torch.zeros(3), 1.0, sparsity, torch.ones(d_sae))


def slow_choice(
    f_ns: Tensor, labels_n: Tensor, class_id: int, levels: tuple[float, ...] = ABSOLUTE
) -> tuple[float, int, float] | None:
    """(F1, latent, threshold) by a triple loop; the first best in the order of the ties."""
    best = None
    own = (labels_n == class_id).tolist()
    if not any(own):
        return None
    for latent in range(f_ns.shape[1]):
        for threshold in levels:
            tp = fp = fn = 0
            above = (f_ns[:, latent] > threshold).tolist()
            for is_own, is_active in zip(own, above, strict=True):
                tp += is_own and is_active
                fp += is_active and not is_own
                fn += is_own and not is_active
            f1 = 2 * tp / (2 * tp + fp + fn)
            if f1 > 0 and (best is None or f1 > best[0]):
                best = (f1, latent, threshold)
    return best


@given(st.integers(0, 2**31), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_the_best_latent_is_that_of_a_triple_loop(seed: int, n: int) -> None:
    f_ns, labels_n = acts(seed, n), labels(seed, n)
    rows = rank_latents(detections_of(f_ns, labels_n), stats(6), NAMES, 0.01, top_k=1)
    found = {row.class_id: (row.f1, row.latent, row.threshold) for row in rows}
    slow = {c: slow_choice(f_ns, labels_n, c) for c in range(1, N_CLASSES + 1)}
    assert found == {c: best for c, best in slow.items() if best is not None}
    assert N_CLASSES not in found  # never occurs


@given(st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_true_positives_are_counted_strictly_above_each_threshold(seed: int) -> None:
    f_ns, labels_n = acts(seed, 30), labels(seed, 30)
    detections = detections_of(f_ns, labels_n)
    for label in range(N_CLASSES + 1):
        own = f_ns[labels_n == label]
        assert int(detections.n[label]) == len(own)
        for k, threshold in enumerate(torch.tensor(ABSOLUTE)):
            assert torch.equal(detections.tp[label, k], (own > threshold).sum(dim=0))


@given(st.integers(0, 2**31), st.lists(st.integers(0, 30), max_size=4))
@settings(max_examples=30, deadline=None)
def test_counts_do_not_depend_on_batches(seed: int, cuts: list[int]) -> None:
    f_ns, labels_n = acts(seed, 30), labels(seed, 30)
    whole = detections_of(f_ns, labels_n)
    merged = Detections(1, N_CLASSES, 6, LEVELS)
    edges = [0, *sorted(cuts), 30]
    for start, end in pairwise(edges):
        merged.add(f_ns[start:end], labels_n[start:end])
    assert torch.equal(merged.tp, whole.tp)
    assert torch.equal(merged.n, whole.n)


def one_row(f_ns: list[list[float]], labels_n: list[int]) -> LookupRow:
    made = detections_of(torch.tensor(f_ns), torch.tensor(labels_n))
    return rank_latents(made, stats(len(f_ns[0])), NAMES, 0.01, top_k=1)[0]


def test_a_threshold_is_passed_strictly() -> None:
    # Above 0 both patches are active; 0.1 itself does not pass 0.1.
    row = one_row([[0.1], [0.2]], [0, 1])
    assert (row.threshold, row.f1) == (pytest.approx(0.1), 1.0)


def test_ties_go_to_the_smaller_latent_then_to_the_smaller_threshold() -> None:
    row = one_row([[2.0, 0.05, 2.0], [0.0, 0.0, 0.0]], [1, 0])
    assert (row.latent, row.threshold, row.f1) == (0, 0.0, 1.0)


def test_false_positives_count_everywhere_and_label_zero_is_a_negative() -> None:
    # Class 1 has one patch; the latent fires there, on another class and on an unlabelled patch.
    row = one_row([[0.5], [0.5], [0.5], [0.0]], [1, 2, 0, 1])
    assert (row.precision, row.recall) == (1 / 3, 1 / 2)
    assert row.f1 == 2 / (2 + 2 + 1)
    assert row.iou == 1 / 4
    assert row.n_patches == 2


def test_a_class_without_patches_or_without_detection_has_no_row() -> None:
    made = detections_of(torch.tensor([[1.0], [0.0]]), torch.tensor([1, 2]))
    rows = rank_latents(made, stats(1), NAMES, 0.01, top_k=3)
    assert [row.class_id for row in rows] == [1]


def test_the_bounds_of_the_frequency_are_strict() -> None:
    frequencies = [0.0, 0.005, 0.01, 0.02]
    f_ns = torch.tensor([[1.0, 0.2, 1.0, 1.0], [0.0, 0.2, 0.0, 0.0]])
    made = detections_of(f_ns, torch.tensor([1, 0]))
    for bound, expected in ((0.01, [1]), (0.005, []), (0.011, [2, 1]), (1.0, [2, 3, 1])):
        rows = rank_latents(made, stats(4, frequencies), NAMES, bound, top_k=9)
        assert [row.latent for row in rows] == expected, bound


@pytest.mark.parametrize("frequency", [0.01, 0.05, 0.1, 0.3, 0.7])
def test_a_frequency_of_exactly_max_freq_is_no_candidate(frequency: float) -> None:
    made = detections_of(torch.tensor([[1.0]]), torch.tensor([1]))
    assert rank_latents(made, stats(1, [frequency]), NAMES, frequency, top_k=1) == []


def test_ranks_go_down_by_f1_and_the_first_is_chosen() -> None:
    f_ns, labels_n = acts(3, 60), labels(3, 60)
    rows = rank_latents(detections_of(f_ns, labels_n), stats(6), NAMES, 0.01, top_k=3)
    for class_id in (1, 2, 3):
        own = [row for row in rows if row.class_id == class_id]
        assert [row.rank for row in own] == [1, 2, 3]
        assert [row.chosen for row in own] == [True, False, False]
        assert own[0].f1 >= own[1].f1 >= own[2].f1
        assert len({row.latent for row in own}) == 3
    assert set(chosen_latents(rows)) == {1, 2, 3}


def shares(stats: SaeStats, levels: tuple[float, ...]) -> Thresholds:
    return Thresholds.shares_of_maximum(levels, stats)


@given(
    st.integers(0, 2**31),
    st.lists(st.sampled_from([0.0, 0.05, 0.1, 0.25, 0.5, 0.9]), min_size=1, unique=True),
)
@settings(max_examples=40, deadline=None)
def test_shares_of_the_maximum_are_those_of_a_triple_loop(seed: int, levels: list[float]) -> None:
    f_ns, labels_n = acts(seed, 40), labels(seed, 40)
    f_ns = f_ns * torch.tensor([0.01, 1.0, 3.0, 1e5, 7.0, 0.3])
    own = SaeStats(torch.zeros(3), 1.0, torch.full((6,), 0.001), f_ns.amax(dim=0))
    made = detections_of(f_ns, labels_n, shares(own, tuple(levels)))
    rows = rank_latents(made, own, NAMES, 0.01, top_k=1)
    found = {row.class_id: (row.f1, row.latent, row.threshold_share) for row in rows}
    ordered = tuple(sorted(levels))
    slow = {
        c: slow_choice(f_ns / own.top_values, labels_n, c, ordered) for c in range(1, N_CLASSES + 1)
    }
    assert found == {c: best for c, best in slow.items() if best is not None}


def test_a_threshold_is_written_in_both_units() -> None:
    own = SaeStats(torch.zeros(3), 1.0, torch.tensor([0.001]), torch.tensor([8.0]))
    made = detections_of(torch.tensor([[1.0], [4.0]]), torch.tensor([0, 1]), shares(own, (0, 0.25)))
    (row,) = rank_latents(made, own, NAMES, 0.01, top_k=1)
    assert (row.threshold_share, row.threshold, row.maximum, row.f1) == (0.25, 2.0, 8.0, 1.0)


def test_maxima_that_are_too_small_are_told_and_stay_the_unit(
    caplog: pytest.LogCaptureFixture,
) -> None:
    own = SaeStats(torch.zeros(3), 1.0, torch.tensor([0.001]), torch.tensor([2.0]))
    made = detections_of(torch.tensor([[1.0], [6.0]]), torch.tensor([0, 1]), shares(own, (0, 0.5)))
    (row,) = rank_latents(made, own, NAMES, 0.01, top_k=1)
    assert (row.threshold_share, row.threshold) == (0.5, 1.0)  # of 2, not of 6
    warn_of_small_maxima(float(made.most))
    assert "reach 3 times the maxima" in caplog.text


def test_maxima_measured_on_the_split_itself_are_never_too_small(
    tiny: Session, caplog: pytest.LogCaptureFixture
) -> None:
    choose_latents(tiny, Choose(max_freq=1.0))
    assert "maxima" not in caplog.text


# --- over images --------------------------------------------------------------------------------


@torch.inference_mode()
def slow_patches(session: Session, threshold: float) -> tuple[Tensor, Tensor]:
    """Activations and labels of all clean patches of the lookup split."""
    vit, sae = session.pipeline.vit, session.pipeline.sae
    f, found = [], []
    for batch in session.loader(session.lookup_dataset):
        hidden = vit.model(batch.images_bchw, output_hidden_states=True).hidden_states
        patches = hidden[session.pipeline.layer][:, vit.n_prefix_tokens :]
        clean = batch.share_bt >= threshold
        f.append(sae.encode(sae.scale(patches))[clean])
        found.append(batch.labels_bt[clean])
    return torch.cat(f), torch.cat(found)


@pytest.mark.parametrize("threshold", [0.5, 0.9])
def test_images_are_counted_as_their_clean_patches(tiny: Session, threshold: float) -> None:
    loader = tiny.loader(tiny.lookup_dataset)
    stats = tiny.pipeline.latent_stats
    thresholds = Thresholds.shares_of_maximum(SHARES, stats)
    detections = count_detections(tiny.pipeline, loader, threshold, thresholds)
    f_ns, labels_n = slow_patches(tiny, threshold)
    assert 0 < len(labels_n) < 7 * 49
    rows = rank_latents(detections, stats, FIRST_NAMES, 1.0, top_k=1)
    assert len(rows) == 4
    for row in rows:
        slow = slow_choice(f_ns / stats.top_values, labels_n, row.class_id, SHARES)
        assert slow is not None
        assert (row.f1, row.latent, row.threshold_share) == slow
        assert row.threshold == pytest.approx(slow[2] * row.maximum, rel=1e-12)
    assert detections.occurs.any(dim=0).tolist() == [True] * 5 + [False]


@pytest.mark.parametrize(("batch_size", "n_workers"), [(1, 0), (3, 0), (7, 2)])
def test_batches_and_workers_do_not_change_the_counts(
    tiny: Session, batch_size: int, n_workers: int
) -> None:
    expected = count_detections(tiny.pipeline, tiny.loader(tiny.lookup_dataset), 0.9, LEVELS)
    loader = Loader(tiny.lookup_dataset, batch_size, n_workers)
    found = count_detections(tiny.pipeline, loader, 0.9, LEVELS)
    assert torch.equal(found.tp, expected.tp)
    assert torch.equal(found.n, expected.n)
    assert torch.equal(found.occurs, expected.occurs)


def test_the_planted_latents_are_found_with_f1_one(known_world: World) -> None:
    session = known_world.session()
    stats = session.pipeline.latent_stats
    thresholds = Thresholds.shares_of_maximum(SHARES, stats)
    loader = session.loader(session.lookup_dataset)
    detections = count_detections(session.pipeline, loader, 0.9, thresholds)
    rows = rank_latents(detections, stats, FIRST_NAMES, 1.0, top_k=1)
    assert {row.class_id: row.latent for row in rows} == PLANTED
    assert {(row.f1, row.precision, row.recall, row.iou) for row in rows} == {(1.0,) * 4}
