"""Every dataset layout as it is published, with tiny pictures."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from semseg_cli.data.layouts import cityscapes

WIDTH, HEIGHT = 50, 40


def halves(left: int, right: int, dtype: type = np.uint8) -> np.ndarray:
    """A mask with one number on either side."""
    mask: np.ndarray = np.full((HEIGHT, WIDTH), left, dtype)
    mask[:, WIDTH // 2 :] = right
    return mask


def photo(seed: int) -> Image.Image:
    """A noisy picture."""
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def save(picture: Image.Image, path: Path) -> Path:
    """Saves a picture, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    return path


def palette(mask: np.ndarray) -> Image.Image:
    """A mask as an indexed PNG, colours without meaning."""
    indexed = Image.fromarray(mask)
    made = Image.frombytes("P", indexed.size, indexed.tobytes())
    made.putpalette([value for i in range(256) for value in (i, 255 - i, (7 * i) % 256)])
    return made


def write_ade20k(root: Path) -> Path:
    """images/ and annotations/ as in ADEChallengeData2016, with three classes."""
    for split, short in (("training", "train"), ("validation", "val")):
        for i in range(2):
            name = f"ADE_{short}_{i + 1:08d}"
            save(photo(i), root / "images" / split / f"{name}.jpg")
            mask = Image.fromarray(halves(0, i + 2))
            save(mask, root / "annotations" / split / f"{name}.png")
    rows = [f"{i}\t0.1\t9\t2\t{name}" for i, name in enumerate(("wall", "sky, air", "tree"), 1)]
    (root / "objectInfo150.txt").write_text("Idx\tRatio\tTrain\tVal\tName\n" + "\n".join(rows))
    return root


