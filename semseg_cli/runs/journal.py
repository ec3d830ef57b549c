"""What a run has chosen and counted so far, record by record: a stopped run goes on from here.

The file only grows. It begins with what the run is made of. Every record has a checksum that starts
from the one before: a torn last record is dropped, and none passes for another.
"""

import fcntl
import json
import logging
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from semseg_cli.errors import SemsegError, UsageError
from semseg_cli.files import cannot_write
from semseg_cli.readers import not_a_file

log = logging.getLogger("semseg_cli")
MAGIC = b"semseg-cli counts 1\n"
FRAME = struct.Struct("<QI")  # length and checksum of the record that follows
Identity = Mapping[str, Any]  # what a run is made of: what to call it -> its value, as JSON


class Journal:
    """The journal of one run, held by one process at a time.

    Raises:
        UsageError: it is there (`is_new` is False), and of a run with other inputs.
        SemsegError: it says nothing yet, another process writes it, or it cannot be written.
    """

    def __init__(self, path: Path, identity: Identity, *, is_new: bool) -> None:
        self.path = path
        self._file = _opened(path, is_new=is_new)
        self._checksum = zlib.crc32(MAGIC)
        try:
            if is_new:
                self._file.write(MAGIC)
                self.append(json.dumps(dict(identity)).encode())
            else:
                _require_same(path, self._head(), identity)
        except BaseException:
            self._close()
            raise
        self._begin = self._file.tell(), self._checksum

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def records(self, topic: bytes) -> Iterator[bytes]:
        """The records under this topic; once they are all read, more can be appended.

        None where the topic is another: those are dropped, and this one is begun.
        """
        found = self._next()
        if found == topic:
            while (record := self._next()) is not None:
                yield record
            self._cut()
            return
        if found is not None:
            log.warning("The latents are not those of before: all images are counted anew.")
        at, self._checksum = self._begin
        self._file.seek(at)
        self._cut()
        self.append(topic)

    def kept(self, name: str, make: Callable[[], str]) -> str:
        """What was made under this name before the run was stopped; else it is made, and kept.

        To be asked in one order, and before `records`.
        """
        head = f"{name}\n".encode()
        at, checksum = self._file.tell(), self._checksum
        found = self._next()
        if found is None or not found.startswith(head):
            self._file.seek(at)
            self._checksum = checksum
            self._cut()
            found = head + make().encode()
            self.append(found)
        self._begin = self._file.tell(), self._checksum
        return found[len(head) :].decode()

    def append(self, record: bytes) -> None:
        """Adds a record; it is there if the process is killed right after."""
        checksum = zlib.crc32(record, self._checksum)
        try:
            self._file.write(FRAME.pack(len(record), checksum) + record)
            self._file.flush()
        except OSError as error:
            raise cannot_write(self.path, error, "--dump-to") from error
        self._checksum = checksum

    def _head(self) -> Any:
        """What the run is made of; None where it was stopped before that was written."""
        is_ours = self._file.read(len(MAGIC)) == MAGIC
        record = self._next() if is_ours else None
        return None if record is None else json.loads(record)

    def _next(self) -> bytes | None:
        """The next record; None after the last good one, where the file then is."""
        begin = self._file.tell()
        frame = self._file.read(FRAME.size)
        if len(frame) == FRAME.size:
            length, checksum = FRAME.unpack(frame)
            n_left = os.fstat(self._file.fileno()).st_size - self._file.tell()
            record = self._file.read(length) if length <= n_left else b""
            if len(record) == length and zlib.crc32(record, self._checksum) == checksum:
                self._checksum = checksum
                return record
        self._file.seek(begin)
        return None

    def _cut(self) -> None:
        """Drops what comes after the last good record."""
        at = self._file.tell()
        n_bytes = os.fstat(self._file.fileno()).st_size - at
        if n_bytes:
            log.info("%s: dropped the last %d bytes, which are torn or stale", self.path, n_bytes)
            self._file.truncate(at)

    def _close(self) -> None:
        with suppress(OSError):  # a full disk: what it tells was told by `append`
            self._file.close()


def _opened(path: Path, *, is_new: bool) -> BinaryIO:
    if not is_new and not_a_file(path):
        raise _says_nothing(path)
    try:
        file = path.open("w+b" if is_new else "r+b")
    except OSError as error:
        raise cannot_write(path, error, "--dump-to") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise SemsegError(
            f"The run {path.parent} is still running: wait until it ends, or stop it first."
        ) from None
    except OSError as error:  # a file system without locks
        log.info("%s is not locked: %s", path, error)
    return file


def _require_same(path: Path, known: Any, identity: Identity) -> None:
    if known is None:
        raise _says_nothing(path)
    own = json.loads(json.dumps(dict(identity)))
    differing = sorted(name for name in {**known, **own} if known.get(name) != own.get(name))
    if differing:
        raise UsageError(
            f"The run {path.parent} was begun otherwise ({', '.join(differing)}): give what it "
            "was begun with, or leave --resume out."
        )


def _says_nothing(path: Path) -> SemsegError:
    return SemsegError(
        f"The run {path.parent} was stopped before it counted anything: leave --resume out."
    )
