"""Trains the demo's backbone: a tiny Dinov2WithRegisters, supervised patch by patch.

The backbone is shaped for what the tool measures. Classes are read through one fixed orthonormal
frame both at the SAE's layer and at the output, so that a class is a direction there, as it
tends to be in a large model. And the residual stream is shifted at random at the SAE's layer
while training, so that the last block tolerates edits of other classes' directions; a large
model has that margin by itself, this one has to learn it.
"""

import dataclasses
import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from semseg_cli.commands.demo_build.muon import Muon
from semseg_cli.commands.demo_build.residual_scale import normalise_residual
from semseg_cli.progress import Advance

N_CHANNELS = 17
"""The sixteen classes and, at channel 0, "other"."""


@dataclasses.dataclass(frozen=True)
class VitRecipe:
    """Everything that shapes the backbone; the defaults made the shipped weights."""

    d_model: int = 96
    n_blocks: int = 4
    n_heads: int = 3
    mlp_ratio: int = 3
    n_registers: int = 4
    image_px: int = 224
    patch_px: int = 14
    sae_layer: int = 3
    n_steps: int = 2600
    crop_share: float = 0.85
    """Share of the steps that train on crops of half the side: four times cheaper."""
    crop_batch: int = 16
    full_batch: int = 4
    muon_lr: float = 0.02
    adam_lr: float = 3e-3
    frame_scale: float = 0.5
    last_block_scale: float = 0.5
    """Layer scale of the last block: a small one lets the SAE layer's directions through."""
    shift_share: float = 0.7
    """Share of the images whose residual is shifted."""
    max_shift: float = 1.0
    """Largest shift, in mean norms of the centred residual."""
    sae_loss_weight: float = 1.0

    @property
    def n_prefix_tokens(self) -> int:
        return 1 + self.n_registers

    @property
    def grid(self) -> int:
        return self.image_px // self.patch_px


def patch_shares(labels_bhw: Tensor, patch_px: int) -> Tensor:
    """Share of each channel's pixels in each patch: `[b, grid, grid, channels]`."""
    n_images, height, width = labels_bhw.shape
    shape = (n_images, height // patch_px, patch_px, width // patch_px, patch_px)
    patches = labels_bhw.reshape(shape)
    shares = [(patches == c).float().mean((2, 4)) for c in range(N_CHANNELS)]
    return torch.stack(shares, -1)


def soft_cross_entropy(logits: Tensor, shares: Tensor) -> Tensor:
    """Mean cross entropy against class shares; patches on a border have several classes."""
    return -(shares * F.log_softmax(logits, -1)).sum(-1).mean()


def train_vit(
    images: Tensor, shares: Tensor, recipe: VitRecipe, seed: int, advance: Advance
) -> Dinov2WithRegistersModel:
    """A trained backbone, frozen.

    `images` `[n 3 h w]` come from the tool's own preprocessing, `shares` from `patch_shares`.
    """
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    model = _make_vit(recipe)
    _init_stem(model, images[:64])
    frame = _class_frame(recipe, seed)
    optimisers = _make_optimisers(model, recipe)
    model.train()
    for step, picked in enumerate(_batches(len(images), recipe, rng)):
        pixels, target = _augment(images[picked], shares[picked], step, recipe, rng)
        warm_up = min(1.0, 2 * step / recipe.n_steps)
        loss = _loss(model, pixels, target.flatten(1, 2), frame, recipe, warm_up, rng)
        _update(model, optimisers, loss, step, recipe)
        advance(1)
    normalise_residual(model.eval(), images[:64], recipe.sae_layer)
    return model.requires_grad_(False)


def _make_vit(recipe: VitRecipe) -> Dinov2WithRegistersModel:
    config = Dinov2WithRegistersConfig(
        hidden_size=recipe.d_model,
        num_hidden_layers=recipe.n_blocks,
        num_attention_heads=recipe.n_heads,
        mlp_ratio=recipe.mlp_ratio,
        image_size=recipe.image_px,
        patch_size=recipe.patch_px,
        num_register_tokens=recipe.n_registers,
        layerscale_value=1.0,
        attn_implementation="sdpa",
    )
    model = Dinov2WithRegistersModel(config)
    for block in model.encoder.layer:
        nn.init.trunc_normal_(block.mlp.fc2.weight, std=0.02 / math.sqrt(2 * recipe.n_blocks))
    last = model.encoder.layer[-1]
    for layer_scale in (last.layer_scale1, last.layer_scale2):
        nn.init.constant_(layer_scale.lambda1, recipe.last_block_scale)
        layer_scale.lambda1.requires_grad_(False)
    return model


def _class_frame(recipe: VitRecipe, seed: int) -> Tensor:
    """Fixed orthonormal class directions `[channels, d]` (Yang et al. 2022)."""
    rng = torch.Generator().manual_seed(seed + 9)
    directions = torch.linalg.qr(torch.randn(recipe.d_model, N_CHANNELS, generator=rng))[0]
    return directions.T * recipe.frame_scale


@torch.no_grad()
def _init_stem(model: Dinov2WithRegistersModel, images: Tensor) -> None:
    """Patch projection = cosine filters with outputs of about unit variance on `images`.

    Learning the stem from scratch would take most of the training time.
    """
    projection = model.embeddings.patch_embeddings.projection
    filters = _cosine_filters(projection.out_channels, projection.kernel_size[0])
    deviation = F.conv2d(images, filters, stride=projection.stride).std((0, 2, 3))
    projection.weight.copy_(filters / (deviation.view(-1, 1, 1, 1) + 0.05))
    projection.bias.zero_()


def _cosine_filters(n_filters: int, size: int) -> Tensor:
    """Filters `[n 3 size size]` of luminance (three quarters) and of two colour differences.

    Half of the luminance filters have the lowest frequencies, the others spread over the rest.
    """
    n_colour = n_filters // 8
    n_grey = n_filters - 2 * n_colour
    n_low = n_grey // 2
    rows = torch.arange(float(size))
    cosines = F.normalize(torch.cos(math.pi * (rows + 0.5) * rows[:, None] / size), dim=1)
    pairs = [(i, j) for i in range(size) for j in range(size)]
    pairs.sort(key=lambda pair: (pair[0] ** 2 + pair[1] ** 2, pair))
    spacing = (len(pairs) - n_low - 1) / (n_grey - n_low)
    spread = [n_low + int(k * spacing) for k in range(n_grey - n_low)]
    chosen = [(0, pairs[i]) for i in (*range(n_low), *spread)]
    chosen += [(colour, pairs[i]) for colour in (1, 2) for i in range(n_colour)]
    colours = F.normalize(torch.tensor([[1.0, 1, 1], [1, -1, 0], [1, 1, -2]]), dim=1)
    return torch.stack(
        [colours[c][:, None, None] * torch.outer(cosines[i], cosines[j]) for c, (i, j) in chosen]
    )


def _make_optimisers(
    model: Dinov2WithRegistersModel, recipe: VitRecipe
) -> list[torch.optim.Optimizer]:
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in model.encoder.parameters() if p.ndim == 2 and p.requires_grad]
    matrix_ids = {id(p) for p in matrices}
    rest = [p for p in trained if id(p) not in matrix_ids]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW(groups, lr=recipe.adam_lr, betas=(0.9, 0.98))
    return [adam, Muon(matrices, recipe.muon_lr)]


