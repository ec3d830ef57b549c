"""The linear segmentation head: final-norm patch features -> class logits."""

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from semseg_cli.errors import SemsegError
from semseg_cli.files import expanded, write_atomic
from semseg_cli.models.head_images import images_of, metadata, write_beside
from semseg_cli.models.named_files import require_head
from semseg_cli.models.published_head import read_published, state_in
from semseg_cli.models.weight_files import (
    as_weights,
    bad_place,
    read_header,
    read_safetensors,
    read_state,
    read_torch,
)
from semseg_cli.readers import read_bytes
from semseg_cli.typed import typed


class SegmentationHead(nn.Linear):
    """A linear layer with C + 1 outputs; output 0 is the null class and never predicted."""

    digest: str = ""
    seen: frozenset[str] = frozenset()
    """The contents (as `Dataset.contents` has them) of the images that it was trained or chosen on,
    where its file says so."""

    @property
    def n_classes(self) -> int:
        """C, without the null class."""
        return self.out_features - 1


@typed
def argmax_logits(
    logits: Float[Tensor, "batch patches channels_with_null"],
) -> Int[Tensor, "batch patches"]:
    """The best class per patch, 1..C: channel 0 is null and never wins.

    Raises:
        ValueError: there is no channel beside null.
    """
    if logits.shape[-1] < 2:
        raise ValueError(
            f"the logits have {logits.shape[-1]} channels: expected null and at least one class"
        )
    return logits[..., 1:].argmax(dim=-1) + 1


@typed
def class_margins(
    logits: Float[Tensor, "batch patches channels_with_null"],
    classes: Int[Tensor, "batch patches"],
) -> Float[Tensor, "batch patches"]:
    """By how much each patch's logit of its given class is above its best other one, null aside.

    0 where there is no other class. Overwrites the logits of the given classes.
    """
    known = logits[..., 1:]
    if known.shape[-1] < 2:
        return torch.zeros_like(known[..., 0])
    cells = (classes - 1)[..., None]
    own = known.gather(-1, cells)[..., 0]
    return own - known.scatter_(-1, cells, -torch.inf).amax(dim=-1)


def load_head(path: str | Path, background: bool = False) -> SegmentationHead:
    """The head in a file, or in a folder's `*_step{n}.pt` with the largest n.

    A `.pt` file holds a JSON line `{"in_features", "out_features"}` and a state dict, a
    `.safetensors` file `weight` and `bias`. DINOv2's own `*_linear_head.pth` are read too.

    Args:
        path: a file or folder.
        background: whether background is a class of its own, for a published head that predicts it.

    Raises:
        SemsegError: it is missing, unreadable, or its shapes do not fit.
    """
    path = require_head(expanded(path))
    data = read_bytes(path, f"The head {path}", "check --seg-ckpt")
    if path.suffix == ".safetensors":
        state, shape = read_safetensors(path), None
    elif published := _published(path, data):
        state, shape = read_published(path, published, background), None
    else:
        header, rest = read_header(path, data)
        state = read_state(path, rest)
        shape = (header.get("out_features"), header.get("in_features"))
    head = _from_state(path, state, shape)
    head.digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    head.seen = images_of(path, head.digest)
    return head.eval().requires_grad_(False)


def _published(path: Path, data: bytes) -> dict[str, Tensor]:
    """The state dict of a head that others published; empty where it is one of ours, or none."""
    is_torch_file = data.startswith((b"PK\x03\x04", b"\x80\x02"))
    return state_in(read_torch(path, data)) if is_torch_file else {}


def _from_state(
    path: Path, state: dict[str, Tensor], shape: tuple[int | None, int | None] | None
) -> SegmentationHead:
    named = {name.rsplit(".", 1)[-1]: tensor for name, tensor in state.items()}
    if set(named) != {"weight", "bias"} or len(state) != 2:
        raise SemsegError(f"The head {path} holds {sorted(state)}: expected a weight and a bias.")
    weight, bias = (as_weights(path, name, named[name]) for name in ("weight", "bias"))
    if weight.ndim != 2 or bias.shape != weight.shape[:1] or len(weight) < 2:
        raise SemsegError(
            f"The head {path} has a weight of shape {tuple(weight.shape)} and a bias of shape "
            f"{tuple(bias.shape)}: expected [C + 1, d] and [C + 1]."
        )
    if shape is not None and shape != tuple(weight.shape):
        raise SemsegError(
            f"The header of the head {path} says (out, in) = {shape}, its weight is "
            f"{tuple(weight.shape)}: the file is bad."
        )
    head = SegmentationHead(weight.shape[1], weight.shape[0])
    head.load_state_dict({"weight": weight, "bias": bias})
    return head


def head_of(layer: nn.Module, *, has_null: bool = True) -> SegmentationHead:
    """A copy of a user's linear layer (or convolution of single patches) as a head.

    `has_null`: whether output 0 is the null class; else it is put in front.

    Raises:
        SemsegError: it is no such layer.
    """
    is_pointwise = isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1)
    if not isinstance(layer, nn.Linear) and not is_pointwise:
        raise SemsegError(
            f"The head is a {type(layer).__name__}: give an nn.Linear, or an nn.Conv2d with a "
            "kernel of 1, that reads patch tokens after the final norm."
        )
    given: Any = layer
    weight = given.weight.detach().float().cpu().flatten(1)
    bias = torch.zeros(len(weight)) if given.bias is None else given.bias.detach().float().cpu()
    if not has_null:
        weight = torch.cat([torch.zeros_like(weight[:1]), weight])
        bias = torch.cat([torch.zeros(1), bias])
    if len(weight) < 2 or bad_place(weight) or bad_place(bias):
        raise SemsegError(
            f"The head has {len(weight)} outputs, or weights that are NaN or infinite: it needs "
            "null (has_null=False if output 0 is a class) and at least one class."
        )
    head = SegmentationHead(weight.shape[1], len(weight))
    head.load_state_dict({"weight": weight, "bias": bias})
    digest = hashlib.blake2b(digest_size=16)
    for tensor in (weight, bias):
        digest.update(tensor.contiguous().numpy().tobytes())
    head.digest = digest.hexdigest()
    return head.eval().requires_grad_(False)


def require_one_block(head: SegmentationHead, d_model: int) -> None:
    """Refuses a head that reads several blocks at once.

    Raises:
        SemsegError: it does.
    """
    n_blocks, rest = divmod(head.in_features, d_model)
    if n_blocks > 1 and not rest:
        raise SemsegError(
            f"The head reads width {head.in_features}: {n_blocks} blocks of the ViT together (a "
            "multi-scale head), but only heads of the last block alone are used: give the "
            "*_linear_head file of the same model as --seg-ckpt, or train one with train-head."
        )


def save_head(
    path: str | Path, head: nn.Linear, option: str = "--dump-to", seen: Sequence[str] = ()
) -> None:
    """Writes a head in the format that the file's ending names (.pt or .safetensors), atomically.

    `seen`: the contents of the images that it was made with (`models/head_images`).

    Raises:
        SemsegError: it cannot be written; the sentence names the option to change.
    """
    path = Path(path)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in head.state_dict().items()}
    if path.suffix == ".safetensors":
        data = to_safetensors(state, metadata(seen) or None)
    else:
        header = {"in_features": head.in_features, "out_features": head.out_features}
        file = io.BytesIO()
        torch.save(state, file)
        data = json.dumps(header).encode() + b"\n" + file.getvalue()
    write_atomic(path, data, option)
    if seen and path.suffix != ".safetensors":
        write_beside(path, hashlib.blake2b(data, digest_size=16).hexdigest(), seen, option)
