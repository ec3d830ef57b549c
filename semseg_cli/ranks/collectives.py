"""Sums and gathers of tensors over all ranks: nccl between GPUs, gloo between CPUs.

All ranks meet before each: inside a collective neither a signal nor a failure is noticed.
"""

from collections.abc import Iterator

import torch
import torch.distributed as dist
from jaxtyping import Float64, Int64
from torch import Tensor

from semseg_cli.ranks import group as ranks
from semseg_cli.typed import typed

_AT_ONCE = 2**24  # counts on their way


def all_sum(*tensors: Tensor) -> None:
    """Adds up each tensor over all ranks, in place."""
    _reduce("sum", dist.ReduceOp.SUM, tensors)


def all_max(*tensors: Tensor) -> None:
    """Takes the elementwise maximum of each tensor over all ranks, in place."""
    _reduce("max", dist.ReduceOp.MAX, tensors)


def try_out(device: torch.device) -> None:
    """Adds up a one of each rank there: GPUs that do not reach each other are found out early."""
    if ranks.is_joined():
        n = torch.ones((), device=device)
        all_sum(n)
        assert int(n) == ranks.n_ranks()


@typed
def gather_counts(
    own: Int64[Tensor, "b *rest"] | Float64[Tensor, "b *rest"], n_all: int
) -> Int64[Tensor, "all *rest"] | Float64[Tensor, "all *rest"]:
    """The rows of all ranks' shards of `n_all`, on the lead; the others keep their own.

    Every rank has other images: a gather moves each count once, where a sum of whole tables would
    move all of them between all ranks. Counts of one image fit 32 bits; sums move whole.
    """
    if not ranks.is_joined():
        return own
    # Memory is taken before the ranks meet: who has none says so while the others can hear it.
    whole = own.new_zeros(n_all, *own.shape[1:]) if ranks.is_lead() else own
    dtype = own.dtype if own.is_floating_point() else torch.int32
    moved = whole.new_empty(whole[: _n_at_once(whole)].shape, dtype=dtype)
    ranks.meet("gather")
    if not ranks.is_lead():
        _send(own, moved)
        return own
    whole[: len(own)] = own
    for r in range(1, ranks.n_ranks()):
        shard = ranks.shard(n_all, r)
        _receive(whole[shard.start : shard.stop], r, moved)
    return whole


def _send(rows: Tensor, moved: Tensor) -> None:
    for part in _parts(rows):
        found = moved[: len(part)].copy_(part)
        with ranks.communicating():
            dist.send(found, dst=0)


def _receive(rows: Tensor, of_rank: int, moved: Tensor) -> None:
    for part in _parts(rows):
        found = moved[: len(part)]
        with ranks.communicating():
            dist.recv(found, src=of_rank)
        part.copy_(found)


def _parts(rows: Tensor) -> Iterator[Tensor]:
    """Views of some rows each, so that little is in memory twice."""
    return iter(rows.split(_n_at_once(rows)) if rows.numel() else ())


def _n_at_once(rows: Tensor) -> int:
    return max(1, _AT_ONCE // max(1, rows[:1].numel()))


def _reduce(where: str, how: dist.ReduceOp.RedOpType, tensors: tuple[Tensor, ...]) -> None:
    if ranks.is_joined():
        ranks.meet(where)
        for tensor in tensors:
            with ranks.communicating():
                dist.all_reduce(tensor, how)
