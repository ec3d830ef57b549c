"""Pascal VOC 2012: JPEGImages/, SegmentationClass/, and a list of names per split."""

from pathlib import Path

from semseg_cli.data.label_map import LabelMap
from semseg_cli.data.layouts.layout import (
    Entry,
    Found,
    Layout,
    by_stem,
    has_folders,
    pictures_in,
    read_lines,
    require_split,
)

CLASS_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip


def voc_layout(name: str, masks: str, lists: str, labels: LabelMap) -> Layout:
    """A layout with pictures in JPEGImages/, and names listed per split as VOC has them."""

    def check_split(root: Path, split: str) -> None:
        require_split(root / lists, split, (path.stem for path in (root / lists).glob("*.txt")))

    def read(root: Path, split: str, _n_classes: int | None) -> Found:
        lines = read_lines(root / lists / f"{split}.txt", "expected one name per line")
        images, masked = (by_stem(pictures_in(root / part)) for part in ("JPEGImages", masks))
        names = sorted({line.split()[0] for line in lines})
        return Found(
            entries=tuple(Entry(one, images.get(one), masked.get(one)) for one in names),
            labels=labels,
            rule=f"every name in {lists}/{split}.txt needs a file in JPEGImages/ and one in "
            f"{masks}/",
        )

    return Layout(
        name=name,
        needs=f"JPEGImages/, {masks}/ and {lists}/",
        is_at=has_folders("JPEGImages", masks, lists),
        splits=lambda root: {"training": "train", "validation": "val"},
        check_split=check_split,
        read=read,
    )


LAYOUT = voc_layout(
    "voc2012",
    "SegmentationClass",
    "ImageSets/Segmentation",
    LabelMap(
        CLASS_NAMES, ignored=(0, 255), source="the 20 classes, 0 background and 255 void of VOC"
    ),
)
