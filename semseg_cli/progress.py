"""What long loops report: a task is started with its size, then told how much is done."""

from collections.abc import Callable
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """Starts a task of `total` units; the returned function counts finished ones."""

    def __call__(self, description: str, total: int) -> Advance: ...


def silent(description: str, total: int) -> Advance:
    """Reports nothing."""
    return lambda _n: None
