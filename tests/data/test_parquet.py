"""Pictures in parquet files: the same as in files, in row order, batch by batch, in any process."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from layouts import FEATURES, Cell, halves, photo, picture_bytes, save, write_parquet_file
from PIL import Image
from test_layouts import opened

from semseg_cli.data.layouts.parquet import class_names
from semseg_cli.data.loader import Loader
from semseg_cli.data.parquet_files import KEPT, ROWS, ParquetPicture
from semseg_cli.errors import SemsegError


def pair(seed: int, right: int = 1) -> tuple[Cell, Cell]:
    mask = picture_bytes(Image.fromarray(halves(0, right)))
    return (picture_bytes(photo(seed)), f"{seed}.png"), (mask, None)


def write(path: Path, n: int = 3, features: Any = FEATURES, **names: str) -> Path:
    cells = [pair(i) for i in range(n)]
    images, masks = [image for image, _ in cells], [mask for _, mask in cells]
    named = {names.get("image", "image"): images, names.get("mask", "annotation"): masks}
    return write_parquet_file(path, named, features)


def test_rows_are_the_bytes_that_were_written_in_any_order(tmp_path: Path) -> None:
    n = 3 * ROWS * KEPT
    cells = [(os.urandom(20 + i), str(i)) for i in range(n)]
    path = write_parquet_file(tmp_path / "x.parquet", {"a": cells}, rows=ROWS * 2 + 3)
    order = np.random.default_rng(0).permutation(n).tolist()
    for rows in (range(n), order, reversed(range(n))):
        for row in rows:
            assert ParquetPicture(path, "a", row).read_bytes() == cells[row][0]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda row: ParquetPicture(path, "a", row).read_bytes(), order))
    assert found == [cells[row][0] for row in order]


def test_the_dataset_is_that_of_the_same_files_on_disk(tmp_path: Path) -> None:
    write(tmp_path / "hub" / "validation.parquet")
    for i in range(3):
        save(photo(i), tmp_path / "disk" / "images" / "validation" / f"{i}.png")
        mask = Image.fromarray(halves(0, 1))
        save(mask, tmp_path / "disk" / "annotations" / "validation" / f"{i}.png")
    packed = opened(tmp_path / "hub")
    loose = opened(tmp_path / "disk", n_classes=2)
    assert packed.names == loose.names
    assert packed.contents == loose.contents
    for i in range(3):
        one, other = packed[i], loose[i]
        assert torch.equal(one.image_chw, other.image_chw)
        assert torch.equal(one.labels_t, other.labels_t)
    assert packed.digest != opened(tmp_path / "hub", n_images=2).digest


def test_loading_processes_read_alike(tmp_path: Path) -> None:
    write(tmp_path / "validation.parquet", n=5)
    dataset = opened(tmp_path)
    dataset[0]  # a reader is open before processes fork
    here, there = (list(Loader(dataset, 2, n_workers=n)) for n in (0, 2))
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.images_bchw, other.images_bchw)


@pytest.mark.parametrize(
    "files",
    [
        ("data/val-00000-of-00001.parquet",),
        ("data/validation-00000-of-00001-0123456789abcdef.parquet",),
        ("valid.parquet",),
        ("validation/0000.parquet", "validation/0001.parquet"),
    ],
)
def test_names_of_files_say_the_split(tmp_path: Path, files: tuple[str, ...]) -> None:
    for file in files:
        write(tmp_path / file)
    dataset = opened(tmp_path)
    assert len(dataset) == 3 * len(files)
    unique = ("0", "1", "2") if len(files) == 1 else tuple(f"{i:06d}" for i in range(6))
    assert dataset.names == unique  # file names where they tell rows apart


@pytest.mark.parametrize(
    ("image", "mask"),
    [("image", "label"), ("img", "gt"), ("image", "odd"), ("odd", "mask")],
)
def test_columns_are_found_by_name_or_as_the_only_two(
    tmp_path: Path, image: str, mask: str
) -> None:
    write(tmp_path / "validation.parquet", image=image, mask=mask)
    first = opened(tmp_path).images[0]
    assert isinstance(first, ParquetPicture)
    assert first.column == image


def test_columns_that_tell_nothing_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "validation.parquet", image="left", mask="right")
    with pytest.raises(SemsegError, match=r"no pair of columns .* it has left, right: rename"):
        opened(tmp_path)


def labels(*names: str) -> dict[str, Any]:
    return {"names": list(names), "_type": "ClassLabel"}


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"mask": {"_type": "Image"}, "x": {"feature": labels("a"), "_type": "Sequence"}}, ["a"]),
        ({"mask": {"_type": "Image"}, "x": [labels("a", "b")], "scene": labels("c")}, ["a", "b"]),
        ({"mask": labels("m"), "x": [labels("a")]}, ["m"]),
        ({"mask": {}, "scene": labels("c")}, ["c"]),
        ({"mask": {}, "scene": labels("c"), "other": labels("d")}, []),
        ({"mask": {}, "x": [labels("c")], "y": [labels("d")]}, []),
        ({"objects": {"feature": {"id": {}, "category": labels("a")}, "_type": "List"}}, ["a"]),
        ({}, []),
    ],
)
def test_class_names_of_the_features(features: dict[str, Any], expected: list[str]) -> None:
    assert class_names(features, "mask") == expected


def test_numbers_mean_what_the_first_name_says(tmp_path: Path) -> None:
    write(tmp_path / "validation.parquet")
    assert opened(tmp_path).class_names == ("sea", "land")  # number 0 is background
    (tmp_path / "classes.txt").write_text("sea\nland\n")
    dataset = opened(tmp_path)
    assert dataset.class_names == ("sea", "land")
    assert set(dataset[0].labels_t.tolist()) == {1, 2}  # number 0 is the first class


def test_without_names_the_head_says_how_many(tmp_path: Path) -> None:
    write(tmp_path / "validation.parquet", features=None)
    assert opened(tmp_path, n_classes=2).class_names == ("1", "2")
    with pytest.raises(SemsegError, match=r"name no classes: write them to .*classes\.txt"):
        opened(tmp_path)


def test_rows_without_bytes_and_damaged_ones_get_a_sentence(tmp_path: Path) -> None:
    good, mask = pair(0)
    outside: Cell = (None, "far/away.png")
    write_parquet_file(
        tmp_path / "validation.parquet",
        {"image": [good, outside, (b"no picture", "x")], "annotation": [mask] * 3},
        FEATURES,
    )
    with pytest.raises(SemsegError, match=r"row 1 of image in .* holds a path and no bytes"):
        opened(tmp_path)
    found = opened(tmp_path, skip_bad=True)
    assert found.indices == (0,)
    assert len(found.skipped) == 2
    assert "row 2 of image" in found.skipped[1].reason


def test_a_file_that_is_no_parquet_is_told(tmp_path: Path) -> None:
    (tmp_path / "validation.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(SemsegError, match="is no readable parquet file"):
        opened(tmp_path)


def test_a_folder_of_numbers_is_no_dataset(tmp_path: Path) -> None:
    """Our own run folders hold per_image.parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"image": ["a"], "n": [1]}), tmp_path / "per_image.parquet")
    with pytest.raises(SemsegError, match=r"has no \*\.parquet or data/\*\.parquet"):
        opened(tmp_path)
