"""What differs between families of vision transformers: one row each.

A row says how images become tokens, where the blocks are, what each block wants beside the tokens,
and what the model itself does to the patch tokens after the last block.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from semseg_cli.data.preprocessing import Preprocessing, Size
from semseg_cli.models.vit import geometry, timm_models
from semseg_cli.models.vit.embeddings import clip_embed, embed, embed_at_any_size, mae_embed
from semseg_cli.models.vit.sites import Parts


def _nothing(_model: Any, _tokens_bnd: Tensor, _image_hw: Size) -> dict[str, Any]:
    return {}


def _no_change(_config_or_model: Any) -> None:
    pass


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
        publishers: by the mean in such a file, what its publisher evaluates with: then, too, the
            file counts for mean, std and scaling only.
        model_options: how transformers' class is made, beside its config.
        prepare: changes a config before its model is made.
        complete: fills in what a model's config leaves out.
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
    publishers: Mapping[tuple[float, ...], Callable[[Any], Preprocessing]] = field(
        default_factory=dict
    )
    model_options: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[Any], None] = _no_change
    complete: Callable[[Any], None] = _no_change
    aliases: Mapping[str, str] = field(default_factory=dict)


def _n_registers(config: Any) -> int:
    return getattr(config, "num_register_tokens", 0)


def _rotary(model: Any, tokens_bnd: Tensor, image_hw: Size) -> dict[str, Any]:
    """DINOv3's position embeddings: made from the size of the images, given to each block."""
    pixels = tokens_bnd.new_empty(1).expand(1, 1, *image_hw)  # only its shape and dtype are read
    cos, sin = model.rope_embeddings(pixels)
    n_patches = tokens_bnd.shape[1] - 1 - _n_registers(model.config)
    _require_size(len(cos), n_patches, image_hw)
    return {"position_embeddings": (cos, sin)}


def _require_size(n_of_size: int, n_patches: int, image_hw: Size) -> None:
    if n_of_size != n_patches:
        raise ValueError(
            f"images of {image_hw[0]} x {image_hw[1]} pixels have {n_of_size} patches, the tokens "
            f"{n_patches}: give the images' size as image_hw"
        )


def _relative(model: Any, tokens_bnd: Tensor, image_hw: Size) -> dict[str, Any]:
    """BEiT's relative positions: of the whole model, and the size for each block's own."""
    rows, columns = (side // geometry.to_side(model.config.patch_size) for side in image_hw)
    _require_size(rows * columns, tokens_bnd.shape[1] - 1, image_hw)
    shared = model.shared_position_bias
    bias = None if shared is None else shared((rows, columns), dim_size=tokens_bnd.shape[1])
    return {"attention_mask": bias, "resolution": image_hw}


def _unmasked(_model: Any, _tokens_bnd: Tensor, _image_hw: Size) -> dict[str, Any]:
    return {"attention_mask": None}


SCALED = Parts("attention", "norm2", factor_1="layer_scale1", factor_2="layer_scale2")
UNSCALED = Parts("self_attn", "layer_norm2")
PLAIN = Parts("attention", "layernorm_after")
NO_POOLER = {"add_pooling_layer": False}

FAMILIES = {
    "dinov2": Family(
        model_types=("dinov2", "dinov2_with_registers"),
        embed=embed,
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
        embed=embed,
        blocks=lambda model: model.model.layer,
        final_norm=lambda model: model.norm,
        n_prefix_tokens=lambda config: 1 + _n_registers(config),
        parts=SCALED,
        preprocessing=geometry.stretched,
        block_inputs=_rotary,
        aliases={
            f"dinov3_{size}": f"facebook/dinov3-{size}-pretrain-lvd1689m"
            for size in ("vits16", "vits16plus", "vitb16", "vitl16", "vith16plus", "vit7b16")
        },
    ),
    "clip": Family(
        model_types=("clip", "clip_vision_model"),
        embed=clip_embed,
        blocks=lambda model: model.encoder.layers,
        # `post_layernorm` is for CLS alone: `last_hidden_state` is the last block's output.
        final_norm=lambda _model: nn.Identity(),
        n_prefix_tokens=lambda _config: 1,
        parts=UNSCALED,
        preprocessing=geometry.clip,
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
        embed=embed_at_any_size,
        blocks=lambda model: model.encoder.layers,
        final_norm=lambda model: model.post_layernorm,
        n_prefix_tokens=lambda _config: 0,
        parts=UNSCALED,
        preprocessing=geometry.siglip,
        block_inputs=_unmasked,
    ),
    "vit": Family(
        model_types=("vit",),
        embed=embed_at_any_size,
        blocks=lambda model: model.layers,
        final_norm=lambda model: model.layernorm,
        n_prefix_tokens=lambda _config: 1,
        parts=PLAIN,
        preprocessing=geometry.stretched_to_half,
        publishers={geometry.IMAGENET_MEAN: geometry.facebook},
        model_options=NO_POOLER,
        aliases={
            **{f"dino_vit{size}": f"facebook/dino-vit{size}" for size in ("s16", "s8")},
            **{f"dino_vit{size}": f"facebook/dino-vit{size}" for size in ("b16", "b8")},
            **{
                f"deit_{size}_patch16_224": f"facebook/deit-{size}-patch16-224"
                for size in ("tiny", "small", "base")
            },
        },
    ),
    "deit": Family(
        model_types=("deit",),
        embed=embed_at_any_size,
        blocks=lambda model: model.layers,
        final_norm=lambda model: model.layernorm,
        n_prefix_tokens=lambda _config: 2,
        parts=PLAIN,
        preprocessing=geometry.facebook,
        publishers={geometry.IMAGENET_MEAN: geometry.facebook},
        model_options=NO_POOLER,
        aliases={
            f"deit_{size}_distilled_patch16_224": f"facebook/deit-{size}-distilled-patch16-224"
            for size in ("tiny", "small", "base")
        },
    ),
    "vit_mae": Family(
        model_types=("vit_mae",),
        embed=mae_embed,
        blocks=lambda model: model.layers,
        final_norm=lambda model: model.layernorm,
        n_prefix_tokens=lambda _config: 1,
        parts=PLAIN,
        preprocessing=geometry.facebook,
        publishers={geometry.IMAGENET_MEAN: geometry.facebook},
        aliases={
            f"mae_vit_{size}": f"facebook/vit-mae-{size}" for size in ("base", "large", "huge")
        },
    ),
    "beit": Family(
        model_types=("beit",),
        embed=embed,
        blocks=lambda model: model.layers,
        # With mean pooling the norm is the pooler's, of the mean: patches have none.
        final_norm=lambda model: model.layernorm,
        n_prefix_tokens=lambda _config: 1,
        parts=Parts("attention", "layernorm_after", factor_1="lambda_1", factor_2="lambda_2"),
        preprocessing=geometry.beit,
        publishers={geometry.HALF: geometry.beit},
        block_inputs=_relative,
        model_options=NO_POOLER,
    ),
    "timm": Family(
        model_types=("timm_wrapper",),
        embed=timm_models.embed,
        blocks=lambda model: model.timm_model.blocks,
        final_norm=lambda model: model.timm_model.norm,
        n_prefix_tokens=lambda config: config.num_prefix_tokens,
        parts=Parts("attn", "norm2", factor_1="ls1", factor_2="ls2"),
        preprocessing=timm_models.preprocessing,
        prepare=timm_models.prepare,
        complete=timm_models.complete,
    ),
}

ALIASES = {name: hub_id for family in FAMILIES.values() for name, hub_id in family.aliases.items()}
