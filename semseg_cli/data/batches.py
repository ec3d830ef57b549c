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
class KeptSample:
    """One image of which the residual is kept."""

    tokens_nd: Tensor
    labels_t: Tensor
    share_t: Tensor
    position: int
    index: int


@dataclass(frozen=True)
class Batch:
    """Images with the label of each patch and the share of its pixels that agree on it.

    Where the residuals of some of them are kept, `images_bchw` holds only the others, the rows
    `new_rows` of the batch.
    """

    images_bchw: Float[Tensor, "m c h w"]
    labels_bt: Int64[Tensor, "b t"]
    share_bt: Float64[Tensor, "b t"]
    positions_b: Int64[Tensor, " b"]
    indices_b: Int64[Tensor, " b"]
    kept_knd: Float[Tensor, "k n d"] | None = None
    new_rows: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.positions_b)

    def pin_memory(self) -> "Batch":
        """The same in memory from which a GPU copies while the CPU goes on."""
        kept_knd = None if self.kept_knd is None else self.kept_knd.pin_memory()
        return replace(self, images_bchw=self.images_bchw.pin_memory(), kept_knd=kept_knd)


class Careful(TorchDataset[Sample | KeptSample | SemsegError]):
    """Hands known errors on as values: torch wraps those raised in a worker in its traceback."""

    def __init__(self, samples: TorchDataset[Sample | KeptSample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)  # type: ignore[arg-type]

    def __getitem__(self, position: int) -> Sample | KeptSample | SemsegError:
        try:
            return self.samples[position]
        except SemsegError as error:
            return error


def collated(samples: Sequence[Sample | KeptSample | SemsegError]) -> Batch | SemsegError:
    """The samples as one batch; the first error, if there is one."""
    good = [sample for sample in samples if not isinstance(sample, SemsegError)]
    if len(good) < len(samples):
        return next(sample for sample in samples if isinstance(sample, SemsegError))
    images = [sample.image_chw for sample in good if isinstance(sample, Sample)]
    kept = [sample.tokens_nd for sample in good if isinstance(sample, KeptSample)]
    return Batch(
        images_bchw=torch.stack(images) if images else torch.empty(0, 3, 0, 0),
        labels_bt=torch.stack([s.labels_t for s in good]),
        share_bt=torch.stack([s.share_t for s in good]),
        positions_b=torch.tensor([s.position for s in good]),
        indices_b=torch.tensor([s.index for s in good]),
        kept_knd=torch.stack(kept) if kept else None,
        new_rows=tuple(row for row, s in enumerate(good) if isinstance(s, Sample)),
    )
