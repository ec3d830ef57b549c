"""Dataset folders -> preprocessed images and patch labels.

Images and masks are paired by name. Every image keeps its index in the split, whatever subset is
used or skipped, so that random draws can belong to images.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from semseg_cli.data.batches import KeptSample, Sample
from semseg_cli.data.held_picture import HeldPicture
from semseg_cli.data.label_map import LabelMap
from semseg_cli.data.layouts import check_layout, read_split, setting_of
from semseg_cli.data.parquet_files import ParquetPicture, StoredFile
from semseg_cli.data.patch_labels import patch_modes, patch_pixels
from semseg_cli.data.pictures import read_image, read_pair
from semseg_cli.data.preprocessing import Preprocessing, class_tensor, image_tensor
from semseg_cli.data.usable_files import Skipped, require_whole, sort_out, warn_of
from semseg_cli.progress import Progress, silent, stage
from semseg_cli.ranks import group as ranks


@dataclass(frozen=True)
class Dataset(TorchDataset[Sample | KeptSample]):
    """Images and masks of one split, or of a fixed even subset of it.

    `names` are unique and do not depend on where the dataset is; `skipped` lists the images of the
    subset that were left out; the whole split has `n_of_split` images.
    """

    root: Path
    title: str
    layout: str
    split: str
    names: tuple[str, ...]
    images: tuple[StoredFile, ...]
    masks: tuple[StoredFile, ...]
    indices: tuple[int, ...]
    labels: LabelMap
    patch_size_px: int
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    skipped: tuple[Skipped, ...] = ()
    n_of_split: int = 0

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes 1..C."""
        return self.labels.class_names

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> Sample:
        picture, mask = read_pair(self.images[position], self.masks[position], self.labels)
        labels_hw = class_tensor(mask, self.labels, self.preprocessing)
        labels_t, share_t = patch_modes(patch_pixels(labels_hw, self.patch_size_px))
        image_chw = image_tensor(picture, self.preprocessing)
        return Sample(image_chw, labels_t, share_t, position, self.indices[position])

    def image(self, position: int) -> Tensor:
        """The image [3 h w] of a sample, without reading its mask."""
        return image_tensor(read_image(self.images[position]), self.preprocessing)

    def subset(self, positions: Sequence[int]) -> "Dataset":
        """Some of the images; they keep their indices in the split."""
        made = replace(
            self,
            names=tuple(self.names[i] for i in positions),
            images=tuple(self.images[i] for i in positions),
            masks=tuple(self.masks[i] for i in positions),
            indices=tuple(self.indices[i] for i in positions),
        )
        if "contents" in self.__dict__:
            made.__dict__["contents"] = tuple(self.contents[i] for i in positions)
        return made

    @cached_property
    def contents(self) -> tuple[str, ...]:
        """A digest of the bytes of each image and its mask."""
        return self._contents_of(range(len(self)))

    def share_contents(self) -> None:
        """Lets every rank read its own images to know the contents of all.

        Raises:
            SemsegError: the ranks do not see the same images, or not in the same way.
        """
        seen = (self.names, self.indices, self.labels, self.patch_size_px, self.preprocessing)
        ranks.require_same(f"images and labels of the {self.split} split", repr(seen))
        own = ranks.shard(len(self))
        parts = ranks.from_all("contents", " ".join(self._contents_of(own)).encode())
        self.__dict__["contents"] = tuple(one for part in parts for one in part.decode().split())

    def _contents_of(self, positions: Iterable[int]) -> tuple[str, ...]:
        pairs = ((self.images[i], self.masks[i]) for i in positions)
        with stage(f"Hashing the {self.split} images"):
            return tuple(_contents(image, mask) for image, mask in pairs)

    @cached_property
    def digest(self) -> str:
        """A digest of the names and contents of all files in use, and of what labels mean."""
        meaning = (self.class_names, self.labels.offset, self.labels.ignored)
        files = [
            (image.name, mask.name) for image, mask in zip(self.images, self.masks, strict=True)
        ]
        parts = (meaning, self.names, files, self.contents)
        return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


OnDisk = Path | ParquetPicture


def _contents(image: StoredFile, mask: StoredFile) -> str:
    if isinstance(image, HeldPicture) or isinstance(mask, HeldPicture):
        return _digest_of(image, mask)
    return _digest_of_versions(_version_of(image), _version_of(mask))


def _version_of(path: OnDisk) -> tuple[OnDisk, int, int]:
    """A file as it is now: path, bytes, time of its last change."""
    found = path.stat()
    return path, found.st_size, found.st_mtime_ns


@lru_cache(maxsize=2**17)
def _digest_of_versions(*versions: tuple[OnDisk, int, int]) -> str:
    """A digest of the bytes of these files, read once per process."""
    return _digest_of(*(path for path, _, _ in versions))


def _digest_of(*stored: StoredFile) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for one in stored:
        data = one.read_bytes()
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def open_dataset(
    root: Path,
    split: str,
    patch_size_px: int,
    *,
    preprocessing: Preprocessing | None = None,
    n_images: int | None = None,
    n_classes: int | None = None,
    data_format: str = "auto",
    background: bool = False,
    skip_bad: bool = False,
    progress: Progress = silent,
) -> Dataset:
    """The images and masks of a split below a folder in one of the known layouts.

    Args:
        root: a folder, or a TOML file that describes one.
        split: by its name in the settings or by the layout's own.
        patch_size_px: side of a patch.
        preprocessing: of the network; by default DINOv2's.
        n_images: a fixed even subset of so many images.
        n_classes: names the classes by their ids where the dataset has no names.
        data_format: the layout's name, or "auto".
        background: makes label 0 a class of its own.
        skip_bad: decodes all files now, and leaves out the images that cannot be used.
        progress: told about decoded images.

    Raises:
        SemsegError: the layout is wrong, a file has no partner, or sizes or modes do not fit.
    """
    layout, own_split = check_layout(root, split, data_format)
    found = read_split(root, split, layout.name, n_classes)
    if background:
        found = replace(found, labels=found.labels.with_background())
    indices = even_subset(len(found.entries), n_images)
    skipped: tuple[Skipped, ...] = ()
    if skip_bad:
        n_wanted = len(indices)
        indices, skipped = sort_out(found, indices, progress)
        warn_of(skipped, n_wanted, split)
    else:
        require_whole(found, indices)
    used = [found.entries[i] for i in indices]
    return Dataset(
        root=root,
        title=layout.title(root),
        layout=layout.name,
        split=setting_of(layout, root, own_split),
        names=tuple(entry.name for entry in used),
        images=tuple(entry.image for entry in used if entry.image),
        masks=tuple(entry.mask for entry in used if entry.mask),
        indices=tuple(indices),
        labels=found.labels,
        patch_size_px=patch_size_px,
        preprocessing=preprocessing or Preprocessing(),
        skipped=skipped,
        n_of_split=len(found.entries),
    )


def even_subset(n_all: int, n_wanted: int | None) -> list[int]:
    """Evenly spread indices; all of them where none or too many are wanted."""
    if n_wanted is None or n_wanted >= n_all:
        return list(range(n_all))
    return [i * n_all // n_wanted for i in range(n_wanted)]
