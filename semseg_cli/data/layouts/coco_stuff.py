"""COCO-Stuff (164k): COCO's images and the stuffthingmaps, PNG files of ids 0 to 181 and 255.

Number n is class n + 1 of labels.txt as published, whose id 0 is "unlabeled".
"""

from pathlib import Path

from semseg_cli.data.label_map import LabelMap
from semseg_cli.data.layouts.layout import (
    Found,
    Layout,
    by_stem,
    check_names,
    id_names,
    is_there,
    pair,
    pictures_in,
    read_lines,
    split_folders,
)
from semseg_cli.errors import SemsegError
from semseg_cli.readers import MOST_DIGITS

CLASS_FILE = "labels.txt"
N_CLASSES = 182
UNLABELLED = "unlabeled"
SPLITS = {"training": "train2017", "validation": "val2017"}


def _is_at(root: Path) -> bool:
    has_images = any((root / "images" / split).is_dir() for split in SPLITS.values())
    return has_images and _maps(root).is_dir()


def _maps(root: Path) -> Path:
    """Where the maps are: as published below annotations/, or under the archive's own name."""
    own = root / "stuffthingmaps"
    return own if own.is_dir() else root / "annotations"


def _check_split(root: Path, split: str) -> None:
    split_folders("images", _maps(root).name)(root, split)


def _read(root: Path, split: str, _n_classes: int | None) -> Found:
    maps = (
        path
        for path in pictures_in(_maps(root) / split)
        if not path.stem.endswith("_labelTrainIds")  # made by other tools, beside the originals
    )
    return Found(
        entries=pair(by_stem(pictures_in(root / "images" / split)), by_stem(maps)),
        labels=LabelMap(
            _class_names(root / CLASS_FILE),
            offset=1,
            ignored=(255,),
            source="the ids 0 to 181 and 255 void of the stuffthingmaps",
        ),
        rule=f"images/ and {_maps(root).name}/ need files of the same names",
    )


def _class_names(path: Path) -> tuple[str, ...]:
    """From lines `id: name`, counted from 1 (with 0 unlabelled) or, as the maps are, from 0."""
    if not is_there(path):
        return id_names(N_CLASSES)
    expected = f"expected {N_CLASSES} lines `id: name`"
    names = {}
    for line in read_lines(path, expected):
        number, _, name = line.partition(":")
        if not number.strip().isdecimal() or len(number) > MOST_DIGITS or not name.strip():
            raise SemsegError(f"{path} has the line {line[:60]!r}: {expected}.")
        names[int(number)] = name.strip()
    names = {i: name for i, name in names.items() if name != UNLABELLED}
    first = min(names, default=0)
    if first > 1 or sorted(names) != list(range(first, first + N_CLASSES)):
        raise SemsegError(f"{path} has not the ids of {N_CLASSES} classes once each: {expected}.")
    return check_names([names[i] for i in sorted(names)], path)


LAYOUT = Layout(
    name="coco-stuff",
    needs="images/{train2017,val2017} and annotations/ or stuffthingmaps/",
    is_at=_is_at,
    splits=lambda root: SPLITS,
    check_split=_check_split,
    read=_read,
)
