"""Candidates on a growing subset of images: what it costs, and that the best ones stay."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from worlds import World

from semseg_cli.engine import halving
from semseg_cli.engine.counts import Counts
from semseg_cli.engine.edits import Intervention
from semseg_cli.engine.evaluate import evaluate
from semseg_cli.engine.halving import (
    FIRST_IMAGES,
    rounds,
    selection_images,
    spread_order,
    try_out,
    turns,
)
from semseg_cli.engine.latent_edits import set_rows
from semseg_cli.experiment.session import Session
from semseg_cli.runs.lookup_csv import Member

many = st.integers(1, 400)


@given(many, st.integers(1, 9))
def test_all_rounds_cost_half_a_candidate_more_than_the_last_few(n: int, n_last: int) -> None:
    plan = rounds(n, n_last)
    shares = [0.0, *(share for _, share in plan)]
    steps = [after - before for before, after in itertools.pairwise(shares)]
    cost = sum(k * step for (k, _), step in zip(plan, steps, strict=True))
    assert cost == pytest.approx(n if n <= n_last + 1 else n_last + 0.5)
    assert plan[0][0] == n
    assert plan[-1] == (min(n, n_last) if n > n_last + 1 else n, 1.0)
    assert all(step > 0 for step in steps)
    left = [k for k, _ in plan]
    assert all(b >= a / 2 or b == n_last for a, b in itertools.pairwise(left))


def test_eleven_candidates_halve_three_times() -> None:
    assert [n for n, _ in rounds(11, 2)] == [11, 6, 3, 2]
    assert [share for _, share in rounds(11, 2)] == pytest.approx([1 / 30, 2 / 30, 4 / 30, 1.0])


@given(many, many)
def test_every_beginning_of_the_order_is_spread(n: int, m: int) -> None:
    order = spread_order(n)
    assert sorted(order) == list(range(n))
    begin = sorted(order[: 1 + m % n])
    gaps = [b - a for a, b in zip([-1, *begin], [*begin, n], strict=True)]
    assert max(gaps) <= 4 * math.ceil(n / len(begin))


@given(st.lists(st.booleans(), min_size=1, max_size=80), st.integers(1, 30))
def test_turns_are_those_of_the_images_that_judge(occurs: list[bool], n_most: int) -> None:
    given_n = torch.tensor(occurs)
    found, chosen = turns(given_n, n_most), selection_images(given_n, n_most)
    assert torch.equal(found.isfinite(), chosen)
    for where in (chosen & given_n, chosen & ~given_n):
        n = int(where.sum())
        of_these = found[where]
        assert int((of_these == 0).sum()) == min(n, FIRST_IMAGES)
        for share in (0.25, 0.5):
            assert int((of_these <= share).sum()) == max(min(n, FIRST_IMAGES), int(n * share))


# --- against running everything -------------------------------------------------------------------


def candidates_of(session: Session) -> list[tuple[int, list[Member]]]:
    """Six groups of latents for each of three classes, the last one of two latents."""
    found = torch.nonzero(session.pipeline.latent_stats.sparsity > 0).flatten().tolist()
    groups = [*([Member(latent)] for latent in found[:5]), [Member(found[0]), Member(found[1])]]
    return [(class_id, group) for class_id in (1, 2, 3) for group in groups]


def whole_counts(session: Session, candidates: list[tuple[int, list[Member]]], at: float) -> Counts:
    edit = set_rows(session.pipeline, "any", at, candidates)
    loader = session.loader(session.lookup_dataset)
    (found,) = evaluate(session.pipeline, [Intervention((edit,))], loader, n_classes=5)
    return found.counts


def slow_race(whole_nr4: Tensor, turns_n: Tensor, rows: list[int]) -> dict[int, float]:
    """Up to which share of the images each row runs."""
    left, run = rows, dict.fromkeys(rows, -1.0)
    for n_kept, share in rounds(len(rows), 2):
        sums = whole_nr4[turns_n <= max(run.values())].sum(dim=0).double()
        target, other = (sums[:, i + 1] / sums[:, i].clamp(min=1) for i in (0, 2))
        ranked = sorted(left, key=lambda row: float(other[row] - target[row]))
        left = sorted(ranked[:n_kept])
        run |= dict.fromkeys(left, share)
    return run


@pytest.mark.parametrize("batch_size", [2, 7])
def test_rows_run_on_more_images_while_they_are_among_the_best(
    tiny_world: World, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(halving, "FIRST_IMAGES", 1)  # the world has seven images
    session = tiny_world.session(batch_size=batch_size)
    candidates, dataset = candidates_of(session), session.lookup_dataset
    turns_n = turns(torch.tensor([1, 1, 0, 1, 0, 0, 1]).bool(), 9)
    turns_nr = turns_n[:, None].expand(-1, len(candidates)).contiguous()
    rows_at = {-2.0: range(18), 1.0: range(6, 11)}
    tried = try_out(
        session.pipeline,
        candidates,
        rows_at,
        turns_nr,
        lambda positions: session.loader(dataset.subset(positions)),
    )
    for scale, rows in rows_at.items():
        whole, found = whole_counts(session, candidates, scale).per_image, tried[scale]
        expected = torch.zeros_like(whole)
        for c in (1, 2, 3):
            own = [row for row in rows if candidates[row][0] == c]
            for row, share in slow_race(whole, turns_n, own).items() if own else ():
                expected[turns_n <= share, row] = whole[turns_n <= share, row]
                assert found.n_images[row] == int((turns_n <= share).sum())
                assert found.is_last[row] == (share == 1.0)
        assert torch.equal(found.counts_gr4, expected)  # a block is an image
    assert int(tried[-2.0].is_last.sum()) == 6
