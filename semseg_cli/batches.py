"""One image with its patch labels, and many of them stacked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from semseg_cli.errors import SemsegError


@dataclass(frozen=True)
class Sample:
    """One image. `position` counts within the subset in use, `index` within the whole split."""

    image_chw: Tensor
    labels_t: Tensor
    share_t: Tensor
    position: int
    index: int


@dataclass(frozen=True)
class KnownSample:
    """One image of which the residual is known already."""

    tokens_nd: Tensor
    labels_t: Tensor
    share_t: Tensor
    position: int
    index: int


@dataclass(frozen=True)
class Batch:
    """Images with the label of each patch and the share of its pixels that agree on it.

    Where the residuals of some of them are known, `images_bchw` holds only the others, the rows
    `unknown_rows` of the batch.
    """

    images_bchw: Float[Tensor, "m c h w"]
    labels_bt: Int64[Tensor, "b t"]
    share_bt: Float64[Tensor, "b t"]
    positions_b: Int64[Tensor, " b"]
    indices_b: Int64[Tensor, " b"]
    known_knd: Float[Tensor, "k n d"] | None = None
    unknown_rows: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.positions_b)

    def pin_memory(self) -> "Batch":
        """The same in memory from which a GPU copies while the CPU goes on."""
        known_knd = None if self.known_knd is None else self.known_knd.pin_memory()
        return replace(self, images_bchw=self.images_bchw.pin_memory(), known_knd=known_knd)


class Careful(TorchDataset[Sample | KnownSample | SemsegError]):
    """Hands known errors on as values: torch wraps those raised in a worker in its traceback."""

    def __init__(self, samples: TorchDataset[Sample | KnownSample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)  # type: ignore[arg-type]

    def __getitem__(self, position: int) -> Sample | KnownSample | SemsegError:
        try:
            return self.samples[position]
        except SemsegError as error:
            return error


def collated(samples: Sequence[Sample | KnownSample | SemsegError]) -> Batch | SemsegError:
    """The samples as one batch; the first error, if there is one."""
    good = [sample for sample in samples if not isinstance(sample, SemsegError)]
    if len(good) < len(samples):
        return next(sample for sample in samples if isinstance(sample, SemsegError))
    images = [sample.image_chw for sample in good if isinstance(sample, Sample)]
    known = [sample.tokens_nd for sample in good if isinstance(sample, KnownSample)]
    return Batch(
        images_bchw=torch.stack(images) if images else torch.empty(0, 3, 0, 0),
        labels_bt=torch.stack([s.labels_t for s in good]),
        share_bt=torch.stack([s.share_t for s in good]),
        positions_b=torch.tensor([s.position for s in good]),
        indices_b=torch.tensor([s.index for s in good]),
        known_knd=torch.stack(known) if known else None,
        unknown_rows=tuple(row for row, s in enumerate(good) if isinstance(s, Sample)),
    )
