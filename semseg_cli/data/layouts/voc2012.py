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

LISTS = "ImageSets/Segmentation"
CLASS_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip


def _check_split(root: Path, split: str) -> None:
    require_split(root / LISTS, split, (path.stem for path in (root / LISTS).glob("*.txt")))


def _read(root: Path, split: str, _n_classes: int | None) -> Found:
    lines = read_lines(root / LISTS / f"{split}.txt", "expected one name per line")
    images, masks = (by_stem(pictures_in(root / p)) for p in ("JPEGImages", "SegmentationClass"))
    names = sorted({line.split()[0] for line in lines})
    return Found(
        entries=tuple(Entry(name, images.get(name), masks.get(name)) for name in names),
        labels=LabelMap(
            CLASS_NAMES, ignored=(0, 255), source="the 20 classes, 0 background and 255 void of VOC"
        ),
        rule=f"every name in {LISTS}/{split}.txt needs a file in JPEGImages/ and one in "
        "SegmentationClass/",
    )


LAYOUT = Layout(
    name="voc2012",
    needs=f"JPEGImages/, SegmentationClass/ and {LISTS}/",
    is_at=has_folders("JPEGImages", "SegmentationClass", LISTS),
    splits=lambda root: {"training": "train", "validation": "val"},
    check_split=_check_split,
    read=_read,
)
