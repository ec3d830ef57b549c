"""Tiny, randomly initialised transformers models of every family."""

from collections.abc import Callable
from typing import Any

import torch
from worlds import make_vit

SIZES = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 48,
    "image_size": 64,
    "patch_size": 16,
}
TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 50,
    "max_position_embeddings": 8,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def stirred(model: Any, seed: int) -> Any:
    """The model with weights that matter: norms, scales and all tokens differ from their start."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "lambda" in name:
                parameter.add_(torch.randn_like(parameter) * 0.2)
            else:
                parameter.normal_(0.0, 0.05 if "patch_embedding" in name else 0.2)
    return model.eval()


def make_dinov2(seed: int = 0, **sizes: Any) -> Any:
    return make_vit(seed=seed, **{"image_size": 64, "patch_size": 16, **sizes})


def make_dinov2_registers(seed: int = 0, **sizes: Any) -> Any:
    return make_vit(seed=seed, registers=4, **{"image_size": 64, "patch_size": 16, **sizes})


def make_dinov3(seed: int = 0, **sizes: Any) -> Any:
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    config = DINOv3ViTConfig(**{**SIZES, "num_register_tokens": 4, **sizes})
    return stirred(DINOv3ViTModel(config), seed)


def make_clip(seed: int = 0, **sizes: Any) -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    return stirred(CLIPVisionModel(CLIPVisionConfig(**{**SIZES, **sizes})), seed)


def make_siglip(seed: int = 0, **sizes: Any) -> Any:
    from transformers import SiglipVisionConfig, SiglipVisionModel

    return stirred(SiglipVisionModel(SiglipVisionConfig(**{**SIZES, **sizes})), seed)


def make_whole_clip(seed: int = 0) -> Any:
    """With the text half, as the hub has it."""
    from transformers import CLIPConfig, CLIPModel

    config = CLIPConfig(vision_config=dict(SIZES), text_config=dict(TEXT))
    return stirred(CLIPModel(config), seed)


def make_whole_siglip(seed: int = 0) -> Any:
    """With the text half, as the hub has it."""
    from transformers import SiglipConfig, SiglipModel

    config = SiglipConfig(vision_config=dict(SIZES), text_config=dict(TEXT))
    return stirred(SiglipModel(config), seed)


Maker = Callable[..., Any]
# name -> (family, its maker, tokens before the patches)
VARIANTS: dict[str, tuple[str, Maker, int]] = {
    "dinov2": ("dinov2", make_dinov2, 1),
    "dinov2-registers": ("dinov2", make_dinov2_registers, 5),
    "dinov3": ("dinov3", make_dinov3, 5),
    "clip": ("clip", make_clip, 1),
    "siglip": ("siglip", make_siglip, 0),
}
# The attention, the norm before the MLP and the MLP of a block, as its family's code names them.
SCALED_BLOCK = ("attention", "norm2", "mlp")
PLAIN_BLOCK = ("self_attn", "layer_norm2", "mlp")
BLOCKS = {
    "dinov2": SCALED_BLOCK,
    "dinov2-registers": SCALED_BLOCK,
    "dinov3": SCALED_BLOCK,
    "clip": PLAIN_BLOCK,
    "siglip": PLAIN_BLOCK,
}
