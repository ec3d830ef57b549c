"""Tiny, randomly initialised transformers models of every family."""

import importlib.util
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


def make_plain_vit(seed: int = 0, **sizes: Any) -> Any:
    from transformers import ViTConfig, ViTModel

    return stirred(ViTModel(ViTConfig(**{**SIZES, **sizes}), add_pooling_layer=False), seed)


def make_deit(seed: int = 0, **sizes: Any) -> Any:
    from transformers import DeiTConfig, DeiTModel

    return stirred(DeiTModel(DeiTConfig(**{**SIZES, **sizes}), add_pooling_layer=False), seed)


def make_mae(seed: int = 0, **sizes: Any) -> Any:
    from transformers import ViTMAEConfig, ViTMAEModel

    return stirred(ViTMAEModel(ViTMAEConfig(**{**SIZES, **sizes})), seed)


def make_beit(seed: int = 0, **sizes: Any) -> Any:
    """With relative positions in each block, as microsoft/beit-*."""
    from transformers import BeitConfig, BeitModel

    kind = {"use_relative_position_bias": True, "use_mean_pooling": False, "drop_path_rate": 0.1}
    config = BeitConfig(**{**SIZES, **kind, "layer_scale_init_value": 0.9, **sizes})
    return stirred(BeitModel(config, add_pooling_layer=False), seed)


def make_beit_shared(seed: int = 0, **sizes: Any) -> Any:
    """With absolute positions and relative ones that all blocks share, and the pooler's norm."""
    kind = {"use_relative_position_bias": False, "use_mean_pooling": True}
    more = {"use_shared_relative_position_bias": True, "use_absolute_position_embeddings": True}
    return make_beit(seed, **{**kind, **more, **sizes})


def make_timm(seed: int = 0, **sizes: Any) -> Any:
    """With layer scale and registers."""
    from transformers import TimmWrapperConfig, TimmWrapperModel

    sizes = {**SIZES, **sizes}
    args = {
        "img_size": sizes["image_size"], "patch_size": sizes["patch_size"], "embed_dim": 24,
        "depth": sizes["num_hidden_layers"], "num_heads": 3, "mlp_ratio": 2.0, "init_values": 0.9,
        "reg_tokens": 2, "dynamic_img_size": True,
    }  # fmt: skip
    config = TimmWrapperConfig(architecture="vit_tiny_patch16_224", model_args=args)
    model = stirred(TimmWrapperModel(config), seed)
    side = sizes["image_size"]
    model.config.pretrained_cfg = {
        "input_size": [3, side, side], "crop_pct": 0.9, "interpolation": "bicubic",
        "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5],
    }  # fmt: skip
    return model


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
    "vit": ("vit", make_plain_vit, 1),
    "deit": ("deit", make_deit, 2),
    "vit_mae": ("vit_mae", make_mae, 1),
    "beit": ("beit", make_beit, 1),
    "beit-shared": ("beit", make_beit_shared, 1),
}
if importlib.util.find_spec("timm") is not None:
    VARIANTS["timm"] = ("timm", make_timm, 3)

# The attention, the norm before the MLP and the MLP of a block, as its family's code names them.
SCALED_BLOCK = ("attention", "norm2", "mlp")
VIT_BLOCK = ("attention", "layernorm_after", "mlp")
PLAIN_BLOCK = ("self_attn", "layer_norm2", "mlp")
BLOCKS = {
    "dinov2": SCALED_BLOCK,
    "dinov2-registers": SCALED_BLOCK,
    "dinov3": SCALED_BLOCK,
    "clip": PLAIN_BLOCK,
    "siglip": PLAIN_BLOCK,
    "vit": VIT_BLOCK,
    "deit": VIT_BLOCK,
    "vit_mae": VIT_BLOCK,
    "beit": VIT_BLOCK,
    "beit-shared": VIT_BLOCK,
    "timm": ("attn", "norm2", "mlp"),
}
