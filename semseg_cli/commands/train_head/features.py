"""Final-norm features of patches, computed once: in memory, or in a temporary file if too large."""

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

import numpy as np
import torch
from jaxtyping import Int64, Integer
from torch import Tensor

from semseg_cli.data.dataset import Dataset
from semseg_cli.data.loader import Loader
from semseg_cli.data.pictures import read_pair
from semseg_cli.data.preprocessing import class_tensor
from semseg_cli.engine.sae_statistics import check_space
from semseg_cli.errors import SemsegError
from semseg_cli.files import cannot_write, make_folder
from semseg_cli.models.residual_cache import ResidualCache
from semseg_cli.models.residuals import Residuals
from semseg_cli.models.vit import Backbone
from semseg_cli.progress import Progress, silent

PARTS = 4  # along each side of a patch, where pixels are put together (benchmarks/NOTES.md)


@dataclass(frozen=True)
class Storage:
    """Where features are kept: type, most bytes in memory, folder for what takes more."""

    dtype: torch.dtype
    max_bytes: int
    folder: Path

    def n_bytes(self, n_rows: int, d_model: int) -> int:
        """What so many features take."""
        return n_rows * d_model * self.dtype.itemsize

    @contextmanager
    def rows(self, n_rows: int, d_model: int) -> Iterator[Tensor]:
        """An empty tensor [n d], in memory or in a file that is gone after the block."""
        n_bytes = self.n_bytes(n_rows, d_model)
        if n_bytes <= self.max_bytes:
            yield torch.empty(n_rows, d_model, dtype=self.dtype)
            return
        make_folder(self.folder, "--cache-dir")
        check_space(self.folder, n_bytes)
        with self._file() as file:
            kind = np.float16 if self.dtype == torch.float16 else np.float32
            yield torch.from_numpy(np.memmap(file, kind, "w+", shape=(n_rows, d_model)))

    def _file(self) -> IO[bytes]:
        try:
            return tempfile.TemporaryFile(dir=self.folder)
        except OSError as error:
            raise cannot_write(self.folder, error, "--cache-dir") from error


@dataclass(frozen=True)
class TrainingPatches:
    """Features [n d] and labels of the patches that heads learn from."""

    x_nd: Tensor
    labels_n: Int64[Tensor, " n"]


@dataclass(frozen=True)
class ValidationImages:
    """Features [b t d] of whole images, and the class of each pixel that patches cover."""

    x_btd: Tensor
    labels_bhw: Integer[Tensor, "b h w"]
    grid: tuple[int, int]

    @property
    def coarse(self) -> tuple[int, int]:
        """Rows and columns of the coarse parts that pixels are put together in."""
        _, height, width = self.labels_bhw.shape
        return min(height, PARTS * self.grid[0]), min(width, PARTS * self.grid[1])

    @cached_property
    def part_labels(self) -> tuple[Tensor, Tensor, Tensor]:
        """Each pair of a coarse part and a class that some of its pixels have: the part's place
        among those of all images, the class, and the number of those pixels."""
        n_classes, n_parts = int(self.labels_bhw.max()), math.prod(self.coarse)
        found = [
            _pairs(labels_hw, self.coarse, n_classes) + torch.tensor([[i * n_parts], [0], [0]])
            for i, labels_hw in enumerate(self.labels_bhw)
        ]
        places_p, labels_p, n_pixels_p = torch.cat(found, dim=1)
        return places_p, labels_p, n_pixels_p


