"""Integer counts: by hand, against a loop, and merged in any order."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor

from semseg_cli.engine.counts import Counts, compute_class_results, flow_matrix
from semseg_cli.runs.report import ClassResults, Report


def preds(seed: int, shape: tuple[int, int], n_classes: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(1, n_classes + 1, shape, generator=draw)


def slow_class_results(orig: Tensor, mod: Tensor, n_classes: int) -> list[ClassResults]:
    found = []
    pairs = list(zip(orig.flatten().tolist(), mod.flatten().tolist(), strict=True))
    for class_id in range(1, n_classes + 1):
        own = [after for before, after in pairs if before == class_id]
        others = [(before, after) for before, after in pairs if before != class_id]
        changed = [after for after in own if after != class_id]
        found.append(
            ClassResults(
                class_id,
                str(class_id),
                len(own),
                len(changed),
                len(others),
                sum(before != after for before, after in others),
                {to: changed.count(to) for to in sorted(set(changed))},
            )
        )
    return found


def test_counts_by_hand() -> None:
    orig = torch.tensor([[1, 1, 1, 2], [2, 3, 3, 1]])
    mod = torch.tensor([[1, 2, 3, 2], [1, 3, 1, 2]])
    wall, sea, sky, none = compute_class_results(
        orig, mod, n_classes=4, class_names=["wall", "sea", "sky", "none"]
    )
    assert wall == ClassResults(1, "wall", 4, 3, 4, 2, {2: 2, 3: 1})
    assert sea == ClassResults(2, "sea", 2, 1, 6, 4, {1: 1})
    assert sky == ClassResults(3, "sky", 2, 1, 6, 4, {1: 1})
    assert none == ClassResults(4, "none", 0, 0, 8, 5, {})


def test_there_are_150_classes_by_default() -> None:
    found = compute_class_results(torch.tensor([[1, 150]]), torch.tensor([[150, 150]]))
    assert [r.class_id for r in found] == list(range(1, 151))
    assert found[0].change_distribution == {150: 1}
    assert found[149].n_changed_patches == 0


@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(0, 9), st.integers(2, 7))
@settings(max_examples=40)
def test_counts_equal_those_of_an_obvious_loop(
    seed: int, n_images: int, n_patches: int, n_classes: int
) -> None:
    orig = preds(seed, (n_images, n_patches), n_classes)
    mod = preds(seed + 1, (n_images, n_patches), n_classes)
    fast = compute_class_results(orig, mod, n_classes=n_classes)
    assert fast == slow_class_results(orig, mod, n_classes)


@given(st.integers(0, 2**31), st.integers(2, 8))
@settings(max_examples=40)
def test_one_pair_of_predictions_has_equal_pooled_target_and_other_change(
    seed: int, n_classes: int
) -> None:
    orig, mod = preds(seed, (3, 11), n_classes), preds(seed + 1, (3, 11), n_classes)
    found = compute_class_results(orig, mod, n_classes=n_classes)
    made = Report("m", found, -2.0, protocol="label", n_patches=33, shared_edit=True)
    assert made.mean_target_change == pytest.approx(made.mean_other_change, abs=1e-12)
    assert made.mean_target_change == pytest.approx(float((orig != mod).double().mean()))
    assert not made.is_pooled_telling


def test_an_edit_that_flips_only_class_one_reports_0_160625_for_both() -> None:
    orig = preds(0, (50, 256), 6)
    orig.view(-1)[:2056] = 1
    orig.view(-1)[2056:] = orig.view(-1)[2056:].clamp(min=2)
    mod = torch.where(orig == 1, 2, orig)
    made = Report("m", compute_class_results(orig, mod), -2.0)
    assert made.mean_target_change == made.mean_other_change == 0.160625
    assert made.class_results[0].target_change == 1.0
    assert made.class_results[0].other_change == 0.0


@pytest.mark.parametrize(
    ("orig", "mod"),
    [([[6, 0]], [[1, 1]]), ([[1, 1]], [[1, 6]]), ([[-1, 1]], [[1, 1]])],
)
def test_predictions_that_are_no_class_ids_are_refused(
    orig: list[list[int]], mod: list[list[int]]
) -> None:
    with pytest.raises(ValueError, match=r"from 0 \(null\) to 5"):
        compute_class_results(torch.tensor(orig), torch.tensor(mod), n_classes=5)


@pytest.mark.parametrize(
    ("orig", "mod"),
    [
        (torch.ones(1, 4, dtype=torch.int64), torch.ones(1, 5, dtype=torch.int64)),
        (torch.ones(4, dtype=torch.int64), torch.ones(4, dtype=torch.int64)),
        (torch.ones(1, 4), torch.ones(1, 4)),
        ([[1, 2]], [[1, 2]]),
    ],
)
def test_wrong_shapes_and_types_are_refused(orig: Any, mod: Any) -> None:
    with pytest.raises(TypeCheckError):
        compute_class_results(orig, mod)


def test_flow_counts_each_image_by_itself() -> None:
    orig, mod = torch.tensor([[1, 2, 2], [2, 2, 1]]), torch.tensor([[2, 2, 1], [2, 2, 1]])
    flow = flow_matrix(orig, mod, 2)
    assert flow.tolist() == [[[0, 1], [1, 1]], [[1, 0], [0, 2]]]


def counted_as_pairs(images: list[int], orig: Tensor, mod: Tensor, ids: list[int]) -> Counts:
    counts = Counts(ids, n_images=len(orig), n_classes=5)
    if images:
        where = torch.tensor(images)
        counts.add_pair(where, orig[where], mod[where])
    return counts


@given(st.permutations(range(6)), st.integers(0, 6), st.integers(0, 2**31))
@settings(max_examples=30)
def test_counts_do_not_depend_on_order_and_batches(order: list[int], cut: int, seed: int) -> None:
    orig, mod = preds(seed, (6, 7), 5), preds(seed + 1, (6, 7), 5)
    whole = counted_as_pairs(list(range(6)), orig, mod, [1, 4])
    parts = Counts([1, 4], n_images=6, n_classes=5)
    for images in (order[:cut], order[cut:]):
        if images:
            parts.add_pair(torch.tensor(images), orig[images], mod[images])
    for name in ("per_image", "per_draw", "matrix"):
        assert torch.equal(getattr(parts, name), getattr(whole, name))


@given(st.integers(0, 6), st.integers(0, 2**31))
@settings(max_examples=30)
def test_a_rank_counts_its_own_images_and_all_ranks_the_whole(cut: int, seed: int) -> None:
    orig, mod = preds(seed, (6, 7), 5), preds(seed + 1, (6, 7), 5)
    whole = counted_as_pairs(list(range(6)), orig, mod, [1, 4])
    shards = []
    for begin, end in ((0, cut), (cut, 6)):
        shard = Counts([1, 4], n_images=end - begin, n_classes=5, begin=begin)
        if begin < end:
            shard.add_pair(torch.arange(begin, end), orig[begin:end], mod[begin:end])
            rows = torch.zeros(end - begin, dtype=torch.int64)
            mine = Counts([1, 4], n_images=end - begin, n_classes=5, begin=begin)
            mine.add_rows(torch.arange(begin, end), rows, orig[begin:end], mod[begin:end])
            assert torch.equal(mine.per_image[:, 0], shard.per_image[:, 0])
        shards.append(shard)
    assert torch.equal(torch.cat([shard.per_image for shard in shards]), whole.per_image)
    assert torch.equal(shards[0].matrix + shards[1].matrix, whole.matrix)
    assert torch.equal(shards[0].per_draw + shards[1].per_draw, whole.per_draw)


@given(st.integers(0, 2**31))
@settings(max_examples=30)
def test_rows_count_what_the_pair_counts_when_every_row_has_the_same_edit(seed: int) -> None:
    orig, mod = preds(seed, (3, 7), 5), preds(seed + 1, (3, 7), 5)
    ids = [2, 5, 2]  # a class may come several times
    pair = counted_as_pairs([0, 1, 2], orig, mod, ids)
    rows = Counts(ids, n_images=3, n_classes=5)
    images_p, rows_p = torch.cartesian_prod(torch.arange(3), torch.arange(3)).unbind(1)
    shuffled = torch.randperm(9, generator=torch.Generator().manual_seed(seed))
    images_p, rows_p = images_p[shuffled], rows_p[shuffled]
    rows.add_rows(images_p, rows_p, orig[images_p], mod[images_p])
    assert torch.equal(rows.per_image, pair.per_image)
    assert torch.equal(rows.matrix, pair.matrix)


def test_per_image_counts_add_up_to_all_patches() -> None:
    orig, mod = preds(1, (4, 9), 5), preds(2, (4, 9), 5)
    counts = counted_as_pairs([0, 1, 2, 3], orig, mod, [1, 2, 3, 4, 5])
    assert (counts.per_image[..., 0] + counts.per_image[..., 2] == 9).all()
    assert int(counts.per_image[..., 0].sum()) == 36
    assert counts.per_image.dtype == counts.matrix.dtype == torch.int64
    assert (counts.matrix.diagonal() == 0).all()
