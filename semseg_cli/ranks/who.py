"""Who is who among the processes of one command.

`torchrun` starts them and tells each its number, its rank. Rank 0 leads: it alone prints, writes
and tracks. With one rank everything here is the identity.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass
class Group:
    """The ranks of one command: their part of the rendezvous, and the steps taken together."""

    rendezvous: Any
    is_joined: bool = False
    n_steps: int = 0
    looked: float = 0.0


_groups: list[Group] = []  # one per command of this process; all but the last have parted


def current() -> Group:
    """The group of the command that runs now."""
    return _groups[-1]


def begin(part_of: Callable[[str], Any]) -> None:
    """A group for the next command, with a part of the rendezvous by the name that it is given."""
    _groups.append(Group(part_of(f"semseg-cli/{len(_groups)}")))


def n_ranks() -> int:
    """How many processes share the command; 1 without torchrun."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in _VARIABLES) else 1


def rank() -> int:
    """The number of this process."""
    return int(os.environ["RANK"]) if n_ranks() > 1 else 0


def is_lead() -> bool:
    """Whether this process prints, writes and tracks; each does where ranks have not joined."""
    return rank() == 0 or not is_joined()


def local_rank() -> int:
    """The number of this process on its machine."""
    return int(os.environ["LOCAL_RANK"]) if n_ranks() > 1 else 0


def n_local_ranks() -> int:
    """How many of the processes are on this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if n_ranks() > 1 else 1


def is_joined() -> bool:
    """Whether this process shares its work with others now."""
    return bool(_groups) and _groups[-1].is_joined


def shard(n: int, of_rank: int | None = None) -> range:
    """This rank's positions among `n`, or another's: contiguous, in the order of the ranks.

    All of them where ranks have not joined; none where there are more ranks than positions.
    """
    r, w = (rank() if of_rank is None else of_rank, n_ranks()) if is_joined() else (0, 1)
    return range(n * r // w, n * (r + 1) // w)
