"""The frozen parts that belong together: ViT, layer, autoencoder, head, statistics."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semseg_cli.errors import SemsegError
from semseg_cli.head import SegmentationHead, argmax_logits
from semseg_cli.sae import SparseAutoencoder
from semseg_cli.stats import SaeStats
from semseg_cli.typed import typed
from semseg_cli.vit import Backbone


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """From images to latents: ViT up to a layer, autoencoder, statistics.

    `stats` is None where no latent is used (plain random vectors).
    """

    vit: Backbone
    layer: int
    sae: SparseAutoencoder
    stats: SaeStats | None = None

    @property
    def latent_stats(self) -> SaeStats:
        """The statistics, where latents are used."""
        assert self.stats is not None, "latents are used without statistics"
        return self.stats

    @property
    def device(self) -> torch.device:
        """Where the autoencoder is."""
        return self.sae.W_enc.device

    @typed
    def residual(self, images_bchw: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """All tokens of the residual stream at the autoencoder's layer."""
        return self.vit.prefix(images_bchw, self.layer)

    @typed
    def patches(self, tokens_bnd: Float[Tensor, "b n d"]) -> Float[Tensor, "b t d"]:
        """The patch tokens, in float32."""
        return tokens_bnd[:, self.vit.n_prefix_tokens :].float()


@dataclass(frozen=True, kw_only=True)
class Pipeline(Encoder):
    """Everything between an image and its patch classes, split at the autoencoder's layer."""

    head: SegmentationHead

    @torch.inference_mode()
    @typed
    def predict(self, tokens_bnd: Float[Tensor, "b n d"]) -> Int[Tensor, "b t"]:
        """The class of each patch, 1..C, from the residual stream."""
        features = self.vit.tail(tokens_bnd, self.layer)
        return argmax_logits(self.head(features.float()))


def check_fit(vit: Backbone, layer: int, sae: SparseAutoencoder, head: SegmentationHead) -> None:
    """Refuses parts whose layer or widths do not go together, in one sentence."""
    if not 1 <= layer <= vit.n_layers:
        raise SemsegError(
            f"Layer {layer} does not exist: the ViT has layers 1 to {vit.n_layers}; check "
            "--vit-layer."
        )
    if sae.d_model != vit.d_model:
        raise SemsegError(
            f"The SAE reads width {sae.d_model}, the ViT has width {vit.d_model}: check --sae-ckpt "
            "against --vit-ckpt."
        )
    if head.in_features != vit.d_model:
        raise SemsegError(
            f"The head reads width {head.in_features}, the ViT has width {vit.d_model}: check "
            "--seg-ckpt against --vit-ckpt."
        )
