"""Sums and gathers of tensors over all ranks: nccl between GPUs, gloo between CPUs.

All ranks meet before each: inside a collective neither a signal nor a failure is noticed.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from jaxtyping import Int64
from torch import Tensor

from semseg_cli import ranks
from semseg_cli.typed import typed

_AT_ONCE = 2**24  # counts on their way


def all_sum(*tensors: Tensor) -> None:
    """Adds up each tensor over all ranks, in place."""
    _reduce("sum", dist.ReduceOp.SUM, tensors)


def all_max(*tensors: Tensor) -> None:
    """Takes the elementwise maximum of each tensor over all ranks, in place."""
    _reduce("max", dist.ReduceOp.MAX, tensors)


@typed
def gather_counts(own: Int64[Tensor, "b *rest"], n_all: int) -> Int64[Tensor, "all *rest"]:
    """The rows of all ranks' shards of `n_all`, on the lead; the others keep their own.

    Every rank has other images: a gather moves each count once, where a sum of whole tables would
    move all of them between all ranks. Counts of one image fit 32 bits.
    """
    if not ranks.is_joined():
        return own
    with _all_here("gather"):
        if not ranks.is_lead():
            for part in _parts(own):
                dist.send(part.int().contiguous(), dst=0)
            return own
        whole = own.new_zeros(n_all, *own.shape[1:])
        whole[: len(own)] = own
        for r in range(1, ranks.n_ranks()):
            shard = ranks.shard(n_all, r)
            for part in _parts(whole[shard.start : shard.stop]):
                found = torch.empty(part.shape, dtype=torch.int32)
                dist.recv(found, src=r)
                part.copy_(found)
    return whole


def _parts(rows: Tensor) -> Iterator[Tensor]:
    """Views of some rows each, so that little is in memory twice."""
    step = max(1, _AT_ONCE // max(1, rows[:1].numel()))
    return iter(rows.split(step) if rows.numel() else ())


def _reduce(where: str, how: dist.ReduceOp.RedOpType, tensors: tuple[Tensor, ...]) -> None:
    if ranks.is_joined():
        with _all_here(where):
            for tensor in tensors:
                dist.all_reduce(tensor, how)


@contextmanager
def _all_here(where: str) -> Iterator[None]:
    ranks.meet(where)
    try:
        _connect()
        yield
    except RuntimeError as error:
        ranks.wait_for("never", seconds=2.0)  # the rank that broke it may say why
        raise ranks.lost(error) from error


def _connect() -> None:
    """The process group of all ranks, made at their first collective."""
    if dist.is_initialized():
        return
    if ranks.n_local_ranks() == ranks.n_ranks():
        _stay_on_loopback()
    has_nccl = torch.cuda.is_available() and dist.is_nccl_available()
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if has_nccl else "gloo",
        store=ranks.own_store("torch"),
        rank=ranks.rank(),
        world_size=ranks.n_ranks(),
    )


def _stay_on_loopback() -> None:
    """On one machine gloo needs no network: its name may not resolve, its ports may be closed."""
    names = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    if names:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", names[0])
