"""What a pass over images adds up: whole, or part by part; and a part as bytes and back."""

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor

from semseg_cli.engine.measured import Measured
from semseg_cli.engine.outcomes import Reference
from semseg_cli.runs.journal import Journal

SPAN = struct.Struct("<qq")  # the first of the images, and how many


@dataclass(frozen=True)
class Tally:
    """What was counted on consecutive images: of every intervention, and what all are held against
    (None: no outcomes are measured)."""

    images: range
    measured: Sequence[Measured]
    reference: Reference | None

    @property
    def by_image(self) -> list[Tensor]:
        """What there is one row of per image."""
        return [tensor for one in self.measured for tensor in one.by_image]

    @property
    def totals(self) -> list[Tensor]:
        """What is summed over images."""
        summed = [tensor for one in self.measured for tensor in one.totals]
        return [*summed, *(self.reference.totals if self.reference else ())]

    def add(self, part: "Tally") -> None:
        """Adds what was counted on some of these images."""
        begin = part.images.start - self.images.start
        for whole, found in zip(self.by_image, part.by_image, strict=True):
            whole[begin : begin + len(found)] += found
        for whole, found in zip(self.totals, part.totals, strict=True):
            whole += found

    def add_ranks(self) -> None:
        """Adds what the other ranks measured, in total; see `Counts.add_ranks`."""
        if self.reference:
            self.reference.add_ranks()
        for measured in self.measured:
            measured.add_ranks()

    def to_bytes(self) -> bytes:
        """The numbers, compressed: most counts are 0."""
        tensors = (*self.by_image, *self.totals)
        numbers = b"".join(tensor.contiguous().numpy().tobytes() for tensor in tensors)
        return SPAN.pack(self.images.start, len(self.images)) + zlib.compress(numbers, level=1)


NewTally = Callable[[range], Tally]


def from_bytes(data: bytes, new: NewTally) -> Tally:
    """What `to_bytes` wrote; `new` makes an empty tally of some images."""
    begin, n_images = SPAN.unpack_from(data)
    tally = new(range(begin, begin + n_images))
    numbers, at = bytearray(zlib.decompress(data[SPAN.size :])), 0
    for tensor in (*tally.by_image, *tally.totals):
        found = torch.frombuffer(numbers, dtype=tensor.dtype, count=tensor.numel(), offset=at)
        tensor.copy_(found.view_as(tensor))
        at += tensor.numel() * tensor.element_size()
    assert at == len(numbers), "a record of other edits"
    return tally


def kept(journal: Journal, whole: Tally, new: NewTally) -> Iterator[Tally]:
    """What a journal has of a pass, part by part, in the order of the images.

    Nothing, where it has other edits: the latents that were chosen again are not the same.
    """
    for record in journal.records(_said(whole.measured)):
        yield from_bytes(record, new)


def _said(measured: Sequence[Measured]) -> bytes:
    """What decides which edits are made on which images, beside the inputs of a run."""
    said = [
        (e.method, e.scale, e.class_ids, e.latents_by_class, e.seed, e.draw)
        for one in measured
        for e in one.intervention.draws
    ]
    masks = [one.is_wanted for one in measured if one.is_wanted is not None]
    wanted = [blake2b(mask.numpy().tobytes(), digest_size=8).hexdigest() for mask in masks]
    return repr((said, wanted)).encode()
