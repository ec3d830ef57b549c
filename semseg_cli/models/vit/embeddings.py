"""From images to all tokens before the first block, by a family's own layers."""

from typing import Any

import torch
from torch import Tensor

from semseg_cli.models.vit.geometry import to_side


def embed(model: Any, images_bchw: Tensor) -> Tensor:
    """Where the model's own embedding takes images of any size."""
    return model.embeddings(images_bchw)


def embed_at_any_size(model: Any, images_bchw: Tensor) -> Tensor:
    """Where it has to be told so."""
    return model.embeddings(images_bchw, interpolate_pos_encoding=True)


def clip_embed(model: Any, images_bchw: Tensor) -> Tensor:
    """CLIP's, which has a norm before the first block."""
    return model.pre_layrnorm(embed_at_any_size(model, images_bchw))  # the name is transformers'


def mae_embed(model: Any, images_bchw: Tensor) -> Tensor:
    """MAE's, which shuffles patches and drops most of them: here all stay, in their order."""
    config = model.config
    height, width = images_bchw.shape[-2:]
    side = to_side(config.patch_size)
    n_patches = (height // side) * (width // side)
    noise_bt = torch.arange(n_patches, device=images_bchw.device).expand(len(images_bchw), -1)
    dropped, config.mask_ratio = config.mask_ratio, 0.0
    try:
        return model.embeddings(images_bchw, noise_bt, interpolate_pos_encoding=True)[0]
    finally:
        config.mask_ratio = dropped