def _batches(n_images: int, recipe: VitRecipe, rng: torch.Generator) -> Iterator[Tensor]:
    """Image indices for each step, without replacement within a pass over the images."""
    order = torch.empty(0, dtype=torch.long)
    for step in range(recipe.n_steps):
        size = recipe.crop_batch if _is_cropped(step, recipe) else recipe.full_batch
        if len(order) < size:
            order = torch.cat([order, torch.randperm(n_images, generator=rng)])
        yield order[:size]
        order = order[size:]


def _is_cropped(step: int, recipe: VitRecipe) -> bool:
    return step < recipe.crop_share * recipe.n_steps


def _augment(
    pixels: Tensor, shares: Tensor, step: int, recipe: VitRecipe, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mirroring, a crop along patch borders, exposure and pixel noise."""
    if torch.rand((), generator=rng) < 0.5:
        pixels, shares = pixels.flip(3), shares.flip(2)
    if _is_cropped(step, recipe):
        side, px = recipe.grid // 2, recipe.patch_px
        top, left = torch.randint(0, recipe.grid - side + 1, (2,), generator=rng).tolist()
        shares = shares[:, top : top + side, left : left + side]
        pixels = pixels[:, :, top * px : (top + side) * px, left * px : (left + side) * px]
    exposure = 1 + 0.3 * (torch.rand(len(pixels), 1, 1, 1, generator=rng) - 0.5)
    return pixels * exposure + 0.1 * torch.randn(pixels.shape, generator=rng), shares


def _loss(
    model: Dinov2WithRegistersModel,
    pixels: Tensor,
    target: Tensor,
    frame: Tensor,
    recipe: VitRecipe,
    warm_up: float,
    rng: torch.Generator,
) -> Tensor:
    """Cross entropy at the output plus cross entropy at the (shifted) SAE layer."""
    tokens = model.embeddings(pixels)
    for block in model.encoder.layer[: recipe.sae_layer]:
        tokens = block(tokens)
    prefix, patches = tokens.split([recipe.n_prefix_tokens, target.shape[1]], dim=1)
    patches = _shift(patches, recipe.max_shift * warm_up, recipe.shift_share, rng)
    at_sae = F.layer_norm(patches, patches.shape[-1:]) @ frame.T
    tokens = torch.cat([prefix, patches], 1)
    for block in model.encoder.layer[recipe.sae_layer :]:
        tokens = block(tokens)
    at_output = model.layernorm(tokens)[:, recipe.n_prefix_tokens :] @ frame.T
    sae_loss = soft_cross_entropy(at_sae, target)
    return soft_cross_entropy(at_output, target) + recipe.sae_loss_weight * sae_loss


def _shift(patches: Tensor, max_shift: float, share: float, rng: torch.Generator) -> Tensor:
    """Patches moved by one random vector per image, plus a smaller one per patch."""
    n_images, _, d_model = patches.shape
    norm = (patches - patches.mean((0, 1))).detach().norm(dim=-1).mean()
    common = F.normalize(torch.randn(n_images, 1, d_model, generator=rng), dim=-1)
    jitter = 0.5 / d_model**0.5 * torch.randn(patches.shape, generator=rng)
    size = max_shift * torch.rand(n_images, 1, 1, generator=rng)
    size = size * (torch.rand(n_images, 1, 1, generator=rng) < share)
    return patches + norm * size * (common + jitter)


def _update(
    model: Dinov2WithRegistersModel,
    optimisers: list[torch.optim.Optimizer],
    loss: Tensor,
    step: int,
    recipe: VitRecipe,
) -> None:
    pace = min(1.0, (step + 1) / 20) * (0.5 + 0.5 * math.cos(math.pi * step / recipe.n_steps))
    for optimiser, lr in zip(optimisers, (recipe.adam_lr, recipe.muon_lr), strict=True):
        optimiser.zero_grad()
        for group in optimiser.param_groups:
            group["lr"] = lr * pace
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimiser in optimisers:
        optimiser.step()
