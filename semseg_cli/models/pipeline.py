"""The frozen parts that belong together: ViT, its layer and site, autoencoder, head, statistics."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semseg_cli.data.loader import Loader
from semseg_cli.errors import SemsegError
from semseg_cli.models.head import (
    SegmentationHead,
    argmax_logits,
    class_margins,
    require_one_block,
)
from semseg_cli.models.memory_budget import Network
from semseg_cli.models.residual_cache import ResidualCache
from semseg_cli.models.residuals import Residuals
from semseg_cli.models.sae import SparseAutoencoder
from semseg_cli.models.sae.statistics import SaeStats
from semseg_cli.models.vit import Backbone
from semseg_cli.models.vit.sites import NORM_OUT, RESID_POST
from semseg_cli.typed import typed


def require_width(part: str, reads: int, has: int, option: str) -> None:
    """Refuses a part that reads another width than the ViT has.

    Raises:
        SemsegError: it does.
    """
    if reads != has:
        raise SemsegError(
            f"The {part} reads width {reads}, the ViT has width {has}: check {option} against "
            "--vit-ckpt."
        )


def require_layer(layer: int, n_layers: int, site: str = RESID_POST) -> None:
    """Refuses a layer that the ViT does not have, or that its site does not belong to.

    Raises:
        SemsegError: it does not.
    """
    if not 1 <= layer <= n_layers:
        raise SemsegError(
            f"Layer {layer} does not exist: the ViT has layers 1 to {n_layers}; check --vit-layer."
        )
    if site == NORM_OUT and layer != n_layers:
        raise SemsegError(
            f"The site {NORM_OUT} comes after the last layer, which is {n_layers}, not {layer}: "
            "leave --vit-layer out, or take --vit-site resid-post."
        )


def require_fitting(head: SegmentationHead, d_model: int) -> None:
    """Refuses a head that does not read the patch tokens of one block.

    Raises:
        SemsegError: it does not.
    """
    require_one_block(head, d_model)
    require_width("head", head.in_features, d_model, "--seg-ckpt")


@dataclass(frozen=True)
class Prediction:
    """Of each patch the class, 1..C, and by how much the logit of a class leads all others."""

    classes_bt: Int[Tensor, "b t"]
    margins_bt: Float[Tensor, "b t"]


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Everything between an image and its patch classes, split at the autoencoder's layer and site.

    `head` is None where nothing is classified (choosing latents by F1), `stats` where no latent is
    used (plain random vectors), `cache` where no residuals are kept.

    Raises:
        SemsegError: the layer does not exist, or the widths do not go together.
    """

    vit: Backbone
    layer: int
    sae: SparseAutoencoder
    head: SegmentationHead | None = None
    stats: SaeStats | None = None
    cache: ResidualCache | None = None
    site: str = RESID_POST

    def __post_init__(self) -> None:
        require_layer(self.layer, self.vit.n_layers, self.site)
        require_width("SAE", self.sae.d_model, self.vit.d_model, "--sae-ckpt")
        if self.head is not None:
            require_fitting(self.head, self.vit.d_model)

    @property
    def latent_stats(self) -> SaeStats:
        """The statistics, where latents are used."""
        assert self.stats is not None, "latents are used without statistics"
        return self.stats

    @property
    def class_head(self) -> SegmentationHead:
        """The head, where patches are classified."""
        assert self.head is not None, "patches are classified without a head"
        return self.head

    @property
    def device(self) -> torch.device:
        """Where the autoencoder is."""
        return self.sae.W_enc.device

    @typed
    def residual(self, images_bchw: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n e"]:
        """All tokens at the autoencoder's layer and site."""
        return self.vit.prefix(images_bchw, self.layer, self.site)

    def residuals(self, loader: Loader) -> Residuals:
        """The same for all images of a loader, batch by batch; kept ones are read."""
        return Residuals(self.vit, self.layer, loader, self.cache, self.site)

    @typed
    def patches(self, tokens_bnd: Float[Tensor, "b n e"]) -> Float[Tensor, "b t d"]:
        """What the autoencoder reads of the patch tokens, in float32."""
        return self.vit.patches(tokens_bnd).float()

    @property
    def network(self) -> Network:
        """The sizes that decide how much memory an image takes at this site."""
        return self.vit.network_at(self.site)

    @torch.inference_mode()
    @typed
    def predict(
        self, tokens_bnd: Float[Tensor, "b n e"], of_bt: Int[Tensor, "b t"] | None = None
    ) -> Prediction:
        """The prediction at each patch, from the tokens at the site.

        Margins are those of the classes `of_bt`, else of the predicted ones.

        Raises:
            SemsegError: the network overflowed.
        """
        n_most = self.rows_per_pass()
        n_passes = max(1, -(-len(tokens_bnd) // n_most))
        of_parts = [None] * n_passes if of_bt is None else of_bt.tensor_split(n_passes)
        parts = [
            self._predict(part_bnd, part_bt)
            for part_bnd, part_bt in zip(tokens_bnd.tensor_split(n_passes), of_parts, strict=True)
        ]
        return Prediction(
            torch.cat([part.classes_bt for part in parts]),
            torch.cat([part.margins_bt for part in parts]),
        )

    def rows_per_pass(self, n_directions: int = 1) -> int:
        """How many edited images go through the rest of the network at once."""
        n_outputs = self.class_head.out_features
        return self.vit.budget.rows_per_pass(self.network, n_outputs, n_directions)

    def features(self, tokens_bnd: Tensor) -> Tensor:
        """What the head reads of the patches, from the tokens at the site."""
        return self.vit.tail(tokens_bnd, self.layer, site=self.site)

    def _predict(self, tokens_bnd: Tensor, of_bt: Tensor | None) -> Prediction:
        logits = self.class_head(self.features(tokens_bnd).float())
        if not bool(torch.isfinite(logits).all()):
            raise SemsegError(
                "The ViT gives NaN or infinite numbers after its last layer in "
                f"{str(self.vit.dtype).removeprefix('torch.')}: take --dtype float32 or bfloat16, "
                "or a smaller --scale where the edit is too large."
            )
        classes_bt = argmax_logits(logits)
        return Prediction(classes_bt, class_margins(logits, classes_bt if of_bt is None else of_bt))
