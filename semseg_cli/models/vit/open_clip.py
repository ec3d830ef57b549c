"""CLIP models that exist in open_clip's form only, such as BioCLIP, as transformers' vision model.

The weights are the same numbers under other names; attention's three projections are one tensor.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from semseg_cli.data.preprocessing import Preprocessing
from semseg_cli.errors import SemsegError
from semseg_cli.models.named_files import OPEN_CLIP_CONFIG as CONFIG
from semseg_cli.models.vit.hub_files import hub_file
from semseg_cli.models.weight_files import read_object, read_safetensors, read_state

WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
READ = {
    "layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "patch_dropout",
    "attentional_pool", "attn_pooler_queries", "attn_pooler_heads", "final_ln_after_pool",
    "pool_type", "output_tokens", "pos_embed_type",
}  # fmt: skip
"""Entries of vision_cfg that are read, or that change nothing before the pooling."""
VISUAL = "visual."
BLOCK = "transformer.resblocks."
NAMES = {
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "ln_pre": "pre_layrnorm",
    "ln_post": "post_layernorm",
}
IN_A_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
PROJECTIONS = ("q_proj", "k_proj", "v_proj")


def is_only(name: str) -> bool:
    """Whether a folder or repository has open_clip's config and none for transformers."""
    return hub_file(name, "config.json") is None and hub_file(name, CONFIG) is not None


def load(name: str, ckpt: str, dtype: torch.dtype) -> tuple[Any, dict[str, Any]]:
    """The vision model, and what its weights are against it, as transformers says it.

    Raises:
        SemsegError: it is no plain vision transformer, or there is no weights file.
    """
    from transformers import CLIPVisionConfig, CLIPVisionModel

    model = CLIPVisionModel(CLIPVisionConfig(**_config(name, ckpt)))
    path = next((found for file in WEIGHT_FILES if (found := hub_file(name, file))), None)
    if path is None:
        raise SemsegError(
            f"The ViT {ckpt} has {CONFIG} and none of {', '.join(WEIGHT_FILES)}: copy the weights."
        )
    state = renamed(read_safetensors(path) if path.suffix == ".safetensors" else read_state(path))
    own = dict(model.named_parameters())
    # transformers keeps its inner model in one more module in some versions.
    prefix = next(iter(own)).partition("embeddings.")[0]
    state = {prefix + key: value for key, value in state.items() if prefix + key in own}
    wrong = [key for key, value in state.items() if value.shape != own[key].shape]
    if wrong:
        raise SemsegError(
            f"The ViT {ckpt} has other sizes than its {CONFIG} says: {wrong[0]} is "
            f"{tuple(state[wrong[0]].shape)}, not {tuple(own[wrong[0]].shape)}."
        )
    model.load_state_dict(state, strict=False)
    info = {"missing_keys": own.keys() - state.keys(), "unexpected_keys": ()}
    return model.to(dtype), info


def _config(name: str, ckpt: str) -> dict[str, Any]:
    """What transformers' config is to say."""
    whole = read_object(_path(name)).get("model_cfg")
    whole = whole if isinstance(whole, dict) else {}
    vision = whole.get("vision_cfg")
    vision = vision if isinstance(vision, dict) else {}
    layers, width = vision.get("layers", 12), vision.get("width", 768)
    learns_positions = vision.get("pos_embed_type", "learnable") == "learnable"
    unread = sorted(key for key, value in vision.items() if value and key not in READ)
    if unread or type(layers) is not int or not learns_positions:
        what = unread[0] if unread else "layers or pos_embed_type"
        raise SemsegError(
            f"The ViT {ckpt} is no plain vision transformer ({what} in {CONFIG}): of open_clip's "
            "models only those are read."
        )
    return {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "intermediate_size": int(width * vision.get("mlp_ratio", 4.0)),
        "num_attention_heads": width // vision.get("head_width", 64),
        "patch_size": vision.get("patch_size", 16),
        "image_size": vision.get("image_size", 224),
        "hidden_act": "quick_gelu" if whole.get("quick_gelu") else "gelu",
        "layer_norm_eps": 1e-5,
    }


def _path(name: str) -> Path:
    path = hub_file(name, CONFIG)
    assert path is not None, "is_only has found it"
    return path


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The vision half of open_clip's weights under transformers' names."""
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        key = key.removeprefix("module.")
        if key.startswith(VISUAL):
            found |= _renamed(key.removeprefix(VISUAL), value)
    return found


def _renamed(key: str, value: Tensor) -> dict[str, Tensor]:
    if not key.startswith(BLOCK):
        for theirs, ours in NAMES.items():
            if key == theirs or key.startswith(f"{theirs}."):
                return {ours + key.removeprefix(theirs): value}
        return {}
    number, _, inside = key.removeprefix(BLOCK).partition(".")
    block = f"encoder.layers.{number}."
    if fused := re.fullmatch(r"attn\.in_proj_(weight|bias)", inside):
        parts = zip(PROJECTIONS, value.chunk(3), strict=True)
        return {f"{block}self_attn.{name}.{fused[1]}": part.clone() for name, part in parts}
    for theirs, ours in IN_A_BLOCK.items():
        if inside.startswith(f"{theirs}."):
            return {block + ours + inside.removeprefix(theirs): value}
    return {}


def preprocessing(name: str, own: Preprocessing) -> Preprocessing:
    """What open_clip's config says of images, over the family's.

    Raises:
        SemsegError: it asks for something else than a stretch or a crop of the centre.
    """
    path = _path(name)
    cfg = read_object(path).get("preprocess_cfg")
    cfg = cfg if isinstance(cfg, dict) else {}
    mode = cfg.get("resize_mode", "shortest")
    try:
        if mode not in ("shortest", "squash"):
            raise ValueError(f"resize_mode is {mode!r}: expected shortest or squash")
        return replace(
            own,
            mean=_three(cfg.get("mean", own.mean)),
            std=_three(cfg.get("std", own.std)),
            keeps_aspect=mode == "shortest",
            resample=Image.Resampling[str(cfg.get("interpolation", "bicubic")).upper()],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SemsegError(
            f"The preprocessing in {path} cannot be used ({error}): correct the file."
        ) from error


def _three(values: Any) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    if len(numbers) != 3 or not all(numbers):
        raise ValueError(f"{values} are no three numbers")
    return numbers
