"""Linear heads as DINOv2 publishes them, and DINOv3's code trains them: batch norm, then 1x1 conv.

They read the last block's patch tokens after the final norm, as our heads do; in evaluation the
batch norm is a scale and a shift per dimension, which are folded into the weights.
"""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from semseg_cli.errors import SemsegError
from semseg_cli.models.weight_files import as_weights
from semseg_cli.typed import typed

BATCH_NORM_EPS = 1e-5
NULL_BIAS = -1e4  # the null class is never predicted; an infinite bias would make NaN elsewhere
LAYOUTS = {
    "DINOv2": ("decode_head.conv_seg.", "decode_head.bn."),
    "DINOv3": ("segmentation_model.1.conv.", "segmentation_model.1.batchnorm_layer."),
}
"""Whose layout -> the prefixes of its convolution and of its batch norm."""
NORM = ("weight", "bias", "running_mean", "running_var")
VOC_OUTPUTS = 21


def state_in(found: Any) -> dict[str, Tensor]:
    """The state dict of a published head in what a PyTorch file holds; empty where it is none."""
    for name in ("state_dict", "model"):
        found = found.get(name, found) if isinstance(found, dict) else {}
    state = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    is_head = any(f"{convolution}weight" in state for convolution, _ in LAYOUTS.values())
    return state if is_head else {}


def read_published(path: Path, state: dict[str, Tensor], background: bool) -> dict[str, Tensor]:
    """Weight [C + 1, d] and bias [C + 1] of a published head.

    ADE20K's has no output for null: a row for it goes in front. VOC's first output is background,
    which is null here, unless background is a class of its own: then a row goes in front too.

    Raises:
        SemsegError: it lacks tensors, or their shapes do not fit.
    """
    convolution, norm = next(
        prefixes for prefixes in LAYOUTS.values() if f"{prefixes[0]}weight" in state
    )
    names = [f"{convolution}weight", f"{convolution}bias", *(f"{norm}{part}" for part in NORM)]
    missing = [name for name in names if name not in state]
    if missing:
        raise SemsegError(f"The head {path} lacks {', '.join(missing)}: the file is bad.")
    kernel, bias, *statistics = (as_weights(path, name, state[name]) for name in names)
    if kernel.ndim != 4 or kernel.shape[2:] != (1, 1):
        raise SemsegError(
            f"The head {path} has a kernel of shape {tuple(kernel.shape)}: a linear head has "
            "[C, d, 1, 1]."
        )
    n_classes, width = kernel.shape[:2]
    sizes = [tuple(one.shape) for one in (bias, *statistics)]
    if sizes != [(n_classes,)] + [(width,)] * len(statistics):
        raise SemsegError(f"The head {path} has tensors of shapes that do not fit: it is bad.")
    weight, bias = fold_batch_norm(kernel[:, :, 0, 0], bias, *statistics)
    if n_classes == VOC_OUTPUTS and not background:
        return {"weight": weight, "bias": bias}
    return {
        "weight": torch.cat([torch.zeros(1, width), weight]),
        "bias": torch.cat([torch.tensor([NULL_BIAS]), bias]),
    }


@typed
def fold_batch_norm(
    weight: Float[Tensor, "c d"],
    bias: Float[Tensor, " c"],
    gain: Float[Tensor, " d"],
    shift: Float[Tensor, " d"],
    mean: Float[Tensor, " d"],
    variance: Float[Tensor, " d"],
) -> tuple[Float[Tensor, "c d"], Float[Tensor, " c"]]:
    """Weight and bias of the linear layer that does a batch norm and then the given one."""
    scale = gain.double() / torch.sqrt(variance.double() + BATCH_NORM_EPS)
    moved = bias.double() + weight.double() @ (shift.double() - mean.double() * scale)
    return (weight * scale).float(), moved.float()
