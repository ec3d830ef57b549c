"""Parquet files as the hub's `datasets` library writes them: a column of images, one of masks."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from semseg_cli.data.label_map import LabelMap
from semseg_cli.data.layouts.layout import (
    Entry,
    Found,
    Layout,
    check_names,
    id_names,
    is_there,
    read_lines,
    require_split,
)
from semseg_cli.data.parquet_files import ParquetPicture, open_parquet
from semseg_cli.errors import SemsegError

CLASS_FILE = "classes.txt"
PART = re.compile(r"(?P<split>.+?)(?:-\d+-of-\d+)?(?:-[0-9a-f]{16})?")
NUMBER = re.compile(r"\d+")
SPLITS = {"training": ("train", "training"), "validation": ("validation", "val", "valid")}
IMAGES = ("image", "images", "img", "pixel_values")
MASKS = ("mask", "masks", "annotation", "annotations", "label", "labels", "segmentation",
         "segmentation_mask", "semantic_segmentation", "gt")  # fmt: skip
NO_CLASS = ("background", "unlabeled", "unlabelled", "unknown", "void", "null", "ignore", "none")
VOID = 255


def _files(root: Path) -> dict[str, list[Path]]:
    """Split -> its files, in their order: of data/, the root, or a folder per split."""
    found: dict[str, list[Path]] = {}
    for pattern in ("data/*.parquet", "*.parquet", "*/[0-9]*.parquet"):
        for path in sorted(root.glob(pattern)):
            part = PART.fullmatch(path.stem)
            is_number = NUMBER.fullmatch(path.stem) is not None
            split = path.parent.name if is_number or part is None else part["split"]
            if not path.name.startswith("."):
                found.setdefault(split, []).append(path)
        if found:
            break
    return found


def _is_at(root: Path) -> bool:
    """Whether there are such files, and one of them holds pictures: ours hold numbers."""
    files = [path for paths in _files(root).values() for path in paths] if root.is_dir() else []
    return bool(files) and bool(_pictures(open_parquet(files[0]).schema_arrow))


def _pictures(schema: Any) -> list[str]:
    """The columns that hold pictures."""
    import pyarrow as pa

    structs = [field for field in schema if pa.types.is_struct(field.type)]
    return [field.name for field in structs if field.type.get_field_index("bytes") >= 0]


def _splits(root: Path) -> Mapping[str, str]:
    there = _files(root)
    known = {ours: [one for one in theirs if one in there] for ours, theirs in SPLITS.items()}
    return {ours: found[0] for ours, found in known.items() if found}


def _check_split(root: Path, split: str) -> None:
    require_split(root, split, _files(root))


def _read(root: Path, split: str, n_classes: int | None) -> Found:
    files = _files(root)[split]
    schema = open_parquet(files[0]).schema_arrow
    image, mask = _columns(files[0], schema)
    names = _names(files, image)
    rows = [(path, row) for path in files for row in range(open_parquet(path).metadata.num_rows)]
    return Found(
        entries=tuple(
            Entry(name, ParquetPicture(path, image, row), ParquetPicture(path, mask, row))
            for name, (path, row) in zip(names, rows, strict=True)
        ),
        labels=_labels(root, _features(schema), mask, n_classes),
        rule=f"every row has a picture in {image} and one in {mask}",
    )


def _columns(path: Path, schema: Any) -> tuple[str, str]:
    """The columns of images and masks: by their usual names, or the only two with pictures."""
    pictures = _pictures(schema)
    image = next((name for name in IMAGES if name in pictures), None)
    mask = next((name for name in MASKS if name in pictures), None)
    others = [name for name in pictures if name not in (image, mask)]
    if image is None and mask is not None and len(others) == 1:
        image = others[0]
    if mask is None and image is not None and len(others) == 1:
        mask = others[0]
    if image is None or mask is None:
        raise SemsegError(
            f"{path} has no pair of columns with pictures (a struct of bytes and path) that could "
            f"be images ({', '.join(IMAGES[:2])}) and masks ({', '.join(MASKS[::2][:3])}); it has "
            f"{', '.join(schema.names) or 'nothing'}: rename its columns."
        )
    return image, mask


def _names(files: Sequence[Path], image: str) -> list[str]:
    """The images' file names where these tell rows apart, else row numbers."""
    found: list[str | None] = []
    for path in files:
        file = open_parquet(path)
        has_paths = file.schema_arrow.field(image).type.get_field_index("path") >= 0
        if not has_paths:
            found += [None] * file.metadata.num_rows
            continue
        for batch in file.iter_batches(columns=[f"{image}.path"]):
            found += [one and one["path"] for one in batch.column(0).to_pylist()]
    stems = [Path(one).stem if one else "" for one in found]
    if "" not in stems and len(set(stems)) == len(stems):
        return stems
    return [f"{row:06d}" for row in range(len(found))]


def _features(schema: Any) -> dict[str, Any]:
    """What `datasets` wrote of the columns; empty where it wrote nothing readable."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return features if isinstance(features, dict) else {}


def _labels(root: Path, features: dict[str, Any], mask: str, n_classes: int | None) -> LabelMap:
    path = root / CLASS_FILE
    if is_there(path):
        names, source = read_lines(path, "expected one class name per line"), CLASS_FILE
    else:
        names, source = class_names(features, mask), "the class names of the parquet schema"
    if not names:
        if n_classes is None:
            raise SemsegError(
                f"The parquet files of {root} name no classes: write them to {path}, one per line, "
                "the first one for number 0."
            )
        return LabelMap(id_names(n_classes), 0, (0, VOID), source="the head's number of classes")
    has_none = names[0].casefold() in NO_CLASS
    kept = check_names(names[1:] if has_none else names, path if is_there(path) else root)
    # With 256 or more names 255 is one of them.
    void = (VOID,) if len(names) <= VOID else ()
    return LabelMap(kept, 0 if has_none else 1, (0, *void) if has_none else void, source=source)


def class_names(features: Mapping[str, Any], mask: str) -> list[str]:
    """The names of a mask's numbers, from 0: those of the mask's own feature, else the only list
    of class labels, else the only class label; empty where that is not clear."""
    of_mask = [names for names, _ in _class_labels(features.get(mask))]
    every = [found for feature in features.values() for found in _class_labels(feature)]
    lists = [names for names, is_list in every if is_list]
    for found in (of_mask, lists, [names for names, _ in every]):
        if len(found) == 1:
            return found[0]
        if found:
            return []
    return []


def _class_labels(feature: Any, *, is_list: bool = False) -> Iterator[tuple[list[str], bool]]:
    """The names of all ClassLabels in a feature, and whether each is of a list."""
    if isinstance(feature, list):
        for one in feature:
            yield from _class_labels(one, is_list=True)
    if not isinstance(feature, dict):
        return
    names = feature.get("names")
    if isinstance(names, list) and feature.get("_type", "ClassLabel") == "ClassLabel":
        yield [str(name) for name in names], is_list
        return
    inside = is_list or feature.get("_type") in ("Sequence", "List", "LargeList")
    for one in feature.values():
        yield from _class_labels(one, is_list=inside)


LAYOUT = Layout(
    name="parquet",
    needs="*.parquet or data/*.parquet",
    is_at=_is_at,
    splits=_splits,
    check_split=_check_split,
    read=_read,
)
