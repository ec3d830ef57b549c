"""A frozen vision transformer, split at a site of a layer."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from semseg_cli.data.preprocessing import Preprocessing, Size
from semseg_cli.errors import SemsegError
from semseg_cli.models.memory_budget import Budget, Network, in_passes
from semseg_cli.models.vit.families import FAMILIES
from semseg_cli.models.vit.geometry import to_side
from semseg_cli.models.vit.sites import (
    BRANCHES,
    INNER,
    NORM_OUT,
    RESID_POST,
    after_block,
    n_blocks_before,
    tokens_at,
)
from semseg_cli.progress import stage
from semseg_cli.typed import typed

# Parts of a config that change what the model computes and leave no trace in its weights.
COMPUTES = ("num_attention_heads", "hidden_act", "layer_norm_eps", "rope_theta")


class Backbone(nn.Module):
    """A frozen vision transformer, split at a site of a layer. Layers count blocks from 1.

    Tokens are [b n e], where the last d of e columns are what is at the site; see `sites`.
    `unused` names what the checkpoint holds beside, and what changes nothing.
    """

    budget: Budget = Budget()
    """Decides how many images go through blocks at once."""

    def __init__(
        self,
        model: nn.Module,
        family: str = "dinov2",
        preprocessing: Preprocessing | None = None,
        unused: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.unused = unused
        self.family = FAMILIES[family]
        self.family.complete(model)
        self.model = model.eval().requires_grad_(False)
        config: Any = model.config
        self.preprocessing = preprocessing or self.family.preprocessing(config)
        self.d_model: int = config.hidden_size
        self.n_layers: int = config.num_hidden_layers
        self.patch_size_px: int = to_side(config.patch_size)
        self.n_prefix_tokens: int = self.family.n_prefix_tokens(config)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the weights."""
        return next(self.model.parameters()).dtype

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks, in order."""
        return self.family.blocks(self.model)

    @property
    def n_patches_per_img(self) -> int:
        """Patch tokens per preprocessed image."""
        return math.prod(self.grid)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches in a preprocessed image."""
        height, width = self.preprocessing.crop
        return height // self.patch_size_px, width // self.patch_size_px

    def network_at(self, site: str) -> Network:
        """The same, where tokens of this site are held."""
        return replace(self.network, d_kept=self.width(site))

    @cached_property
    def network(self) -> Network:
        """The sizes that decide how much memory an image takes."""
        config: Any = self.model.config
        linear = (part for part in self.blocks[0].modules() if isinstance(part, nn.Linear))
        widened = [part.out_features for part in linear if part.out_features > self.d_model]
        height, width = self.preprocessing.crop
        is_fused = getattr(config, "_attn_implementation", None) != "eager"
        return Network(
            n_tokens=self.n_prefix_tokens + self.n_patches_per_img,
            d_model=self.d_model,
            d_hidden=sum(widened) or self.d_model,
            n_score_heads=0 if is_fused else config.num_attention_heads,
            n_pixels=3 * height * width,
            itemsize=self.dtype.itemsize,
        )

    @cached_property
    def digest(self) -> str:
        """A digest of all weights and of what else decides the output; other files may share it."""
        digest = hashlib.blake2b(digest_size=16)
        config = self.model.config
        digest.update(repr([getattr(config, name, None) for name in COMPUTES]).encode())
        with stage("Hashing the weights of the ViT"):
            for name, tensor in sorted(self.model.state_dict().items()):
                digest.update(name.encode())
                flat = tensor.detach().cpu().contiguous().reshape(-1)
                digest.update(flat.view(torch.uint8).numpy())
        return digest.hexdigest()

    def width(self, site: str = RESID_POST) -> int:
        """The columns of tokens at a site."""
        return self.d_model * (2 if site in BRANCHES else 1)

    def patches(self, tokens_bne: Tensor) -> Tensor:
        """What is at the site of the patch tokens, [b t d]: a view, which edits write to."""
        return tokens_bne[:, self.n_prefix_tokens :, -self.d_model :]

    @torch.inference_mode()
    @typed
    def prefix(
        self, images_bchw: Float[Tensor, "b c h w"], layer: int, site: str = RESID_POST
    ) -> Float[Tensor, "b n e"]:
        """All tokens (CLS, registers, patches) at a site of a layer, by default after the block."""
        n_most = self.budget.images_per_pass(self.network)
        return in_passes(lambda part: self._prefix(part, layer, site), images_bchw, n_most)

    def _prefix(self, images_bchw: Tensor, layer: int, site: str) -> Tensor:
        images = images_bchw.to(self.device, self.dtype, non_blocking=True)
        height, width = images.shape[-2:]
        # The patch embedding is a convolution, which CUDA runs in TF32 unless told otherwise.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            tokens_bnd = self.family.embed(self.model, images)
        tokens_bnd = self._run(tokens_bnd, 0, n_blocks_before(layer, site), (height, width))
        return self._finite(self._step(tokens_bnd, layer, site, (height, width))[0], layer)

    def _step(
        self, tokens_bnd: Tensor, layer: int, site: str, image_hw: Size
    ) -> tuple[Tensor, Tensor]:
        """The tokens at a site, from those after the blocks before it; and the stream there."""
        if site == NORM_OUT:
            return self.family.final_norm(self.model)(tokens_bnd), tokens_bnd
        if site not in INNER:
            return tokens_bnd, tokens_bnd
        inputs = self.family.block_inputs(self.model, tokens_bnd, image_hw)
        return tokens_at(self.blocks[layer - 1], self.family.parts, tokens_bnd, site, inputs)

    def _finite(self, tokens_bnd: Tensor, layer: int) -> Tensor:
        """The same tokens.

        Raises:
            SemsegError: some are NaN or infinite.
        """
        if not bool(torch.isfinite(tokens_bnd).all()):
            raise SemsegError(
                f"The ViT gives NaN or infinite numbers after layer {layer} in "
                f"{str(self.dtype).removeprefix('torch.')}: take --dtype float32 or bfloat16, and "
                "check --vit-ckpt."
            )
        return tokens_bnd

    @torch.inference_mode()
    def residuals(self, images_bchw: Tensor, site: str = RESID_POST) -> Iterator[Tensor]:
        """The tokens at a site of each layer, from layer 1 on; each block runs once.

        At `norm-out` the final norm of what each block gives.
        """
        height, width = images_bchw.shape[-2:]
        stream_bnd, n_done = self.prefix(images_bchw, 0), 0
        for layer in range(1, self.n_layers + 1):
            n_before = n_blocks_before(layer, site)
            stream_bnd = self._run(stream_bnd, n_done, n_before, (height, width))
            tokens_bne, stream_bnd = self._step(stream_bnd, layer, site, (height, width))
            n_done = layer if site in INNER else n_before
            yield self._finite(tokens_bne, layer)

    @typed
    def tail(
        self,
        tokens_bne: Float[Tensor, "b n e"],
        layer: int,
        image_hw: Size | None = None,
        site: str = RESID_POST,
    ) -> Float[Tensor, "b t d"]:
        """Final-norm features of the patch tokens, from the tokens at a site of a layer.

        Gradients flow back to tokens that ask for them.

        `image_hw` is the size of the images that the tokens come from, where it is not that of
        `preprocessing`; rotary position embeddings depend on it.
        """
        size = image_hw or self.preprocessing.crop
        n_most = self.budget.images_per_pass(self.network)
        return in_passes(lambda part: self._tail(part, layer, size, site), tokens_bne, n_most)

    def _tail(self, tokens_bne: Tensor, layer: int, image_hw: Size, site: str) -> Tensor:
        if site == NORM_OUT:
            return tokens_bne[:, self.n_prefix_tokens :]
        first = n_blocks_before(layer, site)
        if site in INNER:
            block, parts = self.blocks[first], self.family.parts
            tokens_bne = after_block(block, parts, tokens_bne, site, self.d_model)
            first = layer
        tokens_bnd = self._run(tokens_bne, first, self.n_layers, image_hw)
        return self.family.final_norm(self.model)(tokens_bnd[:, self.n_prefix_tokens :])

    def _run(self, tokens_bnd: Tensor, first: int, last: int, image_hw: Size) -> Tensor:
        inputs = self.family.block_inputs(self.model, tokens_bnd, image_hw)
        for block in self.blocks[first:last]:
            tokens_bnd = block(tokens_bnd, **inputs)
        return tokens_bnd
