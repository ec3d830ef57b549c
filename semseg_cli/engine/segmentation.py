"""How well a head segments: one confusion matrix of pixels over a whole dataset."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor
from torch.nn.functional import interpolate

from semseg_cli.runs.report import ratio
from semseg_cli.typed import typed


@dataclass(frozen=True)
class Segmentation:
    """Intersection over union of each class, over all pixels of a dataset.

    `miou` is the mean over the classes that occur; `absent` are the ids of those that do not.
    """

    ious: dict[int, float]
    absent: tuple[int, ...]
    accuracy: float

    @property
    def miou(self) -> float:
        """The mean over the classes that occur; 0 where none does."""
        return ratio(sum(self.ious.values()), len(self.ious))


@typed
def count_pixels(
    labels_n: Integer[Tensor, " n"], predicted_n: Int64[Tensor, " n"], n_classes: int
) -> Int64[Tensor, "c c"]:
    """Pixels by class (row) and prediction (column), both 1..C; those labelled 0 do not count."""
    known_n = labels_n > 0
    cells_n = (labels_n[known_n].long() - 1) * n_classes + predicted_n[known_n] - 1
    return torch.bincount(cells_n, minlength=n_classes**2).view(n_classes, n_classes)


def segmentation(matrix_cc: Int64[Tensor, "c c"]) -> Segmentation:
    """The measures that a confusion matrix gives."""
    hits, rows, columns = matrix_cc.diagonal(), matrix_cc.sum(dim=1), matrix_cc.sum(dim=0)
    unions = (rows + columns - hits).tolist()
    pairs = enumerate(zip(hits.tolist(), unions, rows.tolist(), strict=True), start=1)
    found = list(pairs)
    return Segmentation(
        ious={c: ratio(hit, union) for c, (hit, union, n) in found if n},
        absent=tuple(c for c, (_, _, n) in found if not n),
        accuracy=ratio(int(hits.sum()), int(matrix_cc.sum())),
    )


@typed
def upsampled_classes(
    logits_btc: Float[Tensor, "b t c"], grid: tuple[int, int], size: tuple[int, int]
) -> Int64[Tensor, "b h w"]:
    """The class of each pixel, 1..C, from logits of patches (channel 0, null, never wins).

    Logits are interpolated bilinearly between the centres of patches.
    """
    logits_bchw = logits_btc[..., 1:].transpose(1, 2).unflatten(2, grid)
    # Channels stay side by side: else a single image takes five times as long on a CPU.
    logits_bchw = logits_bchw.contiguous(memory_format=torch.channels_last)
    upsampled = interpolate(logits_bchw, size=size, mode="bilinear", align_corners=False)
    return upsampled.argmax(dim=1) + 1
