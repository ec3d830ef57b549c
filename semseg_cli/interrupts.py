"""SIGTERM as an exception, so that a run that is told to stop is marked as such."""

import signal
import sys
from types import FrameType


class Terminated(KeyboardInterrupt):
    """The process was asked to stop (SIGTERM)."""


def raise_on_sigterm() -> None:
    """From now on SIGTERM raises `Terminated` in the main thread."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise Terminated

    if sys.platform != "win32":
        signal.signal(signal.SIGTERM, stop)
