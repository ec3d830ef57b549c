"""Several processes that share the images of one command: what they tell each other, and agree on.

They agree through torchrun's key-value store, here called the rendezvous, asking again and again in
Python, so that signals and the failures of others are noticed; sums are in `collectives`. With one
rank everything here is the identity. torch loads when ranks join, in `network`. The names of `who`
are handed on.
"""

import json
import math
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from semseg_cli import interrupts
from semseg_cli.errors import SemsegError, UsageError
from semseg_cli.ranks import network
from semseg_cli.ranks.who import begin, current, is_joined, is_lead, n_local_ranks, n_ranks, rank
from semseg_cli.ranks.who import local_rank as local_rank  # handed on
from semseg_cli.ranks.who import shard as shard

STOPPED = 130  # the exit code of a rank that was asked to stop
_LOOK_SECONDS = 0.5
_MOST_PAUSE = 0.05
_REASON_SECONDS = 2.0  # for the rank that broke a connection to say why
_opened: list[Any] = []  # torchrun's rendezvous, one connection per process


# --- one rank's word to the others --------------------------------------------------------------


@dataclass(frozen=True)
class Word:
    """Why a rank ended: its exit code, and the sentence for the user."""

    rank: int
    code: int
    message: str

    def error(self) -> BaseException:
        """What the other ranks raise."""
        if self.code == STOPPED:
            return interrupts.Terminated()
        kind = UsageError if self.code == 2 else SemsegError
        return kind(f"Rank {self.rank}: {self.message}")


def post(word: Word) -> None:
    """Tells the others how this rank ended; the first one's word is what they heed."""
    rendezvous, text = current().rendezvous, json.dumps(asdict(word))
    rendezvous.compare_set("first", "", text)
    rendezvous.set(f"word/{word.rank}", text)


def first_word() -> Word | None:
    """The word of the rank that ended first; None while all go on."""
    rendezvous = current().rendezvous
    return Word(**json.loads(rendezvous.get("first"))) if _has(rendezvous, "first") else None


def check() -> None:
    """Raises where another rank has ended; for long loops, asks at most twice a second."""
    if is_joined() and time.monotonic() - current().looked > _LOOK_SECONDS:
        _heed()


def _heed() -> None:
    current().looked = time.monotonic()
    word = first_word()
    if word and word.rank != rank():
        raise word.error()


def _has(rendezvous: Any, key: str) -> bool:
    try:
        return bool(rendezvous.check([key]))
    except RuntimeError as error:
        raise _lost(error) from error


@contextmanager
def communicating() -> Iterator[None]:
    """For calls that do nothing but communicate: if they fail, the connection is lost.

    Raises:
        SemsegError: it is; or what the rank that broke it gives as the reason.
    """
    try:
        yield
    except RuntimeError as error:
        wait_for("never", _REASON_SECONDS)
        raise _lost(error) from error


def _lost(error: RuntimeError) -> SemsegError:
    first = (str(error) or type(error).__name__).splitlines()[0]
    return SemsegError(
        f"Rank {rank()} has lost the connection to the other ranks ({first}): see whether one was "
        "killed, and that all machines reach each other."
    )


# --- joining and parting ------------------------------------------------------------------------


def open_rendezvous(seconds: float = network.CONNECT_SECONDS) -> None:
    """Connects to torchrun's rendezvous, for the next command of this process.

    Several commands in one process, one after the other, each have their own part of it.

    Raises:
        SemsegError: it cannot be reached in so many seconds.
    """
    if not _opened:
        try:
            _opened.append(network.connect_rendezvous(seconds))
        except RuntimeError as error:
            raise _lost(error) from error
    begin(lambda name: network.part_of(_opened[0], name))


def join() -> None:
    """Waits for the other ranks; from here on images are shared. One rank does nothing.

    Raises:
        SemsegError: the ranks do not reach each other.
    """
    if n_ranks() == 1 or is_joined():
        return
    open_rendezvous()
    current().rendezvous.set(f"where/{rank()}", f"{socket.gethostname()} {os.getpid()}")
    current().is_joined = True
    meet("join")
    is_one_machine = n_local_ranks() == n_ranks()
    with communicating():
        network.make_process_group(
            current().rendezvous, rank(), n_ranks(), is_one_machine=is_one_machine
        )


