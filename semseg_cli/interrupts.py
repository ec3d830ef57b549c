"""Ctrl-C, SIGTERM and a closed terminal as exceptions: a run that is told to stop is marked so."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """The process was asked to stop (SIGTERM), or its terminal was closed (SIGHUP)."""


_KINDS = {
    signal.SIGINT: KeyboardInterrupt,
    signal.SIGTERM: Terminated,
    signal.SIGHUP: Terminated,
}
_asked: list[type[KeyboardInterrupt]] = []
_holding: list[bool] = []
_deaf: list[bool] = []


def listen() -> None:
    """From now on these signals raise in the main thread, and `check` raises after them.

    SIGHUP stays ignored where it is, as under `nohup`.
    """
    _asked.clear()
    _deaf.clear()
    if threading.current_thread() is threading.main_thread():
        for number in _KINDS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, _stop)


def check() -> None:
    """Raises if a signal came.

    Python drops what a handler raises inside callbacks (after a fork, in `__del__`): long loops
    ask here, so that no Ctrl-C is lost.
    """
    if _asked:
        raise _asked[0]


@contextmanager
def held() -> Iterator[None]:
    """A signal that comes during the block raises at its end: for steps that must stay whole."""
    _holding.append(True)
    try:
        yield
    finally:
        _holding.pop()
    check()


def settle(*, is_final: bool = False) -> None:
    """What was asked for is being done: cleaning up is not interrupted again by `check`.

    Nor, if it is final, by another SIGTERM: a scheduler and torchrun send one each.
    """
    _asked.clear()
    if is_final:
        _deaf.append(True)


def _stop(number: int, _frame: FrameType | None) -> None:
    kind = _KINDS[signal.Signals(number)]
    if _deaf and kind is Terminated:
        return
    _asked.append(kind)
    if not _holding:
        raise kind
