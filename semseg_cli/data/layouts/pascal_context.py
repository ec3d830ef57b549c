"""Pascal Context with 59 classes: VOC 2010 with SegmentationClassContext/ and its lists."""

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

MASKS = "SegmentationClassContext"
LISTS = "ImageSets/SegmentationContext"
CLASS_NAMES = (
    "aeroplane", "bag", "bed", "bedclothes", "bench", "bicycle", "bird", "boat", "book", "bottle",
    "building", "bus", "cabinet", "car", "cat", "ceiling", "chair", "cloth", "computer", "cow",
    "cup", "curtain", "dog", "door", "fence", "floor", "flower", "food", "grass", "ground", "horse",
    "keyboard", "light", "motorbike", "mountain", "mouse", "person", "plate", "platform",
    "pottedplant", "road", "rock", "sheep", "shelves", "sidewalk", "sign", "sky", "snow", "sofa",
    "table", "track", "train", "tree", "truck", "tvmonitor", "wall", "water", "window", "wood",
)  # fmt: skip


def _check_split(root: Path, split: str) -> None:
    require_split(root / LISTS, split, (path.stem for path in (root / LISTS).glob("*.txt")))


def _read(root: Path, split: str, _n_classes: int | None) -> Found:
    lines = read_lines(root / LISTS / f"{split}.txt", "expected one name per line")
    images, masks = (by_stem(pictures_in(root / part)) for part in ("JPEGImages", MASKS))
    names = sorted({line.split()[0] for line in lines})
    return Found(
        entries=tuple(Entry(name, images.get(name), masks.get(name)) for name in names),
        labels=LabelMap(
            CLASS_NAMES,
            ignored=(0, 255),
            source="Pascal Context, 59 classes and 0",
        ),
        rule=f"every name in {LISTS}/{split}.txt needs a file in JPEGImages/ and one in {MASKS}/",
    )


LAYOUT = Layout(
    name="pascal-context",
    needs=f"JPEGImages/, {MASKS}/ and {LISTS}/",
    is_at=has_folders("JPEGImages", MASKS, LISTS),
    splits=lambda root: {"training": "train", "validation": "val"},
    check_split=_check_split,
    read=_read,
)
