"""Ctrl-C, SIGTERM and a closed terminal as exceptions: a run that is told to stop is marked so."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

GRACE_SECONDS = 10.0  # for what has to stay whole, once the user wants to stop


class Terminated(KeyboardInterrupt):
    """The process was asked to stop (SIGTERM), or its terminal was closed (SIGHUP)."""


class HungUp(Terminated):
    """The terminal was closed."""


_KINDS = {
    signal.SIGINT: KeyboardInterrupt,
    signal.SIGTERM: Terminated,
    signal.SIGHUP: HungUp,
}
_asked: list[type[KeyboardInterrupt]] = []
_holding: list[bool] = []
_deaf: list[bool] = []
_raised: list[tuple[float, type[KeyboardInterrupt]]] = []  # when, and which
_waiting: list[bool] = []  # for a block to end, not for ever


def listen() -> None:
    """From now on these signals raise in the main thread, and `check` raises after them.

    A second one shortly after is on the way out already and does not raise again. SIGHUP stays
    ignored where it is, as under `nohup`.
    """
    for known in (_asked, _deaf, _raised):
        known.clear()
    if threading.current_thread() is threading.main_thread():
        for number in _KINDS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, _stop)


def exit_code() -> int:
    """What a shell reports of a process that the last of these signals ended."""
    kind = _raised[-1][1] if _raised else KeyboardInterrupt
    return 128 + next(number for number, one in _KINDS.items() if one is kind)


def was_asked() -> type[KeyboardInterrupt] | None:
    """Which signal came a short while ago, whatever became of what it raised."""
    return _raised[-1][1] if _asked and _is_recent() else None


def check() -> None:
    """Raises if a signal came.

    Python drops what a handler raises inside callbacks (after a fork, in `__del__`): long loops
    ask here, so that no Ctrl-C is lost.
    """
    if _asked:
        _raised.append((time.monotonic(), _asked[0]))
        raise _asked[0]


@contextmanager
def bereft() -> Iterator[None]:
    """A process of ours that ends during the block disturbs nothing.

    Where one that loads images has died torch raises in the main thread, at whatever line.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    told = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, told or signal.SIG_DFL)


@contextmanager
def held() -> Iterator[None]:
    """A signal that comes during the block raises at its end: for steps that must stay whole.

    Where they do not come to an end (a server that is silent), it raises after some seconds.
    """
    with _hold(True):
        yield
    check()


@contextmanager
def released() -> Iterator[None]:
    """Within a block that is held, signals raise at once again."""
    check()
    with _hold(False):
        yield


@contextmanager
def _hold(is_held: bool) -> Iterator[None]:
    _holding.append(is_held)
    try:
        yield
    finally:
        _holding.pop()
        _stop_waiting()


def settle(*, is_final: bool = False) -> None:
    """What was asked for is being done: cleaning up is not interrupted again by `check`.

    Nor, if it is final, by another SIGTERM: a scheduler and torchrun send one each.
    """
    _asked.clear()
    if is_final:
        _deaf.append(True)


def ignore() -> None:
    """From now on nothing raises: the process is ending anyway."""
    if threading.current_thread() is threading.main_thread():
        for number in _KINDS:
            if signal.getsignal(number) is _stop:
                signal.signal(number, signal.SIG_IGN)


def _stop(number: int, _frame: FrameType | None) -> None:
    kind = _KINDS[signal.Signals(number)]
    if _deaf and kind is not KeyboardInterrupt:
        return
    _asked.append(kind)
    if _holding and _holding[-1]:
        _wait_at_most(kind)
    else:
        _raise(kind)


def _raise(kind: type[KeyboardInterrupt]) -> None:
    if not _is_recent():
        _raised.append((time.monotonic(), kind))
        raise kind


def _is_recent() -> bool:
    return bool(_raised) and time.monotonic() - _raised[-1][0] < GRACE_SECONDS


def _wait_at_most(kind: type[KeyboardInterrupt]) -> None:
    if _waiting:
        return

    def give_up(_number: int, _frame: FrameType | None) -> None:
        _raised.append((time.monotonic(), kind))
        raise kind

    _waiting.append(True)
    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)


def _stop_waiting() -> None:
    if _waiting and not (_holding and _holding[-1]):
        _waiting.clear()
        signal.setitimer(signal.ITIMER_REAL, 0)