def leave() -> None:
    """Waits until all ranks are done, then parts from them."""
    if is_joined():
        meet("leave")
        _part()


def _part() -> None:
    current().is_joined = False
    network.end_process_group()


def dead_rank(seconds: float) -> int | None:
    """A rank that ended without a word; None where all live or have said why they ended.

    Those on other machines have so many seconds for their word; here it shows whether one lives.
    """
    end = time.monotonic() + seconds
    while True:
        lives = {r: _lives(r) for r in range(n_ranks()) if r != rank()}
        # Asked after: a rank that ended in between has said why.
        silent = [r for r in lives if not _has(current().rendezvous, f"word/{r}")]
        dead = [r for r in silent if lives[r] is False]
        elsewhere = [r for r in silent if lives[r] is None]
        if dead or not elsewhere or time.monotonic() > end:
            return min(dead or elsewhere, default=None)
        time.sleep(_MOST_PAUSE)


def _lives(of_rank: int) -> bool | None:
    """Whether a rank's process runs; None where it is on another machine."""
    rendezvous, key = current().rendezvous, f"where/{of_rank}"
    if not _has(rendezvous, key):
        return None  # it has not joined
    host, pid = rendezvous.get(key).decode().rsplit(" ", 1)
    if host != socket.gethostname():
        return None
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return True


# --- agreeing -----------------------------------------------------------------------------------


def meet(where: str) -> None:
    """Returns when all ranks are here."""
    step = _step(where)
    rendezvous = current().rendezvous
    if rendezvous.add(f"{step}/here", 1) == n_ranks():
        rendezvous.set(f"{step}/go", "")
    wait_for(f"{step}/go")


def from_lead(where: str, make: Callable[[], bytes]) -> bytes:
    """What `make` returns on the lead, on all ranks; the others wait and do not call it."""
    if not is_joined():
        return make()
    step, rendezvous = _step(where), current().rendezvous
    if is_lead():
        made = make()
        rendezvous.set(step, made)
        return made
    wait_for(step)
    return bytes(rendezvous.get(step))


def from_all(where: str, own: bytes) -> list[bytes]:
    """What each rank has, on all ranks, in their order."""
    if not is_joined():
        return [own]
    step, rendezvous = _step(where), current().rendezvous
    rendezvous.set(f"{step}/{rank()}", own)
    for r in range(n_ranks()):
        wait_for(f"{step}/{r}")
    return [bytes(rendezvous.get(f"{step}/{r}")) for r in range(n_ranks())]


def require_same(what: str, value: str) -> None:
    """Refuses to go on where this rank has another value than the lead.

    Raises:
        SemsegError: it has; the results would be of a mixture.
    """
    if from_lead(what, value.encode) != value.encode():
        raise SemsegError(
            f"The {what} are not those of rank 0: give all machines the same files and software."
        )


def _step(where: str) -> str:
    """The key of the next step that all ranks take together."""
    group = current()
    group.n_steps += 1
    step = f"step/{group.n_steps}"
    named = group.rendezvous.compare_set(f"{step}/name", "", where).decode()
    assert named == where, f"rank {rank()} is at {where!r}, another rank at {named!r}"
    return step


def wait_for(key: str, seconds: float = math.inf, *, is_ending: bool = False) -> bool:
    """Waits for a key of the rendezvous; False if time ran out.

    Signals are heeded, and the failures of others; a rank that is ending itself waits only as long
    as the lead lives.
    """
    rendezvous, pause, end = current().rendezvous, 0.001, time.monotonic() + seconds
    while not _has(rendezvous, key):
        interrupts.check()
        if not is_ending:
            _heed()
        if time.monotonic() > end or (is_ending and _lives(0) is False):
            return False
        time.sleep(pause)
        pause = min(2 * pause, _MOST_PAUSE)
    return True


def note(key: str) -> None:
    """Sets a key of the rendezvous."""
    current().rendezvous.set(key, "")
