"""What differs between families of vision transformers: one row each.

A row says how images become tokens, where the blocks are, what each block wants beside the tokens,
and what the model itself does to the patch tokens after the last block.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from torch import Tensor, nn

from semseg_cli.data.preprocessing import Preprocessing, Size
from semseg_cli.models.vit.sites import Parts

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def _nothing(_model: Any, _tokens_bnd: Tensor, _image_hw: Size) -> dict[str, Any]:
    return {}


@dataclass(frozen=True, kw_only=True)
class Family:
    """One family.

    Args:
        model_types: `model_type` of the configs that belong to it.
        embed: images to all tokens before the first block.
        blocks: the transformer blocks, in order.
        final_norm: what the model applies to patch tokens after the last block to give its own
            `last_hidden_state`.
        n_prefix_tokens: tokens before the patches (CLS, registers).
        parts: the names of a block's parts.
        preprocessing: the family's published one, for a config.
        block_inputs: keyword arguments of every block, for tokens of images of a size.
        only_normalisation: whether a checkpoint's `preprocessor_config.json` counts for mean, std
            and scaling only.
        aliases: short name -> Hugging Face id.
    """

    model_types: tuple[str, ...]
    embed: Callable[[Any, Tensor], Tensor]
    blocks: Callable[[Any], nn.ModuleList]
    final_norm: Callable[[Any], Callable[[Tensor], Tensor]]
    n_prefix_tokens: Callable[[Any], int]
    parts: Parts
    preprocessing: Callable[[Any], Preprocessing]
    block_inputs: Callable[[Any, Tensor, Size], dict[str, Any]] = _nothing
    only_normalisation: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict)


def to_side(size: int | list[int] | tuple[int, ...]) -> int:
    """The side of a square that a config gives as one number or as two equal ones.

    Raises:
        ValueError: they differ.
    """
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1:
        raise ValueError(f"{size} is no square")
    return sides.pop()


def _n_registers(config: Any) -> int:
    return getattr(config, "num_register_tokens", 0)


def _rotary(model: Any, tokens_bnd: Tensor, image_hw: Size) -> dict[str, Any]:
    """DINOv3's position embeddings: made from the size of the images, given to each block."""
    pixels = tokens_bnd.new_empty(1).expand(1, 1, *image_hw)  # only its shape and dtype are read
    cos, sin = model.rope_embeddings(pixels)
    n_patches = tokens_bnd.shape[1] - 1 - _n_registers(model.config)
    if len(cos) != n_patches:
        raise ValueError(
            f"images of {image_hw[0]} x {image_hw[1]} pixels have {len(cos)} patches, the tokens "
            f"{n_patches}: give the images' size as image_hw"
        )
    return {"position_embeddings": (cos, sin)}


def _unmasked(_model: Any, _tokens_bnd: Tensor, _image_hw: Size) -> dict[str, Any]:
    return {"attention_mask": None}


def _clip_embed(model: Any, images_bchw: Tensor) -> Tensor:
    embedded = model.embeddings(images_bchw, interpolate_pos_encoding=True)
    return model.pre_layrnorm(embedded)  # the name is transformers' own


def _stretched(config: Any) -> Preprocessing:
    side = to_side(config.image_size)
    return Preprocessing(resize=(side, side), crop=(side, side))


def _clip_preprocessing(config: Any) -> Preprocessing:
    side = to_side(config.image_size)
    return Preprocessing(
        resize=(side, side),
        crop=(side, side),
        mean=CLIP_MEAN,
        std=CLIP_STD,
        keeps_aspect=True,
        resample=Image.Resampling.BICUBIC,
    )


def _siglip_preprocessing(config: Any) -> Preprocessing:
    side = to_side(config.image_size)
    return Preprocessing(
        resize=(side, side),
        crop=(side, side),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        resample=Image.Resampling.BICUBIC,
    )


SCALED = Parts("attention", "norm2", factor_1="layer_scale1", factor_2="layer_scale2")
UNSCALED = Parts("self_attn", "layer_norm2")

FAMILIES = {
    "dinov2": Family(
        model_types=("dinov2", "dinov2_with_registers"),
        embed=lambda model, images: model.embeddings(images),
        blocks=lambda model: model.encoder.layer,
        final_norm=lambda model: model.layernorm,
        n_prefix_tokens=lambda config: 1 + _n_registers(config),
        parts=SCALED,
        preprocessing=lambda _config: Preprocessing(),
        only_normalisation=True,
        aliases={
            f"dinov2_vit{letter}14{suffix}": f"facebook/dinov2-{infix}{size}"
            for letter, size in {"s": "small", "b": "base", "l": "large", "g": "giant"}.items()
            for suffix, infix in {"": "", "_reg": "with-registers-"}.items()
        },
    ),
    "dinov3": Family(
        model_types=("dinov3_vit",),
        embed=lambda model, images: model.embeddings(images),
        blocks=lambda model: model.model.layer,
        final_norm=lambda model: model.norm,
        n_prefix_tokens=lambda config: 1 + _n_registers(config),
        parts=SCALED,
        preprocessing=_stretched,
        block_inputs=_rotary,
        aliases={
            f"dinov3_{size}": f"facebook/dinov3-{size}-pretrain-lvd1689m"
            for size in ("vits16", "vits16plus", "vitb16", "vitl16", "vith16plus", "vit7b16")
        },
    ),
    "clip": Family(
        model_types=("clip", "clip_vision_model"),
        embed=_clip_embed,
        blocks=lambda model: model.encoder.layers,
        # `post_layernorm` is for CLS alone: `last_hidden_state` is the last block's output.
        final_norm=lambda _model: nn.Identity(),
        n_prefix_tokens=lambda _config: 1,
        parts=UNSCALED,
        preprocessing=_clip_preprocessing,
        block_inputs=_unmasked,
        aliases={
            "ViT-B/32": "openai/clip-vit-base-patch32",
            "ViT-B/16": "openai/clip-vit-base-patch16",
            "ViT-L/14": "openai/clip-vit-large-patch14",
            "ViT-L/14@336px": "openai/clip-vit-large-patch14-336",
        },
    ),
    "siglip": Family(
        model_types=("siglip", "siglip_vision_model"),
        embed=lambda model, images: model.embeddings(images, interpolate_pos_encoding=True),
        blocks=lambda model: model.encoder.layers,
        final_norm=lambda model: model.post_layernorm,
        n_prefix_tokens=lambda _config: 0,
        parts=UNSCALED,
        preprocessing=_siglip_preprocessing,
        block_inputs=_unmasked,
    ),
}

ALIASES = {name: hub_id for family in FAMILIES.values() for name, hub_id in family.aliases.items()}
