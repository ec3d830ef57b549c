"""PyTorch files, read without running them: tensors, plain values, and records of objects.

Both layouts of `torch.save` are read: a zip archive with the pickle `data.pkl` and a file for each
storage, and the older one of pickles that the storages follow.
"""

import struct
import zipfile
from collections.abc import Callable
from functools import partial
from typing import Any, BinaryIO

import torch
from torch import Tensor

from semseg_cli.models.torch_files.machine import read_pickle
from semseg_cli.models.torch_files.names import FUNCTIONS, VALUES, are_counts
from semseg_cli.models.torch_files.records import BadPickle

MAGIC = 0x1950A86A20F9469CFC6C
Fill = Callable[[Tensor, str], None]


def read_torch_file(file: BinaryIO, numbers: bool = True) -> Any:
    """What a PyTorch file holds; see `Record` for what is not a tensor or a plain value.

    Args:
        file: at any place.
        numbers: whether the tensors get their numbers; else they are on PyTorch's meta device.

    Raises:
        BadPickle: it is cut, damaged, or no PyTorch file.
        OSError: it cannot be read.
    """
    size = file.seek(0, 2)
    file.seek(0)
    start = file.read(4)
    file.seek(0)
    if start != b"PK\x03\x04":
        return _read_legacy(file, size, numbers)
    try:
        with zipfile.ZipFile(file) as archive:
            return _read_zip(archive, size, numbers)
    except (BadPickle, OSError):
        raise
    except Exception as error:  # whatever bytes do to the reader of archives
        raise BadPickle(f"its archive is damaged: {type(error).__name__}") from error


def _read_zip(archive: zipfile.ZipFile, size: int, numbers: bool) -> Any:
    entries = {info.filename: info for info in archive.infolist()}
    found = [name for name in entries if name.rpartition("/")[2] == "data.pkl"]
    if len(found) != 1:
        raise BadPickle("it is an archive without one data.pkl")
    folder = found[0].removesuffix("data.pkl")
    if any(name.startswith(f"{folder}code/") for name in entries):
        raise BadPickle("it is a TorchScript program, not a torch.save file")

    def opened(name: str) -> Any:
        info = entries.get(f"{folder}{name}")
        if info is None:
            raise BadPickle(f"it lacks its entry {name[:80]}")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > size:
            raise BadPickle(f"its entry {name} is compressed, as PyTorch never does")
        return archive.open(info)

    if f"{folder}byteorder" in entries and opened("byteorder").read() != b"little":
        raise BadPickle("its numbers are big-endian")

    def fill(storage: Tensor, key: str) -> None:
        with opened(f"data/{key}") as entry:
            _fill(storage, entry)

    with opened("data.pkl") as file:
        return _read(file, _Storages(size, fill if numbers else None))


def _read_legacy(file: BinaryIO, size: int, numbers: bool) -> Any:
    """The magic number, version and platform, the object, the storages' keys, their numbers."""
    empty = partial(read_pickle, values={}, functions={}, persistent=_no_storage)
    try:
        magic = empty(file)
    except BadPickle as error:
        raise BadPickle("it is neither an archive nor a pickle") from error
    if magic != MAGIC:
        raise BadPickle("it is a pickle that torch.save has not written")
    empty(file)
    platform = empty(file)
    if not isinstance(platform, dict) or not platform.get("little_endian", True):
        raise BadPickle("its numbers are big-endian")
    storages = _Storages(size, (lambda storage, key: None) if numbers else None)
    value = _read(file, storages)
    if not numbers:
        return value
    keys = empty(file)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise BadPickle("its list of tensors is damaged")
    if not set(storages.by_key) <= set(keys):
        raise BadPickle("it lacks some of its tensors")
    for key in keys:
        storage = storages.by_key.get(key)
        (n_numbers,) = struct.unpack("<q", file.read(8).ljust(8, b"\xff"))
        if storage is None or n_numbers != len(storage):
            raise BadPickle("its tensors are cut")
        _fill(storage, file)
    return value


def _no_storage(_: Any) -> Any:
    raise BadPickle("it has tensors in its header")


def _fill(storage: Tensor, file: Any) -> None:
    """Reads the numbers of a storage."""
    if file.readinto(storage.view(torch.uint8).numpy().data) != storage.nbytes:
        raise BadPickle("its tensors are cut")


class _Storages:
    """The storages that a pickle refers to, as flat tensors; together no larger than the file."""

    def __init__(self, size: int, fill: Fill | None) -> None:
        self.n_bytes_left, self.fill = size, fill
        self.by_key: dict[str, Tensor] = {}

    def __call__(self, reference: Any) -> Any:
        """The storage of a reference: ("storage", kind, key, device, number of elements).

        The older layout also refers to a class so, with its source: ("module", class, ...).
        """
        if isinstance(reference, tuple) and len(reference) == 4 and reference[0] == "module":
            return reference[1]
        if not isinstance(reference, tuple) or len(reference) not in (5, 6):
            raise BadPickle("its pickle refers to something other than a storage")
        word, dtype, key, _, n_numbers = reference[:5]
        known = word == "storage" and isinstance(dtype, torch.dtype) and isinstance(key, str)
        if not known or not are_counts([n_numbers]):
            raise BadPickle("its pickle refers to a storage of an unknown kind")
        if key not in self.by_key:
            self.n_bytes_left -= n_numbers * dtype.itemsize
            if self.n_bytes_left < 0:
                raise BadPickle("its tensors would be larger than the file")
            place = "meta" if self.fill is None else "cpu"
            storage = torch.zeros(n_numbers, dtype=dtype, device=place)
            if self.fill is not None:
                self.fill(storage, key)
            self.by_key[key] = storage
        if len(reference) == 6 and reference[5] is not None:
            return self._view(self.by_key[key], reference[5])
        return self.by_key[key]

    def _view(self, storage: Tensor, view: Any) -> Tensor:
        """Part of a storage: (key, offset, number of elements), as the older layout has it."""
        if not isinstance(view, tuple) or len(view) != 3 or not are_counts(view[1:]):
            raise BadPickle("its pickle refers to a storage of an unknown kind")
        return storage[view[1] : view[1] + view[2]]


def _read(file: BinaryIO, storages: _Storages) -> Any:
    return read_pickle(file, VALUES, FUNCTIONS, storages)
