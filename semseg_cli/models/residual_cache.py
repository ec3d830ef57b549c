"""The residual cache: residuals and patch labels on disk, so that an image goes through the ViT
once, ever.

An entry belongs to everything that a residual depends on beside the image: weights, layer, site,
preprocessing, precision, libraries, and what the labels mean. In it every image has a file of its
own, named by the contents of image and mask: subsets, other runs and other processes share it.
"""

import contextlib
import hashlib
import logging
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from semseg_cli import __version__
from semseg_cli.data.batches import Batch, KeptSample, Sample
from semseg_cli.data.dataset import Dataset
from semseg_cli.errors import SemsegError
from semseg_cli.files import make_folder, write_atomic
from semseg_cli.models.cache_folders import file_of, names_in, open_entry, use
from semseg_cli.models.cache_room import Keeping, Wanted, foresee, make_room
from semseg_cli.models.vit import Backbone
from semseg_cli.models.vit.sites import RESID_POST
from semseg_cli.readers import not_a_file

log = logging.getLogger("semseg_cli")
FORMAT = 2  # of the files, and of how residuals and labels are made: raise it with either
HEADER_BYTES = 512  # more than a file has beside its tensors


@dataclass(frozen=True)
class ResidualCache:
    """Where residuals are kept, how many bytes of them at most, and what to call their ViT."""

    folder: Path
    max_bytes: int
    model: str
    refused: set[Path] = field(default_factory=set, compare=False)  # entries; told once

    def entry(
        self,
        vit: Backbone,
        layer: int,
        dataset: Dataset,
        positions: Sequence[int] | None = None,
        site: str = RESID_POST,
    ) -> "CacheEntry":
        """What is kept of these images at this site of a layer; it keeps more where there is room.

        `positions` are those that this process computes (default: all).
        """
        entry = self._entry(vit, layer, dataset, site)
        n_images = len(dataset if positions is None else positions)
        n_missing = entry.n_missing(positions)
        title = f"{dataset.title} {dataset.split}"
        log.info("residuals of %s: %d of %d are kept", title, n_images - n_missing, n_images)
        try:
            if n_missing:
                make_room(self.folder, entry.wanted, n_missing, self.max_bytes)
            make_folder(entry.path, "--cache-dir")
            open_entry(entry.path, entry.about)
            entry.keeps = True
        except SemsegError as error:
            if entry.path not in self.refused:
                log.warning("Residuals of %s are not kept: %s", title, error)
            self.refused.add(entry.path)
        return entry

    def foresee(
        self, vit: Backbone, layer: int, datasets: Sequence[Dataset], site: str = RESID_POST
    ) -> dict[str, Keeping]:
        """By digest what a run would add of these datasets, in the order of their use."""
        unique = {dataset.digest: dataset for dataset in datasets}
        wanted = [self._entry(vit, layer, dataset, site).wanted for dataset in unique.values()]
        return dict(zip(unique, foresee(self.folder, wanted, self.max_bytes), strict=True))

    def deepest_whole(self, vit: Backbone, dataset: Dataset) -> int | None:
        """The last layer after which these images are all kept; None if there is none."""
        layers = range(vit.n_layers, 0, -1)
        return next(
            (n for n in layers if self._entry(vit, n, dataset, RESID_POST).n_missing() == 0), None
        )

    def _entry(self, vit: Backbone, layer: int, dataset: Dataset, site: str) -> "CacheEntry":
        about: dict[str, str | int] = {
            "model": self.model,
            "layer": layer,
            "site": site,
            "dtype": str(vit.dtype).removeprefix("torch."),
            "image_size": "x".join(map(str, vit.preprocessing.crop)),
            "dataset": dataset.title,
            "split": dataset.split,
        }
        return CacheEntry(self.folder / _key(vit, layer, site, dataset), vit, dataset, about, site)


