"""How a command ends, alone or on several ranks: exit codes, one voice, who waits for whom.

torchrun sends SIGTERM to all ranks as soon as one has ended. So a rank that fails says why, and
lingers until the lead has ended its runs; and a lead that gets SIGTERM looks for the reason.
"""

import atexit
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import NoReturn

from semseg_cli import interrupts, streams
from semseg_cli.errors import SemsegError, UsageError, found_lost, library_error
from semseg_cli.ranks import group as ranks
from semseg_cli.ranks.group import STOPPED, Word

_LINGER_SECONDS = 60.0
_WORD_SECONDS = 15.0  # for the longest pass on another machine; schedulers kill after 30
_CONNECT_SECONDS = 10.0  # to connect, for who ends before it has joined
_TOLD = "told"  # the lead's key: its runs are ended, its sentence is printed


def run_to_end(command: Callable[[], object]) -> NoReturn:
    """Runs a command and exits: 0 done, 1 known failure, 2 wrong usage, 130 interrupted (143 by
    SIGTERM, 129 by SIGHUP).

    A known failure is told in one sentence, a bug by its traceback. Of several ranks only the lead
    prints anything else than a traceback.
    """
    with _one_voice():
        word = _word_of(command)
        if word.code and ranks.n_ranks() > 1:
            _tell(word)
    if ranks.n_ranks() > 1:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun's, while Python shuts down
    if word.code >= STOPPED or interrupts.was_asked():
        interrupts.ignore()  # one signal was enough
    atexit.register(interrupts.ignore)  # what is done is not stopped while Python shuts down
    sys.exit(word.code)


@contextmanager
def _one_voice() -> Iterator[None]:
    if ranks.rank() == 0:
        yield
        return
    with open(os.devnull, "w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
        yield


def _word_of(command: Callable[[], object]) -> Word:
    try:
        code = _exit_code(command)
        if code == 0:
            streams.require_printed()
            ranks.leave()
        if code == STOPPED:
            return _stopped()
        return Word(ranks.rank(), code, "wrong usage" if code == 2 else "stopped")
    except SemsegError as error:
        print(f"semseg-cli: {error}", file=sys.stderr)
        return Word(ranks.rank(), 2 if isinstance(error, UsageError) else 1, str(error))
    except KeyboardInterrupt:
        return _stopped()
    except Exception as bug:
        if interrupts.was_asked():  # what it interrupted has made another error of it
            return _stopped()
        if (failure := library_error(bug) or found_lost(bug)) is not None:
            print(f"semseg-cli: {failure}", file=sys.stderr)
            return Word(ranks.rank(), 1, str(failure))
        if ranks.n_ranks() == 1:
            raise
        traceback.print_exc(file=sys.__stderr__)
        return Word(ranks.rank(), 1, f"{type(bug).__name__}: {bug}; its traceback is on stderr.")


def _stopped() -> Word:
    """Several ranks have one code for this, by which they know each other's word."""
    code = interrupts.exit_code() if ranks.n_ranks() == 1 else STOPPED
    return Word(ranks.rank(), code, "stopped")


def _exit_code(command: Callable[[], object]) -> int:
    try:
        command()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _tell(word: Word) -> None:
    """Says why this rank ends; the lead is last to have the word, and first to go."""
    interrupts.settle()
    # As well as it can: a Ctrl-C while torch was loading leaves half of it.
    with suppress(KeyboardInterrupt, Exception):
        if not ranks.is_joined():
            ranks.open_rendezvous(_CONNECT_SECONDS)
        ranks.post(word)
        if ranks.rank() == 0:
            ranks.note(_TOLD)
        else:
            ranks.wait_for(_TOLD, _LINGER_SECONDS, is_ending=True)


@contextmanager
def together() -> Iterator[None]:
    """Runs a command's work on all ranks, each on its own images."""
    ranks.join()
    try:
        yield
    except KeyboardInterrupt as error:
        cause = explained(error)
        if cause is error:
            raise
        raise cause from error


def explained(error: BaseException) -> BaseException:
    """Why the lead was asked to stop, where another rank is the reason; else the same error."""
    if not (isinstance(error, interrupts.Terminated) and ranks.is_joined() and ranks.is_lead()):
        return error
    word = ranks.first_word()
    if word and word.rank != ranks.rank() and word.code != STOPPED:
        return word.error()
    dead = ranks.dead_rank(_WORD_SECONDS)
    if dead is None:
        return error
    return SemsegError(f"Rank {dead} died without a message (killed, or out of memory?).")
