"""What ranks talk through: torchrun's key-value store (the rendezvous), and torch's process group.

Connecting has a limit of its own: a network that does not work is told in minutes, while a
collective waits for the slowest rank. torch loads on use.
"""

import os
import socket
from datetime import timedelta
from typing import Any

CONNECT_SECONDS = 120.0
_COLLECTIVE_SECONDS = 600.0


def connect_rendezvous(seconds: float) -> Any:
    """torchrun's rendezvous: its key-value store.

    Raises:
        RuntimeError: it cannot be reached in so many seconds.
    """
    import torch.distributed as dist

    return next(iter(dist.rendezvous("env://", timeout=timedelta(seconds=seconds))))[0]


def part_of(rendezvous: Any, name: str) -> Any:
    """A part of a rendezvous, for keys that do not meet others."""
    import torch.distributed as dist

    return dist.PrefixStore(name, rendezvous)


def make_process_group(rendezvous: Any, rank: int, n_ranks: int, *, is_one_machine: bool) -> None:
    """Connects all ranks: by gloo between CPUs now, by nccl between GPUs at their first collective.

    Raises:
        RuntimeError: they do not reach each other.
    """
    import torch
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import _set_pg_timeout

    if is_one_machine:
        _stay_on_loopback()
    has_nccl = torch.cuda.is_available() and dist.is_nccl_available()
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if has_nccl else "gloo",
        store=part_of(rendezvous, "torch"),
        rank=rank,
        world_size=n_ranks,
        timeout=timedelta(seconds=CONNECT_SECONDS),
    )
    _set_pg_timeout(timedelta(seconds=_COLLECTIVE_SECONDS))


def end_process_group() -> None:
    """Parts from the other ranks, where a process group was made."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def _stay_on_loopback() -> None:
    """On one machine gloo needs no network: its name may not resolve, its ports may be closed."""
    names = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    if names:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", names[0])
