"""timm's vision transformers inside transformers' wrapper."""

import importlib.util
from typing import Any

from PIL import Image
from torch import Tensor

from semseg_cli.data.preprocessing import Preprocessing
from semseg_cli.errors import SemsegError

NEEDED = ("patch_embed", "_pos_embed", "norm_pre", "blocks", "norm")
IN_A_BLOCK = ("attn", "norm2", "mlp", "ls1", "ls2")


def require_timm() -> None:
    """Refuses to go on where timm is not installed."""
    if importlib.util.find_spec("timm") is None:
        raise SemsegError(
            "The family timm needs the package timm: pip install 'semseg-cli[timm]', or take the "
            "same model from another family."
        )


def prepare(config: Any) -> None:
    """Asks for a model that takes images of any size."""
    require_timm()
    config.model_args = {**(config.model_args or {}), "dynamic_img_size": True}


def complete(model: Any) -> None:
    """Gives the wrapper's config the sizes of its model.

    Raises:
        SemsegError: the model is no plain vision transformer.
    """
    inner, config = model.timm_model, model.config
    blocks = getattr(inner, "blocks", [])
    lacking = [name for name in NEEDED if not hasattr(inner, name)]
    lacking += [name for block in blocks for name in IN_A_BLOCK if not hasattr(block, name)][:1]
    if lacking:
        raise SemsegError(
            f"timm's {config.architecture} is no plain vision transformer (it has no "
            f"{lacking[0]}): give one of its class VisionTransformer."
        )
    inner.patch_embed.img_size = None  # else sizes with a rest beyond whole patches are refused
    if not getattr(config, "pretrained_cfg", None):
        config.pretrained_cfg = inner.pretrained_cfg
    config.hidden_size = inner.embed_dim
    config.num_hidden_layers = len(blocks)
    config.num_attention_heads = blocks[0].attn.num_heads
    config.num_prefix_tokens = inner.num_prefix_tokens
    config.patch_size = list(inner.patch_embed.patch_size)


def embed(model: Any, images_bchw: Tensor) -> Tensor:
    """All tokens before the first block, at any size."""
    inner = model.timm_model
    embedded = inner.patch_embed(images_bchw)
    return inner.norm_pre(inner._pos_embed(embedded))


def preprocessing(config: Any) -> Preprocessing:
    """What timm evaluates with, as the config says: a share of the picture's centre."""
    cfg = config.pretrained_cfg
    height, width = cfg["input_size"][-2:]
    share = float(cfg.get("crop_pct") or 0.875)
    stretches = cfg.get("crop_mode", "center") == "squash"
    resample = Image.Resampling[str(cfg.get("interpolation") or "bicubic").upper()]
    return Preprocessing(
        resize=(int(height / share), int(width / share)),
        crop=(height, width),
        mean=tuple(cfg["mean"]),
        std=tuple(cfg["std"]),
        keeps_aspect=not stretches,
        resample=resample,
    )