def write_voc2012(root: Path) -> Path:
    """VOCdevkit/VOC2012, with images that have no mask, as there are thousands of."""
    lists = {"train": ["2007_000032", "2007_000039"], "val": ["2007_000033", "2008_000002"]}
    lists["trainval"] = sorted([*lists["train"], *lists["val"]])
    for name in lists["trainval"]:
        save(photo(1), root / "JPEGImages" / f"{name}.jpg")
        save(palette(halves(255, 20)), root / "SegmentationClass" / f"{name}.png")
    save(palette(halves(0, 1)), root / "SegmentationClass" / "2008_000002.png")
    save(photo(2), root / "JPEGImages" / "2010_000001.jpg")
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    for split, names in lists.items():
        text = "".join(f"{name}\n" for name in names)
        (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text(text)
    return root


def write_cityscapes(root: Path) -> Path:
    """leftImg8bit/ and gtFine/ with every kind of file that the latter has."""
    for split, city in (("train", "aachen"), ("val", "frankfurt"), ("val", "munster")):
        name = f"{city}_000000_000294"
        save(photo(1), root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png")
        fine = root / "gtFine" / split / city
        numbers = halves(255, 18) if city == "frankfurt" else halves(0, 10)
        save(Image.fromarray(numbers), fine / f"{name}_gtFine_labelTrainIds.png")
        save(Image.fromarray(halves(3, 33)), fine / f"{name}_gtFine_labelIds.png")
        save(photo(3), fine / f"{name}_gtFine_color.png")
        (fine / f"{name}_gtFine_polygons.json").write_text("{}")
    return root


def write_coco_stuff(root: Path) -> Path:
    """COCO's images and the stuffthingmaps, as the dataset's own instructions unpack them."""
    for split, name in (("train2017", "000000000009"), ("val2017", "000000000139")):
        save(photo(1), root / "images" / split / f"{name}.jpg")
        save(Image.fromarray(halves(0, 181)), root / "annotations" / split / f"{name}.png")
    save(photo(2), root / "images/val2017/000000000285.jpg")
    save(Image.fromarray(halves(255, 22)), root / "annotations/val2017/000000000285.png")
    (root / "annotations" / "instances_val2017.json").write_text("{}")
    return root


def write_toml(root: Path) -> Path:
    """Scenes of our own: nested folders, suffixes, names in a file."""
    for seed, split in enumerate(("train", "val")):
        for scene in ("a", "b"):
            save(photo(seed), root / "rgb" / split / scene / "0001_rgb.png")
            save(Image.fromarray(halves(0, 2)), root / "gt" / split / scene / "0001_label.png")
    (root / "names.txt").write_text("sea\nland\n")
    (root / "dataset.toml").write_text(
        'name = "coast"\n'
        'images = "rgb/{split}/*/*.png"\n'
        'masks = "gt/{split}/*/*.png"\n'
        'image_suffix = "_rgb"\n'
        'mask_suffix = "_label"\n'
        'classes = "names.txt"\n'
        "ignore = 255\n"
        'splits = { training = "train", validation = "val" }\n'
    )
    return root


def write_pascal_context(root: Path) -> Path:
    """VOC 2010, which has VOC's own folders too."""
    write_voc2012(root)
    lists = root / "ImageSets" / "SegmentationContext"
    lists.mkdir()
    for split, name, right in (("train", "2007_000032", 2), ("val", "2007_000033", 59)):
        (lists / f"{split}.txt").write_text(f"{name}\n")
        save(palette(halves(0, right)), root / "SegmentationClassContext" / f"{name}.png")
    return root


def picture_bytes(picture: Image.Image, format: str = "PNG") -> bytes:
    data = BytesIO()
    picture.save(data, format)
    return data.getvalue()


Cell = tuple[bytes | None, str | None]
FEATURES = {
    "image": {"_type": "Image"},
    "annotation": {"_type": "Image"},
    "classes": {
        "feature": {"names": ["background", "sea", "land"], "_type": "ClassLabel"},
        "_type": "List",
    },
}


def write_parquet_file(
    path: Path, columns: Mapping[str, Sequence[Cell]], features: Any = None, rows: int = 2
) -> Path:
    """As `datasets` writes it: structs of bytes and path, features in the schema's metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    arrays = {
        name: pa.array([{"bytes": b, "path": p} for b, p in cells], kind)
        for name, cells in columns.items()
    }
    table = pa.table(arrays)
    if features is not None:
        told = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": told})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=rows)
    return path


def write_parquet(root: Path) -> Path:
    """data/{split}-00000-of-00002.parquet, with rows in no order of names."""
    for split, numbers in (("train", [1, 2]), ("validation", [2, 1, 2])):
        for part in range(2):
            chosen = numbers[part::2]
            names = [f"{split}{part}{9 - i}" for i in range(len(chosen))]
            images = [(picture_bytes(photo(i), "JPEG"), f"{n}.jpg") for i, n in enumerate(names)]
            masks = [
                (picture_bytes(palette(halves(0, number))), f"{n}.png")
                for number, n in zip(chosen, names, strict=True)
            ]
            write_parquet_file(
                root / "data" / f"{split}-{part:05d}-of-00002.parquet",
                {"image": images, "annotation": masks},
                FEATURES,
            )
    return root


@dataclass(frozen=True)
class Case:
    """A layout with what must come out: names of the validation split, first and last labels."""

    write: Callable[[Path], Path]
    names: tuple[str, ...]
    labels: tuple[tuple[int, int], ...]
    n_classes: int
    first_class: str
    last_class: str
    own_split: str


CASES: Mapping[str, Case] = {
    "ade20k": Case(
        write_ade20k, ("ADE_val_00000001", "ADE_val_00000002"), ((0, 2), (0, 3)), 3, "wall", "tree",
        "validation",
    ),
    "voc2012": Case(
        write_voc2012, ("2007_000033", "2008_000002"), ((0, 20), (0, 1)), 20, "aeroplane",
        "tvmonitor", "val",
    ),
    "cityscapes": Case(
        write_cityscapes, ("frankfurt_000000_000294", "munster_000000_000294"), ((0, 19), (1, 11)),
        len(cityscapes.CLASS_NAMES), "road", "bicycle", "val",
    ),
    "coco-stuff": Case(
        write_coco_stuff, ("000000000139", "000000000285"), ((1, 182), (0, 23)), 182, "1", "182",
        "val2017",
    ),
    "pascal-context": Case(
        write_pascal_context, ("2007_000033",), ((0, 59),), 59, "aeroplane", "wood", "val"
    ),
    "parquet": Case(
        write_parquet, ("validation09", "validation08", "validation19"),
        ((0, 2), (0, 2), (0, 1)), 2, "sea", "land", "validation",
    ),
    "toml": Case(write_toml, ("a/0001", "b/0001"), ((0, 2), (0, 2)), 2, "sea", "land", "val"),
}  # fmt: skip
