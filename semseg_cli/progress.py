"""What long work reports: loops how far they are, other stages what they do once it takes long;
what of it loggers let pass."""

import gc
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

Advance = Callable[[int], None]
ASIDE = "is_aside"  # attribute of warnings for whoever types: runs note themselves what they are of
LONG = 1.0  # seconds after which a stage says what it does
_is_quiet = ContextVar("is_quiet", default=True)  # only the command line speaks
_is_own = ContextVar("is_own", default=False)  # whether this process is a command's alone


class Progress(Protocol):
    """Starts a task of `total` units; the returned function counts finished ones."""

    def __call__(self, description: str, total: int, unit: str = "images") -> Advance: ...


def silent(description: str, total: int, unit: str = "images") -> Advance:
    """Reports nothing."""
    return lambda _n: None


@contextmanager
def passing(level: int, *names: str) -> Iterator[None]:
    """Lets records of this level and above pass the loggers of these names, which then are as they
    were before."""
    loggers = [logging.getLogger(name) for name in names]
    before = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(level)
    try:
        yield
    finally:
        for one, own in zip(loggers, before, strict=True):
            one.setLevel(own)


@contextmanager
def each_once() -> Iterator[None]:
    """Lets each warning of ours pass once: several methods of a run may have the same to say."""
    log, said = logging.getLogger("semseg_cli"), set[str]()

    def is_new(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        is_known = record.levelno == logging.WARNING and text in said
        said.add(text)
        return not is_known

    log.addFilter(is_new)
    try:
        yield
    finally:
        log.removeFilter(is_new)


class Timer(Protocol):
    """Calls a function after some seconds, unless it is cancelled before."""

    def start(self) -> None:
        """Begins to wait."""

    def cancel(self) -> None:
        """Nothing will be called."""


def _timer(seconds: float, say: Callable[[], None]) -> Timer:
    timer = threading.Timer(seconds, say)
    timer.daemon = True
    return timer


@contextmanager
def quietly(is_quiet: bool) -> Iterator[None]:
    """Runs a block whose stages say nothing, or what they do."""
    before = _is_quiet.set(is_quiet)
    try:
        yield
    finally:
        _is_quiet.reset(before)


@contextmanager
def stage(
    doing: str, make_timer: Callable[[float, Callable[[], None]], Timer] = _timer
) -> Iterator[None]:
    """Runs a block without a count; a command line says on stderr what it does if it takes long."""
    if _is_quiet.get():
        yield
        return
    timer = make_timer(LONG, lambda: print(f"{doing} ...", file=sys.stderr, flush=True))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def own_process() -> Iterator[None]:
    """Runs a command that nothing else shares the process with."""
    before = _is_own.set(True)
    try:
        yield
    finally:
        _put_aside()  # else Python ends by looking for garbage in all of torch, for seconds
        _is_own.reset(before)


def _put_aside() -> None:
    """What there is now is not looked through for garbage any more."""
    if "triton" not in sys.modules:  # which would print what is left as leaks
        gc.freeze()


@contextmanager
def importing() -> Iterator[None]:
    """Runs a block that loads modules, without looking for garbage: none of what they make is, and
    looking through it again and again takes a tenth of the time. In a process of its own it is not
    looked through later either."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if _is_own.get():
            _put_aside()
        if was_on:
            gc.enable()