def _pairs(labels_hw: Tensor, coarse: tuple[int, int], n_classes: int) -> Tensor:
    """Part, class and number of pixels [3 p] of one image; pixels labelled 0 do not count."""
    (height, width), (rows, columns) = labels_hw.shape, coarse
    rows_h, columns_w = (
        torch.arange(height) * rows // height,
        torch.arange(width) * columns // width,
    )
    parts_hw = rows_h[:, None] * columns + columns_w
    known_hw = labels_hw > 0
    keys_n = parts_hw[known_hw] * (n_classes + 1) + labels_hw[known_hw].long()
    keys_p, n_pixels_p = keys_n.unique(return_counts=True)
    return torch.stack([keys_p // (n_classes + 1), keys_p % (n_classes + 1), n_pixels_p])


def residuals_for_head(vit: Backbone, loader: Loader, cache: ResidualCache | None) -> Residuals:
    """Residuals from which final-norm features are made: of the last layer, or of an earlier one
    where those are kept already."""
    kept = cache.deepest_whole(vit, loader.dataset) if cache else None
    return Residuals(vit, kept or vit.n_layers, loader, cache)


@contextmanager
def training_patches(
    residuals: Residuals,
    storage: Storage,
    label_threshold: float,
    *,
    ignore_null: bool = False,
    progress: Progress = silent,
) -> Iterator[TrainingPatches]:
    """The patches of which enough pixels agree on one label.

    Raises:
        SemsegError: there is none, or no room for their features.
    """
    vit, dataset = residuals.vit, residuals.loader.dataset
    n_most = len(dataset) * vit.n_patches_per_img
    advance = progress("features to train on", len(dataset))
    labels: list[Tensor] = []
    n_rows = 0
    with storage.rows(n_most, vit.d_model) as rows_nd:
        for batch, tokens_bnd in residuals:
            wanted_bt = batch.share_bt >= label_threshold
            if ignore_null:
                wanted_bt &= batch.labels_bt > 0
            labels.append(batch.labels_bt[wanted_bt])
            found_nd = _features(residuals, tokens_bnd, storage.dtype)[wanted_bt]
            rows_nd[n_rows : n_rows + len(found_nd)] = found_nd
            n_rows += len(found_nd)
            advance(len(batch))
        labels_n = torch.cat(labels)
        if not bool((labels_n > 0).any()):
            raise SemsegError(
                f"No patch of the {dataset.split} split has a clean label: lower "
                "--label-threshold, or check --lookup-split."
            )
        yield TrainingPatches(rows_nd[:n_rows], labels_n)


@contextmanager
def validation_images(
    residuals: Residuals, storage: Storage, progress: Progress = silent
) -> Iterator[ValidationImages]:
    """All patches of all images, with the labels of their pixels.

    Raises:
        SemsegError: no pixel has a class, or there is no room for the features.
    """
    vit, dataset = residuals.vit, residuals.loader.dataset
    n_patches = vit.n_patches_per_img
    patch = vit.patch_size_px
    grid = tuple(side // patch for side in vit.preprocessing.crop)
    height, width = (side * patch for side in grid)
    kind = torch.uint8 if len(dataset.class_names) < 256 else torch.int32
    labels_bhw = torch.empty(len(dataset), height, width, dtype=kind)
    advance = progress("features to validate on", len(dataset))
    with storage.rows(len(dataset) * n_patches, vit.d_model) as rows_nd:
        x_btd = rows_nd.view(len(dataset), n_patches, vit.d_model)
        for batch, tokens_bnd in residuals:
            x_btd[batch.positions_b] = _features(residuals, tokens_bnd, storage.dtype)
            for position in batch.positions_b.tolist():
                labels_bhw[position] = pixel_labels(dataset, position)[:height, :width].to(kind)
            advance(len(batch))
        if not bool(labels_bhw.any()):
            raise SemsegError(
                f"No pixel of the {dataset.split} split has a class: check --imgs-split and the "
                "masks."
            )
        yield ValidationImages(x_btd, labels_bhw, (grid[0], grid[1]))


def pixel_labels(dataset: Dataset, position: int) -> Int64[Tensor, "h w"]:
    """The class of each pixel that the network sees; 0 where it has none."""
    _, mask = read_pair(dataset.images[position], dataset.masks[position], dataset.labels)
    return class_tensor(mask, dataset.labels, dataset.preprocessing)


@torch.inference_mode()
def _features(residuals: Residuals, tokens_bnd: Tensor, dtype: torch.dtype) -> Tensor:
    """Final-norm features [b t d] of some residuals, on the CPU."""
    x_btd = residuals.vit.tail(tokens_bnd, residuals.layer).to(dtype).cpu()
    if not bool(torch.isfinite(x_btd).all()):
        raise SemsegError(
            f"The ViT gives features that {str(dtype).removeprefix('torch.')} cannot hold: take "
            "--feature-dtype float32 and --dtype float32."
        )
    return x_btd