class CacheEntry:
    """The kept residuals of a dataset's images. `keeps` says whether new ones are written."""

    keeps: bool = False

    def __init__(
        self,
        path: Path,
        vit: Backbone,
        dataset: Dataset,
        about: Mapping[str, str | int],
        site: str = RESID_POST,
    ) -> None:
        self.path = path
        self.about = about
        self._names = dataset.contents
        self._dataset = dataset
        n_patches = vit.n_patches_per_img
        self._form = {
            "tokens": ((vit.n_prefix_tokens + n_patches, vit.width(site)), vit.dtype),
            "labels": ((n_patches,), torch.int64),
            "share": ((n_patches,), torch.float64),
        }

    @property
    def n_bytes(self) -> int:
        """The size of one image's file, a little too large."""
        sizes = (torch.Size(shape).numel() * kind.itemsize for shape, kind in self._form.values())
        return sum(sizes) + HEADER_BYTES

    @property
    def wanted(self) -> Wanted:
        """What a run wants to find here."""
        return Wanted(self.path, frozenset(self._names), self.n_bytes)

    def n_missing(self, positions: Sequence[int] | None = None) -> int:
        """How many of the images (of those at these positions) have no file now."""
        wanted = self._names if positions is None else (self._names[i] for i in positions)
        return len(set(wanted) - names_in(self.path))

    def read(self, position: int) -> KeptSample | None:
        """An image's residual and labels; None where it is not kept, or the file is damaged."""
        path = file_of(self.path, self._names[position])
        if not_a_file(path):
            return None
        try:
            with safe_open(path, "pt") as file:
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                told = (file.metadata() or {}).get("crc32")
        except OSError:  # not there, or not to be read now
            return None
        except SafetensorError as error:
            self._forget(path, str(error))
            return None
        form = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in found.items()}
        if form != self._form or told != self._checksum(position, found):
            self._forget(path, "its checksum or form is another")
            return None
        index = self._dataset.indices[position]
        return KeptSample(found["tokens"], found["labels"], found["share"], position, index)

    def _forget(self, path: Path, why: str) -> None:
        log.warning("The residuals in %s are damaged (%s): they are computed anew.", path, why)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)

    def keep(self, batch: Batch, tokens_bnd: Tensor) -> None:
        """Keeps what is new of a batch, images whole or not at all; a full disk ends the keeping.

        Two processes may write the same image: both write the same numbers. The entry is in use
        still: no other process makes room of it.
        """
        if not self.keeps:
            return
        try:
            for row in batch.new_rows:
                labels_t, share_t = batch.labels_bt[row], batch.share_bt[row]
                self._write(int(batch.positions_b[row]), tokens_bnd[row], labels_t, share_t)
            use(self.path, self.about)
        except SemsegError as error:
            self.keeps = False
            log.warning("No more residuals are kept: %s", error)

    def _write(self, position: int, tokens_nd: Tensor, labels_t: Tensor, share_t: Tensor) -> None:
        tensors = {"tokens": tokens_nd, "labels": labels_t, "share": share_t}
        tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        path = file_of(self.path, self._names[position])
        make_folder(path.parent, "--cache-dir")
        data = to_safetensors(tensors, {"crc32": self._checksum(position, tensors)})
        write_atomic(path, data, "--cache-dir")

    def _checksum(self, position: int, tensors: Mapping[str, Tensor]) -> str:
        """Of the numbers, and of what they belong to: no file passes for another."""
        start = zlib.crc32(f"{self.path.name} {self._names[position]}".encode())
        parts = (tensors[name].reshape(-1).view(torch.uint8) for name in sorted(tensors))
        sums = (zlib.crc32(part.numpy().data, start) for part in parts)
        return " ".join(f"{value:08x}" for value in sums)


@dataclass(frozen=True)
class KeptFirst(TorchDataset[Sample | KeptSample]):
    """A dataset's images: what is kept of them, else the image itself."""

    dataset: Dataset
    entry: CacheEntry

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> Sample | KeptSample:
        return self.entry.read(position) or self.dataset[position]


def _key(vit: Backbone, layer: int, site: str, dataset: Dataset) -> str:
    """A digest of all that decides a residual and its labels, beside the image and its mask."""
    import PIL
    import transformers

    labels = dataset.labels
    parts = (
        FORMAT,
        *(vit.digest, layer, site, vit.preprocessing, vit.dtype, vit.device.type),
        *(__version__, torch.__version__, transformers.__version__, PIL.__version__),
        *(labels.class_names, labels.offset, labels.ignored, dataset.patch_size_px),
        *(dataset.layout, dataset.split),
    )
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()
