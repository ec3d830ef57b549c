"""Pictures inside parquet files, as the hub's `datasets` library writes them: nothing is unpacked.

A column of pictures is a struct of `bytes` and `path`. Rows are read in batches, in their order: a
picture costs its own batch, and the next one mostly lies in it too.
"""

import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

from semseg_cli.data.held_picture import HeldPicture
from semseg_cli.errors import SemsegError
from semseg_cli.readers import open_file

ROWS = 16  # of a batch
KEPT = 4  # batches: threads ask for rows that are near each other, not in order
READERS = 16  # open files and columns of a process


@dataclass(frozen=True)
class ParquetPicture:
    """The picture in one row of a column: it is read as a file would be."""

    path: Path
    column: str
    row: int

    @property
    def name(self) -> str:
        """What tells it from others, wherever the dataset is."""
        return f"{self.path.name}:{self.column}:{self.row}"

    def __str__(self) -> str:
        return f"row {self.row} of {self.column} in {self.path}"

    def stat(self) -> os.stat_result:
        """That of the parquet file."""
        return self.path.stat()

    def read_bytes(self) -> bytes:
        """The picture's file.

        Raises:
            SemsegError: the row holds none.
            OSError: the parquet file cannot be read.
        """
        data = _rows(os.getpid(), self.path, self.column).at(self.row)
        if data is None:
            raise SemsegError(
                f"{self} holds a path and no bytes: the pictures are not in the parquet file; "
                "write it again with datasets' embed_external_files."
            )
        return data

    def open(self) -> BytesIO:
        """The same as a binary file."""
        return BytesIO(self.read_bytes())


StoredFile = Path | ParquetPicture | HeldPicture


def opened(stored: StoredFile, file: str, expected: str) -> BinaryIO:
    """What Pillow opens; `file` is what it is called, with its path."""
    return open_file(stored, file, expected) if isinstance(stored, Path) else stored.open()


@lru_cache(maxsize=READERS)
def _rows(_process: int, path: Path, column: str) -> "_Rows":
    """A forked process has readers of its own: the position in a file would be shared."""
    return _Rows(path, column)


class _Rows:
    """The pictures of a column, by row."""

    def __init__(self, path: Path, column: str) -> None:
        self._column = column
        self._file = open_parquet(path)
        groups = self._file.metadata
        counts = [groups.row_group(i).num_rows for i in range(groups.num_row_groups)]
        self._begins = [0, *accumulate(counts)]
        self._lock = threading.Lock()
        self._batches: OrderedDict[int, list[bytes | None]] = OrderedDict()
        self._coming: Iterator[tuple[int, list[bytes | None]]] = iter(())
        self._group, self._next = -1, 0

    def at(self, row: int) -> bytes | None:
        """The picture of a row; None where there is none."""
        group = bisect_right(self._begins, row) - 1
        begin = self._begins[group] + (row - self._begins[group]) // ROWS * ROWS
        with self._lock:
            if begin not in self._batches:
                self._advance(group, begin)
            return self._batches[begin][row - begin]

    def _advance(self, group: int, begin: int) -> None:
        if group != self._group or self._next > begin:
            self._group, self._coming = group, self._of_group(group)
        for found, batch in self._coming:
            self._next = found + ROWS
            self._batches[found] = batch
            while len(self._batches) > KEPT:
                self._batches.popitem(last=False)
            if found == begin:
                return

    def _of_group(self, group: int) -> Iterator[tuple[int, list[bytes | None]]]:
        begin = self._begins[group]
        names = [f"{self._column}.bytes"]
        for batch in self._file.iter_batches(ROWS, row_groups=[group], columns=names):
            yield begin, [one and one["bytes"] for one in batch.column(0).to_pylist()]
            begin += ROWS


def open_parquet(path: Path) -> Any:
    """A parquet file, to be read piece by piece.

    Raises:
        SemsegError: it cannot be read.
    """
    import pyarrow
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path, memory_map=True, pre_buffer=False)
    except (OSError, pyarrow.ArrowException) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise SemsegError(f"{path} is no readable parquet file ({first}).") from error
