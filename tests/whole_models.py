"""A transformers model's own forward pass, whatever its family has to be told."""

import inspect
from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def forward(model: Any, images_bchw: Tensor, *, any_size: bool = True, **options: Any) -> Any:
    """A transformers model's own output, by default for images of any size."""
    takes = inspect.signature(type(model).forward).parameters
    if any_size and "interpolate_pos_encoding" in takes and type(model).__name__ != "BeitModel":
        options["interpolate_pos_encoding"] = True  # BEiT's resizes its bias by it, a second time
    if "noise" in takes:  # MAE: ordered noise and no masking leave patches where they are
        model.config.mask_ratio = 0.0
        n_patches = (images_bchw.shape[2] // 16) * (images_bchw.shape[3] // 16)
        options["noise"] = torch.arange(n_patches).expand(len(images_bchw), -1)
    return model(images_bchw, **options)


def whole(model: Any, images_bchw: Tensor) -> Tensor:
    """All tokens that a transformers model itself returns."""
    return forward(model, images_bchw).last_hidden_state
