"""How long a store may keep a command waiting: in all, whatever it does meanwhile.

MLflow's own limits hold for each read of a socket: a server that sends a byte now and then keeps
a client for ever. So calls run in a thread that is left behind when the time is over.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")
WAIT_SECONDS = 40.0  # with the program's own start, a command gives up within a minute
BYTES_PER_SECOND = 100_000  # of a slow connection that sends the files of a run


class OutOfPatience(Exception):
    """A store has kept the command waiting for too long."""


class Patience:
    """The seconds that are left to wait for a store, over all calls."""

    def __init__(self, n_bytes: int = 0) -> None:
        self.limit = max(WAIT_SECONDS, n_bytes / BYTES_PER_SECOND)
        self.left = self.limit

    def wait_for(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises.

        Raises:
            OutOfPatience: the time is over; the work goes on by itself, and nobody looks at it.
        """
        if self.left <= 0:
            raise OutOfPatience(f"{self.limit:g}")
        done: Future[T] = Future()
        began = time.monotonic()
        threading.Thread(target=_run, args=(work, done), daemon=True).start()
        try:
            return done.result(self.left)
        except TimeoutError as error:
            if done.done():  # the work's own error
                raise
            raise OutOfPatience(f"{self.limit:g}") from error
        finally:
            self.left = max(0.0, self.left - (time.monotonic() - began))


def _run(work: Callable[[], T], done: "Future[T]") -> None:
    try:
        done.set_result(work())
    except BaseException as error:
        done.set_exception(error)
