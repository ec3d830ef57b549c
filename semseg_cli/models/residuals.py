"""The tokens of a dataset's images at a place of a ViT, batch by batch: kept or computed."""

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from semseg_cli.data.batches import Batch
from semseg_cli.data.loader import Loader
from semseg_cli.models.residual_cache import CacheEntry, KeptFirst, ResidualCache
from semseg_cli.models.vit import Backbone
from semseg_cli.models.vit.sites import RESID_POST


class Residuals:
    """All tokens at a site of a layer, for every image of a loader; by default after the block.

    With a cache, kept residuals are read and new ones are kept.
    """

    def __init__(
        self,
        vit: Backbone,
        layer: int,
        loader: Loader,
        cache: ResidualCache | None = None,
        site: str = RESID_POST,
    ) -> None:
        self.vit = vit
        self.layer = layer
        self.site = site
        self.loader = loader
        self._cache = cache

    @cached_property
    def _entry(self) -> CacheEntry | None:
        if self._cache is None:
            return None
        loader = self.loader
        return self._cache.entry(
            self.vit, self.layer, loader.dataset, loader.positions, site=self.site
        )

    @property
    def is_kept(self) -> bool:
        """Whether what is iterated once needs no forward pass again."""
        return self._entry is not None and self._entry.keeps

    def __iter__(self) -> Iterator[tuple[Batch, Tensor]]:
        """Batches with their tokens [b n e], where and in what precision the ViT computes."""
        entry = self._entry
        dataset = self.loader.dataset
        for batch in self.loader.batches(KeptFirst(dataset, entry) if entry else dataset):
            tokens_bnd = self._tokens(batch)
            if entry:
                entry.keep(batch, tokens_bnd)
            yield batch, tokens_bnd

    @torch.inference_mode()
    def _tokens(self, batch: Batch) -> Tensor:
        if batch.kept_knd is None:
            return self.vit.prefix(batch.images_bchw, self.layer, self.site)
        kept_knd = batch.kept_knd.to(self.vit.device, non_blocking=True)
        if len(kept_knd) == len(batch):
            return kept_knd
        tokens_bnd = kept_knd.new_empty(len(batch), *kept_knd.shape[1:])
        is_new_b = torch.zeros(len(batch), dtype=torch.bool)
        is_new_b[list(batch.new_rows)] = True
        tokens_bnd[~is_new_b] = kept_knd
        tokens_bnd[is_new_b] = self.vit.prefix(batch.images_bchw, self.layer, self.site)
        return tokens_bnd
