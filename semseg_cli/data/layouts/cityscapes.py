"""Cityscapes: leftImg8bit/ and gtFine/ with a folder per split and city; masks of train ids."""

from pathlib import Path

from semseg_cli.data.label_map import LabelMap
from semseg_cli.data.layouts.layout import (
    Found,
    Layout,
    by_stem,
    has_folders,
    pair,
    pictures_in,
    split_folders,
)
from semseg_cli.errors import SemsegError

IMAGE_ENDING = "_leftImg8bit"
MASK_ENDING = "_gtFine_labelTrainIds"
CLASS_NAMES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
    "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train",
    "motorcycle", "bicycle",
)  # fmt: skip


def _read(root: Path, split: str, _n_classes: int | None) -> Found:
    files = pictures_in(root / "gtFine" / split, "*/*")
    masks = by_stem(files, MASK_ENDING)
    if files and not masks:
        raise SemsegError(
            f"{root / 'gtFine' / split} has no *{MASK_ENDING}.png files: make them with "
            "csCreateTrainIdLabelImgs from the package cityscapesscripts."
        )
    return Found(
        entries=pair(
            by_stem(pictures_in(root / "leftImg8bit" / split, "*/*"), IMAGE_ENDING), masks
        ),
        labels=LabelMap(
            CLASS_NAMES, offset=1, ignored=(255,), source="the train ids 0 to 18 and 255 void"
        ),
        rule=f"every <name>{IMAGE_ENDING}.png in leftImg8bit/ needs a <name>{MASK_ENDING}.png in "
        "gtFine/",
    )


LAYOUT = Layout(
    name="cityscapes",
    needs="leftImg8bit/ and gtFine/",
    is_at=has_folders("leftImg8bit", "gtFine"),
    splits=lambda root: {"training": "train", "validation": "val"},
    check_split=split_folders("leftImg8bit", "gtFine"),
    read=_read,
)
