"""A file in a run's folder while its process lives: locked by it, and as large as its last words.

The lock says whether the process is alive, whoever has its number since. Its room is written when
the disk is full: what became of a run needs none.
"""

import contextlib
import errno
import fcntl
import json
import os
from pathlib import Path

NAME = ".running"
_BLOCK = 4096
_LAST_WORDS = 2 * _BLOCK  # a reason, and what is noted of the store
_open: dict[Path, int] = {}  # of this process, by folder


def begin(folder: Path, n_bytes: int) -> None:
    """From now on the folder's run is alive; room is kept for a file of so many bytes and more.

    Raises:
        OSError: there is no such room.
    """
    whom = json.dumps({"pid": os.getpid(), "host": os.uname().nodename}).encode()
    room = (n_bytes // _BLOCK + 1) * _BLOCK + _LAST_WORDS
    number = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o666)
    _open[folder] = number
    if os.write(number, whom.ljust(room)) < room:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.lockf(number, fcntl.LOCK_EX | fcntl.LOCK_NB)


def end(folder: Path) -> None:
    """The run has ended, and said how."""
    (folder / NAME).unlink(missing_ok=True)
    if folder in _open:
        os.close(_open.pop(folder))


def write_last(folder: Path, name: str, data: bytes) -> bool:
    """Writes a file of the folder into the room that was kept; whether there was enough."""
    try:
        with (folder / NAME).open("r+b") as file:
            if file.seek(0, os.SEEK_END) < len(data):
                return False
            file.seek(0)
            file.write(data)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        (folder / NAME).replace(folder / name)
    except OSError:
        return False
    return True


def who_runs(folder: Path) -> str:
    """The living process of a run, in words; nothing where it has ended."""
    try:
        number = os.open(folder / NAME, os.O_RDONLY)
    except OSError:
        return ""
    try:
        fcntl.lockf(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _words(os.read(number, _BLOCK))
    except OSError:  # a file system without locks
        return ""
    finally:
        os.close(number)
    return ""


def _words(text: bytes) -> str:
    try:
        whom = json.loads(text)
        return f"process {int(whom['pid'])} on {whom['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
