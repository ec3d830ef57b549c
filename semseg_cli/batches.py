"""One image with its patch labels, and many of them stacked."""

from collections.abc import Sequence
from dataclasses import dataclass

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
class Batch:
    """Images with the label of each patch and the share of its pixels that agree on it."""

    images_bchw: Float[Tensor, "b c h w"]
    labels_bt: Int64[Tensor, "b t"]
    share_bt: Float64[Tensor, "b t"]
    positions_b: Int64[Tensor, " b"]
    indices_b: Int64[Tensor, " b"]

    def __len__(self) -> int:
        return len(self.positions_b)


class Careful(TorchDataset):
    """Hands known errors on as values: torch wraps those raised in a worker in its traceback."""

    def __init__(self, samples: TorchDataset[Sample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)  # type: ignore[arg-type]

    def __getitem__(self, position: int) -> Sample | SemsegError:
        try:
            return self.samples[position]
        except SemsegError as error:
            return error


def collated(samples: Sequence[Sample | SemsegError]) -> Batch | SemsegError:
    """The samples as one batch; the first error, if there is one."""
    good = [sample for sample in samples if isinstance(sample, Sample)]
    if len(good) < len(samples):
        return next(sample for sample in samples if isinstance(sample, SemsegError))
    return Batch(
        images_bchw=torch.stack([s.image_chw for s in good]),
        labels_bt=torch.stack([s.labels_t for s in good]),
        share_bt=torch.stack([s.share_t for s in good]),
        positions_b=torch.tensor([s.position for s in good]),
        indices_b=torch.tensor([s.index for s in good]),
    )
