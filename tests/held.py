"""The parts of a small world as a user holds them: a model, a module, a layer, pictures."""

from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from worlds import FIRST_NAMES, World

from semseg_cli import Data
from semseg_cli.models import sae as saes
from semseg_cli.models.head import load_head


class OwnSae(nn.Module):
    """What a user may have written: nothing of ours but the two names."""

    def __init__(self, world: World) -> None:
        super().__init__()
        file = saes.load(world.folder / "sae.pt")
        self.least = getattr(file.nonlinearity, "value", 0.0)
        self.W_dec = nn.Parameter(file.W_dec.clone())
        self.encoder = nn.Linear(file.d_model, file.d_sae)
        self.encoder.load_state_dict({"weight": file.W_enc.T.clone(), "bias": file.b_enc.clone()})
        self.bias = nn.Parameter(file.b_dec.clone())

    def encode(self, x: Tensor) -> Tensor:
        return torch.nn.functional.threshold(self.encoder(x), self.least, 0.0)

    def decode(self, f: Tensor) -> Tensor:
        return f @ self.W_dec + self.bias


def vit_of(world: World) -> Any:
    from transformers import AutoModel

    return AutoModel.from_pretrained(world.folder / "vit", dtype=torch.float32)


def head_of(world: World) -> nn.Linear:
    file = load_head(world.folder / "head.pt")
    head = nn.Linear(file.in_features, file.out_features)
    head.load_state_dict(file.state_dict())
    return head


def pictures_of(world: World, split: str) -> list[tuple[Image.Image, Image.Image]]:
    images = sorted((world.data / "images" / split).iterdir())
    masks = sorted((world.data / "annotations" / split).iterdir())
    return [(Image.open(a), Image.open(b)) for a, b in zip(images, masks, strict=True)]


def data_of(world: World) -> Data:
    return Data(
        FIRST_NAMES,
        training=pictures_of(world, "training"),
        validation=pictures_of(world, "validation"),
    )


def held(world: World) -> dict[str, Any]:
    """All four parts, the autoencoder as its file has it, and what else `options` names."""
    return {
        "vit": vit_of(world),
        "sae": saes.load(world.folder / "sae.pt"),
        "head": head_of(world),
        "data": data_of(world),
        **common(world),
    }


def named(world: World) -> dict[str, Any]:
    """The same as paths."""
    return {
        "vit": world.folder / "vit",
        "sae": world.folder / "sae.pt",
        "head": world.folder / "head.pt",
        "data": world.data,
        **common(world),
    }


def common(world: World) -> dict[str, Any]:
    stats = {"act_mean": world.stats, "act_norm": 2.0} if world.stats else {}
    return {
        "vit_layer": world.vit_layer,
        "max_freq": 1.0,
        "batch_size": 4,
        "min_patches": 1,
        "cache_dir": world.folder / "cache",
        **stats,
    }
