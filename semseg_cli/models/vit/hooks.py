"""Edits of the residual stream inside a whole forward pass, for as long as a handle lives."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from semseg_cli.models.vit.backbone import Backbone
from semseg_cli.typed import typed


class HookHandle:
    """Takes a hook off again: by `remove()`, or at the end of a `with` block."""

    def __init__(self, handle: RemovableHandle) -> None:
        self._handle = handle

    def remove(self) -> None:
        """Restores the model."""
        self._handle.remove()

    def __enter__(self) -> "HookHandle":
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


@typed
def register_hook(
    vit: Backbone, hook: Callable[[Tensor], Tensor], layer: int, n_patches_per_img: int
) -> HookHandle:
    """Applies `hook` to the patch tokens of the residual stream after `layer` blocks.

    CLS and register tokens are never touched. `layer` counts as `vit_layer` does: 11 hooks block
    index 10.

    Raises:
        ValueError: there is no such layer, or (when run) the images have other numbers of patches,
            or the hook changes the shape.
    """
    if not 1 <= layer <= vit.n_layers:
        raise ValueError(f"layer is {layer}: this model has layers 1 to {vit.n_layers}")

    def edit(_block: nn.Module, _args: Any, tokens_bnd: Tensor) -> Tensor:
        if tokens_bnd.shape[1] != vit.n_prefix_tokens + n_patches_per_img:
            raise ValueError(
                f"n_patches_per_img is {n_patches_per_img}: the images have "
                f"{tokens_bnd.shape[1] - vit.n_prefix_tokens} patch tokens"
            )
        before, patches = tokens_bnd[:, :-n_patches_per_img], tokens_bnd[:, -n_patches_per_img:]
        edited = hook(patches)
        if edited.shape != patches.shape:
            raise ValueError(
                f"the hook gave shape {tuple(edited.shape)} for patches of shape "
                f"{tuple(patches.shape)}: expected the same"
            )
        return torch.cat([before, edited.to(patches.dtype)], dim=1)

    return HookHandle(vit.blocks[layer - 1].register_forward_hook(edit))
