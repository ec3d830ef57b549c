"""Standard output and error that cannot stop a command: what cannot be printed is only not printed.

A reader that has gone (`| head`) wants no more, and that is no failure. Another reason, such as a
full disk, is told when everything else is done.
"""

import io
import os
import sys

from semseg_cli.errors import SemsegError

_CLOSED = (("stdin", os.O_RDONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY))


class Lasting(io.TextIOWrapper):
    """A stream that swallows what can no longer be written; signs that its encoding lacks are
    spelled out."""

    failed: OSError | None = None

    def write(self, text: str) -> int:
        """Writes a text, or lets it go."""
        try:
            return super().write(text)
        except OSError as error:
            self._let_go(error)
            return len(text)

    def flush(self) -> None:
        """Writes what is kept back, or lets it go."""
        try:
            super().flush()
        except OSError as error:
            self._let_go(error)

    def _let_go(self, error: OSError) -> None:
        if self.failed is None and not isinstance(error, BrokenPipeError):
            self.failed = error
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self.fileno())
        os.close(nothing)


def lasting(number: int, encoding: str = "utf-8") -> Lasting:
    """The stream of a file descriptor. It keeps no lines back: where both streams are one file, all
    that is printed stands there in its order."""
    binary = open(number, "wb", closefd=False)  # noqa: SIM115 -- as long as the process
    return Lasting(binary, encoding, "backslashreplace", line_buffering=True)


def guard() -> None:
    """Makes both streams lasting, and takes the places of closed ones: no file may get them."""
    for name, flags in _CLOSED:
        stream = getattr(sys, name)
        if stream is None:
            number = os.open(os.devnull, flags)
            if name == "stdin":
                sys.stdin = open(number)  # noqa: SIM115
            else:
                setattr(sys, name, lasting(number))
        elif name != "stdin" and stream is getattr(sys, f"__{name}__"):
            stream.flush()
            setattr(sys, name, lasting(stream.fileno(), stream.encoding))


def require_printed() -> None:
    """Raises a SemsegError where results could not be printed."""
    stream = sys.stdout
    if isinstance(stream, Lasting):
        stream.flush()
        if stream.failed is not None:
            reason = stream.failed.strerror or stream.failed
            raise SemsegError(
                f"What was found could not be printed ({reason}); what was written to files and "
                "tracked is whole: free some space, or print elsewhere."
            )
