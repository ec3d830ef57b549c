"""Detections by blocks of neighbouring images, sparse: what a choice is resampled from.

Neighbours share a block since frames of one drive or slices of one patient often stand side by
side in a dataset, and are alike.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from semseg_cli.ranks.collectives import all_sum
from semseg_cli.typed import typed

N_BLOCKS = 64
PENDING = 2**22  # cells that are kept before equal ones are put together


@typed
def block_of(images_n: Int64[Tensor, " n"], n_images: int) -> Int64[Tensor, " n"]:
    """The block of each image position: at most N_BLOCKS, of as equal a size as can be."""
    return images_n * min(N_BLOCKS, n_images) // max(1, n_images)


@dataclass(frozen=True)
class Sizes:
    """How many labels (null included), thresholds and latents there are."""

    labels: int
    thresholds: int
    latents: int


class BlockDetections:
    """Per block: clean patches of each label (`n` [blocks, labels]), and detections of candidates.

    A cell is (label, highest threshold passed, latent); only cells that occur are kept, 12 bytes
    each.
    """

    def __init__(self, n_images: int, sizes: Sizes, is_candidate_s: Bool[Tensor, " s"]) -> None:
        self.n_images, self.sizes, self.is_candidate_s = n_images, sizes, is_candidate_s
        self.n_cells = sizes.labels * sizes.thresholds * sizes.latents
        self.n = torch.zeros(min(N_BLOCKS, n_images), sizes.labels, dtype=torch.int64)
        self.pieces: list[tuple[Tensor, Tensor]] = []
        self.pending: list[tuple[Tensor, Tensor]] = []
        self.n_pending = 0

    def add_patches(self, labels_n: Tensor, images_n: Tensor) -> None:
        """Counts clean patches by label."""
        cells = block_of(images_n, self.n_images) * self.sizes.labels + labels_n
        self.n += torch.bincount(cells, minlength=self.n.numel()).view_as(self.n).cpu()

    def add(self, cells_p: Tensor, images_p: Tensor) -> None:
        """Counts detections, each a cell in an image."""
        is_kept = self.is_candidate_s[cells_p % self.sizes.latents]
        blocks_p = block_of(images_p[is_kept], self.n_images)
        keys, n = torch.unique(blocks_p * self.n_cells + cells_p[is_kept], return_counts=True)
        self.pending.append((keys.cpu(), n.to(torch.int32).cpu()))
        self.n_pending += len(keys)
        if self.n_pending > PENDING:
            self._put_together()

    def _put_together(self) -> None:
        """Adds up equal cells: several batches make a block."""
        keys, where = torch.unique(torch.cat([k for k, _ in self.pending]), return_inverse=True)
        n = torch.zeros(len(keys), dtype=torch.int32)
        n.index_add_(0, where, torch.cat([n for _, n in self.pending]))
        self.pieces.append((keys, n))
        self.pending, self.n_pending = [], 0

    @typed
    def counts_of(
        self, labels_r: Int64[Tensor, " r"], latents_r: Int64[Tensor, " r"]
    ) -> tuple[Int64[Tensor, "g k r"], Int64[Tensor, "g k r"]]:
        """For pairs of label and latent, by block and threshold: true positives, and all
        detections. Of all ranks."""
        sizes = self.sizes
        used, column_r = torch.unique(latents_r, return_inverse=True)
        column_s = torch.full((sizes.latents,), -1)
        column_s[used] = torch.arange(len(used))
        pair_cl = torch.full((sizes.labels, len(used)), -1)
        pair_cl[labels_r, column_r] = torch.arange(len(labels_r))
        shape = (len(self.n), sizes.thresholds)
        tp = torch.zeros(*shape, len(labels_r), dtype=torch.int64)
        active = torch.zeros(*shape, len(used), dtype=torch.int64)
        for keys, n in (*self.pieces, *self.pending):
            is_used = column_s[keys % sizes.latents] >= 0
            keys, n = keys[is_used], n[is_used].long()
            columns = column_s[keys % sizes.latents]
            levels, blocks = keys // sizes.latents % sizes.thresholds, keys // self.n_cells
            labels = keys // (sizes.latents * sizes.thresholds) % sizes.labels
            rows = blocks * sizes.thresholds + levels
            active.view(-1).index_add_(0, rows * len(used) + columns, n)
            pairs = pair_cl[labels, columns]
            own = pairs >= 0
            tp.view(-1).index_add_(0, rows[own] * len(labels_r) + pairs[own], n[own])
        all_sum(tp, active)
        # Who passes a threshold passes all lower ones.
        tp, active = (each.flip(1).cumsum(dim=1).flip(1) for each in (tp, active))
        return tp, active[:, :, column_r]

    def add_ranks(self) -> None:
        """Adds the labels of the other ranks' images; cells stay where they are."""
        all_sum(self.n)
