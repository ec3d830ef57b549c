"""Images and masks that a user holds in memory, as datasets of the same kind as those on disk."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler

from semseg_cli.data.batches import Sample
from semseg_cli.data.dataset import Dataset, even_subset
from semseg_cli.data.held_items import FIRST_CLASS, Item, Numbers, item_of, unbatched
from semseg_cli.data.label_map import LabelMap
from semseg_cli.data.layouts.layout import id_names
from semseg_cli.data.parquet_files import opened
from semseg_cli.data.patch_labels import patch_modes, patch_pixels
from semseg_cli.data.preprocessing import Preprocessing
from semseg_cli.errors import SemsegError, UsageError

IN_MEMORY = "memory"  # in place of a layout
WHERE = Path("in memory")  # in place of a folder
Source = Iterable[Any]
"""A DataLoader, a torch dataset, or anything that gives pairs of an image and its mask."""


@dataclass(frozen=True)
class PreparedDataset(Dataset):
    """Images that are the network's input already: none is resized or normalised."""

    tensors: tuple[Float32[Tensor, "3 h w"], ...] = ()

    def __getitem__(self, position: int) -> Sample:
        mask = self.masks[position]
        with opened(mask, str(mask), "") as data, Image.open(data) as stored:
            labels_hw = torch.from_numpy(np.asarray(stored).astype(np.int64))  # class ids already
        labels_t, share_t = patch_modes(patch_pixels(labels_hw, self.patch_size_px))
        return Sample(self.image(position), labels_t, share_t, position, self.indices[position])

    def image(self, position: int) -> Tensor:
        """The image [3 h w] of a sample, as it was given."""
        return self.tensors[self.indices[position]]


class Data:
    """Images and masks in memory, in two splits, as `run` and `lookup` take them.

    They are read once, here, and kept as PNG files in memory (prepared ones as they are): what
    does not fit there belongs into a folder.

    Args:
        class_names: of the numbers in the masks, in their order; or how many classes there are.
        training: for SAE statistics and the choice of latents: a DataLoader that does not shuffle,
            a torch dataset, or pairs of an image and its mask. An image is a PIL picture, an array
            [h, w, 3] or [h, w], or a tensor [3, h, w]: of 0..255, or floating-point of 0..1. A mask
            is a PIL picture, or an array or tensor [h, w] of whole numbers. A pair may be a mapping
            with the keys image and mask (and name).
        validation: the same, for evaluating interventions.
        first_class: the number of the first class.
        ignored: the numbers of pixels without a class, where they are not classes.
        prepared: whether images are what the network is to see: floating-point [3, h, w],
            normalised, of the size that it takes.

    Raises:
        UsageError: an image or a mask cannot be used; the sentence says which, and why.
    """

    def __init__(
        self,
        class_names: Sequence[str] | int,
        *,
        training: Source | None = None,
        validation: Source | None = None,
        first_class: int = FIRST_CLASS,
        ignored: Sequence[int] = (0, 255, -1),
        prepared: bool = False,
    ) -> None:
        names = id_names(class_names) if isinstance(class_names, int) else tuple(class_names)
        if not names or len(set(names)) < len(names):
            raise UsageError(f"class_names is {class_names!r}: give each class once, at least one")
        self.labels = LabelMap(names, 0, (0,), source="class_names")  # of masks as they are kept
        self.prepared = prepared
        numbers = Numbers(len(names), first_class, tuple(ignored))
        given = {"training": training, "validation": validation}
        self.splits = {
            split: _items(source, split, numbers, prepared)
            for split, source in given.items()
            if source is not None
        }
        if not self.splits:
            raise UsageError("Data has no images: give training=, validation= or both")

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(found)} {split}" for split, found in self.splits.items())
        return f"Data({len(self.labels.class_names)} classes, {sizes} images)"

    def require_split(self, split: str) -> None:
        """Refuses a split that is not there."""
        if split not in self.splits:
            raise SemsegError(
                f"The data in memory has no split {split!r}, only {', '.join(self.splits)}: give "
                f"Data({split}=...), or name another imgs_split or lookup_split."
            )

    def open(
        self, split: str, patch_size_px: int, preprocessing: Preprocessing, n_images: int | None
    ) -> Dataset:
        """A split as the network sees it, or a fixed even subset of it.

        Raises:
            SemsegError: there is no such split, or prepared images are of another size.
        """
        self.require_split(split)
        items = self.splits[split]
        indices = even_subset(len(items), n_images)
        kept: dict[str, Any] = {
            "root": WHERE,
            "title": "data in memory",
            "layout": IN_MEMORY,
            "split": split,
            "names": tuple(items[i].name for i in indices),
            "images": tuple(items[i].image for i in indices),
            "masks": tuple(items[i].mask for i in indices),
            "indices": tuple(indices),
            "labels": self.labels,
            "patch_size_px": patch_size_px,
            "preprocessing": preprocessing,
            "n_of_split": len(items),
        }
        if not self.prepared:
            return Dataset(**kept)
        tensors = tuple(item.tensor for item in items if item.tensor is not None)
        for item, tensor in zip(items, tensors, strict=True):
            _require_size(item, tensor, preprocessing)
        return PreparedDataset(**kept, tensors=tensors)


def _require_size(item: Item, tensor: Tensor, preprocessing: Preprocessing) -> None:
    height, width = tensor.shape[1:]
    if (height, width) != preprocessing.crop:
        raise SemsegError(
            f"The prepared image {item.name} is {height} x {width} pixels, the ViT takes "
            f"{preprocessing.crop[0]} x {preprocessing.crop[1]}: prepare it so, or give image_size."
        )


def _items(source: Source, split: str, numbers: Numbers, prepared: bool) -> list[Item]:
    found = []
    for i, pair in enumerate(_pairs(source, split)):
        found.append(item_of(pair, f"{i:06d}", f"Image {i} of {split}", numbers, prepared))
    if not found:
        raise UsageError(f"The split {split} holds no images: give at least one pair")
    if len({item.name for item in found}) == len(found):
        return found
    return [
        Item(f"{i:06d}", item.image, item.mask, item.tensor) for i, item in enumerate(found)
    ]  # a name must find its image


def _pairs(source: Any, split: str) -> Iterator[Any]:
    if isinstance(source, DataLoader):
        if isinstance(source.sampler, RandomSampler):
            raise UsageError(
                f"The DataLoader of {split} shuffles, and an image's place decides what is drawn "
                "for it: give one with shuffle=False"
            )
        for batch in source:
            yield from [batch] if source.batch_size is None else unbatched(batch)
    elif isinstance(source, Mapping | str | Path):
        raise UsageError(
            f"{split} is a {type(source).__name__}: give a DataLoader, a dataset or a list of "
            "(image, mask)"
        )
    elif hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        yield from (source[i] for i in range(len(source)))  # datasets may have no iterator
    else:
        yield from source
