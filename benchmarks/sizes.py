"""The sizes at which we measure."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Size:
    """One world.

    Args:
        name: as on the command line.
        d_model: width of the ViT.
        n_blocks: blocks of the ViT; the autoencoder sits before the last one.
        n_heads: attention heads.
        n_registers: register tokens, beside CLS.
        trained_px: side of the images that the position embeddings are for.
        image_px: side of the images.
        patch_px: side of a patch.
        d_sae: latents of the autoencoder.
        l0: latents that are active at a patch, on average.
        n_classes: classes of the dataset.
        few: classes present in the rows with few classes.
        many: classes present in the rows with many classes.
        n_images: images that are measured.
        batch_size: images per batch, of all sides.
        peak_images: images where peak memory is measured, all in one batch.
        max_freq: latents that fire more often are no candidates.
        n_edited: classes of the class protocol.
        n_preds: pairs of predictions for `compute_class_results`.
        has_targets: whether the targets are meant for it.
    """

    name: str
    d_model: int
    n_blocks: int
    n_heads: int
    n_registers: int
    trained_px: int
    image_px: int
    patch_px: int
    d_sae: int
    l0: int
    n_classes: int
    few: int
    many: int
    n_images: int
    batch_size: int
    peak_images: int
    max_freq: float
    n_edited: int
    n_preds: int
    has_targets: bool

    @property
    def at_peak(self) -> "Size":
        """The same for measurements of memory."""
        return replace(self, n_images=self.peak_images, batch_size=self.peak_images)

    @property
    def layer(self) -> int:
        """Blocks before the autoencoder."""
        return self.n_blocks - 1

    @property
    def n_patches(self) -> int:
        """Patches per image."""
        return (self.image_px // self.patch_px) ** 2

    @property
    def n_tokens(self) -> int:
        """Tokens per image."""
        return 1 + self.n_registers + self.n_patches


TINY = Size(
    name="tiny",
    d_model=32,
    n_blocks=3,
    n_heads=4,
    n_registers=2,
    trained_px=56,
    image_px=56,
    patch_px=14,
    d_sae=128,
    l0=8,
    n_classes=12,
    few=4,
    many=10,
    n_images=4,
    batch_size=2,
    peak_images=4,
    max_freq=1.0,
    n_edited=4,
    n_preds=2_000,
    has_targets=False,
)
VITB = Size(
    name="vitb",
    d_model=768,
    n_blocks=12,
    n_heads=12,
    n_registers=4,
    trained_px=518,
    image_px=224,
    patch_px=14,
    d_sae=24_576,
    l0=64,
    n_classes=150,
    few=15,
    many=100,
    n_images=4,
    batch_size=4,
    peak_images=32,
    max_freq=0.01,
    n_edited=12,
    n_preds=512_000,
    has_targets=True,
)
FULL = replace(VITB, name="full", n_images=2000, batch_size=64, n_edited=150)
SIZES = {size.name: size for size in (TINY, VITB, FULL)}
