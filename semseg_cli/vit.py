"""Frozen vision transformers: the residual stream after a block, and the rest of the network.

The models are transformers' own. A family is one row of `FAMILIES`: how to embed images, where the
blocks and the final norm are, how many tokens come before the patches.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from semseg_cli.data import Preprocessing
from semseg_cli.errors import SemsegError
from semseg_cli.typed import typed

ALIASES = {
    f"dinov2_vit{letter}14{suffix}": f"facebook/dinov2-{infix}{size}"
    for letter, size in {"s": "small", "b": "base", "l": "large", "g": "giant"}.items()
    for suffix, infix in {"": "", "_reg": "with-registers-"}.items()
}


@dataclass(frozen=True)
class Family:
    """What differs between families of vision transformers."""

    model_types: tuple[str, ...]
    embed: Callable[[Any, Tensor], Tensor]
    blocks: Callable[[Any], nn.ModuleList]
    final_norm: Callable[[Any], nn.Module]
    n_prefix_tokens: Callable[[Any], int]
    preprocessing: Preprocessing


FAMILIES = {
    "dinov2": Family(
        model_types=("dinov2", "dinov2_with_registers"),
        embed=lambda model, images: model.embeddings(images),
        blocks=lambda model: model.encoder.layer,
        final_norm=lambda model: model.layernorm,
        n_prefix_tokens=lambda config: 1 + getattr(config, "num_register_tokens", 0),
        preprocessing=Preprocessing(),
    )
}


class Backbone(nn.Module):
    """A frozen vision transformer, split at a layer. Layers count blocks from 1."""

    def __init__(
        self,
        model: nn.Module,
        family: str = "dinov2",
        preprocessing: Preprocessing | None = None,
    ) -> None:
        super().__init__()
        self.family = FAMILIES[family]
        self.model = model.eval().requires_grad_(False)
        self.preprocessing = preprocessing or self.family.preprocessing
        config: Any = model.config
        self.d_model: int = config.hidden_size
        self.n_layers: int = config.num_hidden_layers
        self.patch_size_px: int = config.patch_size
        self.n_prefix_tokens: int = self.family.n_prefix_tokens(config)

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks, in order."""
        return self.family.blocks(self.model)

    @property
    def n_patches_per_img(self) -> int:
        """Patch tokens per preprocessed image."""
        height, width = self.preprocessing.crop
        return (height // self.patch_size_px) * (width // self.patch_size_px)

    @cached_property
    def digest(self) -> str:
        """A digest of all weights; equal weights in another file give the same."""
        digest = hashlib.blake2b(digest_size=16)
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    @torch.inference_mode()
    @typed
    def prefix(self, images_bchw: Float[Tensor, "b c h w"], layer: int) -> Float[Tensor, "b n d"]:
        """The residual stream of all tokens (CLS, registers, patches) after `layer` blocks."""
        weight = next(self.model.parameters())
        images = images_bchw.to(weight.device, weight.dtype)
        return self._run(self.family.embed(self.model, images), 0, layer)

    @torch.inference_mode()
    @typed
    def tail(self, tokens_bnd: Float[Tensor, "b n d"], layer: int) -> Float[Tensor, "b t d"]:
        """Final-norm features of the patch tokens, from the residual after `layer` blocks."""
        tokens_bnd = self._run(tokens_bnd, layer, self.n_layers)
        return self.family.final_norm(self.model)(tokens_bnd[:, self.n_prefix_tokens :])

    def _run(self, tokens_bnd: Tensor, first: int, last: int) -> Tensor:
        for block in self.blocks[first:last]:
            tokens_bnd = block(tokens_bnd)
        return tokens_bnd


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
        ValueError: there is no such layer, or (when run) the images have other numbers of patches.
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
        return torch.cat([before, hook(patches)], dim=1)

    return HookHandle(vit.blocks[layer - 1].register_forward_hook(edit))


def load_vit(
    ckpt: str,
    family: str = "dinov2",
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Backbone:
    """The backbone of an alias (`dinov2_vitb14_reg`), a Hugging Face id or a local folder.

    Raises:
        SemsegError: it cannot be found or read, is of another family, or lacks weights.
    """
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    name = ALIASES.get(ckpt, ckpt)
    local = Path(name).expanduser()
    if local.is_dir():
        name = str(local)
        if not (local / "config.json").is_file():
            raise SemsegError(
                f"The ViT folder {local} has no config.json: give a folder in the Hugging Face "
                "layout (config.json, model.safetensors)."
            )
    elif local.exists() or name.startswith(("/", "./", "../", "~")):
        raise SemsegError(
            f"The ViT folder {ckpt} does not exist or is no folder: check --vit-ckpt."
        )
    try:
        config = AutoConfig.from_pretrained(name)
        known = FAMILIES[family].model_types
        if config.model_type not in known:
            raise SemsegError(
                f"The ViT {ckpt} is a {config.model_type!r} model, the family {family} has "
                f"{' and '.join(known)}: check --vit-ckpt and --vit-family."
            )
        model, info = AutoModel.from_pretrained(
            name, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True
        )
    except SemsegError:
        raise
    except Exception as error:  # transformers, safetensors and the hub client each have their own
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SemsegError(
            f"The ViT {ckpt} cannot be loaded ({first}): give an alias ({', '.join(ALIASES)}), a "
            "Hugging Face id that this machine can reach or has cached, or a local folder."
        ) from error
    if info["missing_keys"]:
        raise SemsegError(
            f"The ViT {ckpt} lacks the weights {sorted(info['missing_keys'])[0]} and possibly more:"
            " the file does not fit its config.json."
        )
    preprocessing = _normalisation(local, FAMILIES[family].preprocessing)
    return Backbone(model.to(device), family, preprocessing)


def _normalisation(folder: Path, preprocessing: Preprocessing) -> Preprocessing:
    """The family's preprocessing, with the mean and std that the folder names."""
    try:
        published = json.loads((folder / "preprocessor_config.json").read_text("utf-8"))
    except OSError:
        return preprocessing
    except ValueError as error:
        raise SemsegError(f"{folder}/preprocessor_config.json is no JSON ({error}).") from error
    mean, std = published.get("image_mean"), published.get("image_std")
    if not mean or not std:
        return preprocessing
    return replace(preprocessing, mean=tuple(mean), std=tuple(std))
