"""ADE20K (ADEChallengeData2016): images/ and annotations/ with a folder per split."""

from pathlib import Path

from semseg_cli.data.label_map import LabelMap
from semseg_cli.data.layouts.layout import (
    Found,
    Layout,
    by_stem,
    has_folders,
    id_names,
    is_there,
    pair,
    pictures_in,
    read_lines,
    split_folders,
)
from semseg_cli.errors import SemsegError
from semseg_cli.readers import MOST_DIGITS, unreadable

CLASS_FILE = "objectInfo150.txt"


def _read(root: Path, split: str, n_classes: int | None) -> Found:
    images, masks = (by_stem(pictures_in(root / p / split)) for p in ("images", "annotations"))
    return Found(
        entries=pair(images, masks),
        labels=LabelMap(_class_names(root, n_classes), ignored=(0,), source=CLASS_FILE),
        rule="images/ and annotations/ need files of the same names",
    )


def _class_names(root: Path, n_classes: int | None) -> tuple[str, ...]:
    """First synonyms from the class file, by id; the ids where there is no file."""
    path = root / CLASS_FILE
    if not is_there(path):
        if n_classes is None:
            raise SemsegError(f"{root} has no {CLASS_FILE}: put it beside images/.")
        return id_names(n_classes)
    expected = "expected tab-separated Idx, Ratio, Train, Val, Name"
    names = {}
    for line in read_lines(path, expected)[1:]:
        index, *rest = line.split("\t")
        if not rest or not index.strip().isdecimal() or len(index) > MOST_DIGITS:
            raise unreadable(str(path), f"it has the line {line[:60]!r}", expected)
        names[int(index)] = rest[-1].split(",")[0].strip()
    if not names or sorted(names) != list(range(1, len(names) + 1)):
        raise SemsegError(f"{path} must list the ids 1 to C once each.")
    return tuple(names[i] for i in sorted(names))


LAYOUT = Layout(
    name="ade20k",
    needs="images/ and annotations/",
    is_at=has_folders("images", "annotations"),
    splits=lambda root: {},
    check_split=split_folders("images", "annotations"),
    read=_read,
)
