"""Layouts: each in its real structure, recognised and read; each wrong one in a sentence."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from layouts import CASES, halves, palette, photo, save
from PIL import Image

from semseg_cli.data.dataset import Dataset, open_dataset
from semseg_cli.data.layouts import LAYOUTS, check_layout, find_layout
from semseg_cli.errors import SemsegError, UsageError
from semseg_cli.settings.inputs import DataFormat

FORMATS = [layout.name for layout in LAYOUTS]
Spoil = Callable[[Path], object]


def opened(root: Path, split: str = "validation", **kwargs: object) -> Dataset:
    return open_dataset(root, split, 32, **kwargs)  # type: ignore[arg-type]


def sides(dataset: Dataset) -> tuple[tuple[int, int], ...]:
    """The label on the left and on the right of each image."""
    grids = [dataset[i].labels_t.reshape(7, 7) for i in range(len(dataset))]
    for grid in grids:
        assert (grid[:, 0] == grid[0, 0]).all()
        assert (grid[:, -1] == grid[0, -1]).all()
    return tuple((int(grid[0, 0]), int(grid[0, -1])) for grid in grids)


# --- right ones -----------------------------------------------------------------------------------


def test_the_option_offers_every_layout() -> None:
    assert sorted(get_args(DataFormat)) == sorted(["auto", *FORMATS])
    assert sorted(CASES) == sorted(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("data_format", ["auto", "named"])
def test_a_layout_is_read_as_published(name: str, data_format: str, tmp_path: Path) -> None:
    case = CASES[name]
    root = case.write(tmp_path / "data")
    dataset = opened(root, data_format="auto" if data_format == "auto" else name)
    assert (dataset.layout, dataset.split) == (name, "validation")
    assert dataset.names == case.names
    assert len(dataset.class_names) == case.n_classes
    assert (dataset.class_names[0], dataset.class_names[-1]) == (case.first_class, case.last_class)
    assert sides(dataset) == case.labels
    assert all(file.read_bytes() for file in (*dataset.images, *dataset.masks))


@pytest.mark.parametrize("name", FORMATS)
def test_a_split_has_one_name_however_it_is_called(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    root = case.write(tmp_path / "data")
    by_setting, by_layout = opened(root, "validation"), opened(root, case.own_split)
    assert by_setting.split == by_layout.split == "validation"
    assert by_setting.images == by_layout.images
    assert by_setting.digest == by_layout.digest
    assert opened(root, "training").digest != by_setting.digest


@pytest.mark.parametrize("name", FORMATS)
def test_a_wrong_split_is_told(name: str, tmp_path: Path) -> None:
    root = CASES[name].write(tmp_path / "data")
    with pytest.raises(SemsegError, match=r"has no .*'tset'.*--imgs-split"):
        check_layout(root, "tset")


@pytest.mark.parametrize("name", FORMATS)
def test_the_root_is_found_one_level_up_and_down(name: str, tmp_path: Path) -> None:
    if name == "parquet":
        pytest.skip("every folder with its files is a root")
    root = CASES[name].write(tmp_path / "outer" / "data")
    inner = next(path for path in sorted(root.iterdir()) if path.is_dir())
    for place in (root.parent, inner):
        with pytest.raises(SemsegError, match=f"did you mean {root}\\?$"):
            find_layout(place)


@pytest.mark.parametrize("name", FORMATS)
def test_a_folder_in_another_layout_than_the_named_one_is_told(name: str, tmp_path: Path) -> None:
    other = next(layout for layout in LAYOUTS if layout.name not in (name, "ade20k"))
    root = CASES[name].write(tmp_path / "data")
    with pytest.raises(SemsegError, match="--data-format") as caught:
        find_layout(root, other.name)
    assert f"has no {other.needs} ({other.name})" in str(caught.value)


def test_a_folder_in_no_layout_names_what_each_needs(tmp_path: Path) -> None:
    with pytest.raises(SemsegError) as caught:
        find_layout(tmp_path)
    for layout in LAYOUTS:
        assert f"no {layout.needs} ({layout.name})" in str(caught.value)


def test_images_keep_their_index_in_a_subset_of_any_layout(tmp_path: Path) -> None:
    root = CASES["voc2012"].write(tmp_path)
    assert opened(root, "trainval", n_images=2).indices == (0, 2)
    assert opened(root, "trainval", n_images=2).names == ("2007_000032", "2007_000039")


# --- wrong files, layout by layout --------------------------------------------------------------


def remove(path: str) -> Spoil:
    return lambda root: (root / path).unlink()


def number(path: str, value: int) -> Spoil:
    return lambda root: Image.fromarray(halves(value, value)).save(root / path)


def text(path: str, content: str) -> Spoil:
    return lambda root: (root / path).write_text(content)


def only_label_ids(root: Path) -> None:
    for path in root.glob("gtFine/*/*/*_labelTrainIds.png"):
        path.unlink()


def json_only(root: Path) -> None:
    shutil.rmtree(root / "annotations" / "val2017")


FINE = "gtFine/val/munster/munster_000000_000294_gtFine_labelTrainIds.png"
WRONG: dict[str, tuple[str, Spoil, str]] = {
    "VOC without mask": (
        "voc2012", remove("SegmentationClass/2007_000033.png"),
        r"JPEGImages/2007_000033\.jpg has no mask \(1 such files\): every name in "
        r"ImageSets/Segmentation/val\.txt",
    ),
    "VOC without image": (
        "voc2012", remove("JPEGImages/2007_000033.jpg"), r"2007_000033\.png has no image"
    ),
    "VOC with a name of nothing": (
        "voc2012", text("ImageSets/Segmentation/val.txt", "2007_000033\n2000_1\n"),
        "2000_1 has neither image nor mask",
    ),
    "VOC with an empty list": (
        "voc2012", text("ImageSets/Segmentation/val.txt", "\n"), "The split 'validation' of"
    ),
    "VOC with a number of no class": (
        "voc2012", number("SegmentationClass/2007_000033.png", 21),
        r"holds label 21, but there are 20 classes \(1 to 20\)",
    ),
    "Cityscapes without train ids": (
        "cityscapes", only_label_ids, "csCreateTrainIdLabelImgs"
    ),
    "Cityscapes without mask": (
        "cityscapes", remove(FINE), r"munster_000000_000294_leftImg8bit\.png has no mask"
    ),
    "Cityscapes with label ids": (
        "cityscapes", number(FINE, 26),
        r"holds label 26, but there are 19 classes \(0 to 18\): check .* train ids",
    ),
    "COCO-Stuff without maps": ("coco-stuff", json_only, "annotations has no split 'val2017'"),
    "COCO-Stuff without mask": (
        "coco-stuff", remove("annotations/val2017/000000000139.png"), r"139\.jpg has no mask"
    ),
    "COCO-Stuff with a number of no class": (
        "coco-stuff", number("annotations/val2017/000000000139.png", 182),
        r"holds label 182, but there are 182 classes \(0 to 181\)",
    ),
    "COCO-Stuff with other names": (
        "coco-stuff", text("labels.txt", "0: unlabeled\n1: person\n"), "182 lines `id: name`"
    ),
    "COCO-Stuff with names of no form": (
        "coco-stuff", text("labels.txt", "person\n"), "has the line 'person'"
    ),
    "own without mask": ("toml", remove("gt/val/b/0001_label.png"), r"0001_rgb\.png has no mask"),
    "own without names": ("toml", remove("names.txt"), r"names\.txt cannot be read"),
    "own with a name twice": ("toml", text("names.txt", "a\nb\na\n"), "names 'a' twice"),
    "own with a number of no class": (
        "toml", number("gt/val/b/0001_label.png", 3), r"holds label 3.*check .*dataset\.toml"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "spoil", "sentence"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_file_is_told(name: str, spoil: Spoil, sentence: str, tmp_path: Path) -> None:
    root = CASES[name].write(tmp_path / "data")
    spoil(root)
    with pytest.raises(SemsegError, match=sentence):
        sides(opened(root))


# --- what labels mean -----------------------------------------------------------------------------


def test_background_becomes_a_class_on_request(tmp_path: Path) -> None:
    root = CASES["voc2012"].write(tmp_path)
    dataset = opened(root, background=True)
    assert dataset.class_names[:2] == ("background", "aeroplane")
    assert sides(dataset) == ((0, 21), (1, 2))  # void stays void
    assert dataset.digest != opened(root).digest


@pytest.mark.parametrize("name", ["cityscapes", "coco-stuff"])
def test_background_is_refused_where_0_is_a_class(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--background is given, but 0 is a class"):
        opened(CASES[name].write(tmp_path), background=True)


LABELS = [*(f"thing {i}" for i in range(181)), "wood"]


@pytest.mark.parametrize(
    "lines",
    [
        ["0: unlabeled", *(f"{i}: {name}" for i, name in enumerate(LABELS, 1))],
        [*(f"{i}: {name}" for i, name in enumerate(LABELS)), "255: unlabeled"],
    ],
    ids=["as published", "as the maps count"],
)
def test_coco_stuff_names_belong_to_the_maps(lines: list[str], tmp_path: Path) -> None:
    root = CASES["coco-stuff"].write(tmp_path)
    (root / "labels.txt").write_text("\n".join(lines))
    dataset = opened(root)
    assert dataset.class_names == tuple(LABELS)
    assert sides(dataset)[0] == (1, 182)  # numbers 0 and 181: thing 0 and wood


def test_coco_stuff_maps_may_be_in_a_folder_of_the_archives_name(tmp_path: Path) -> None:
    root = CASES["coco-stuff"].write(tmp_path)
    (root / "annotations").rename(root / "stuffthingmaps")
    assert sides(opened(root)) == CASES["coco-stuff"].labels


def test_coco_stuff_leaves_converted_maps_alone(tmp_path: Path) -> None:
    root = CASES["coco-stuff"].write(tmp_path)
    folder = root / "annotations" / "val2017"
    save(Image.fromarray(halves(3, 3)), folder / "000000000139_labelTrainIds.png")
    assert opened(root).names == CASES["coco-stuff"].names


# --- a description in TOML ------------------------------------------------------------------------


def described(root: Path, **keys: str) -> Path:
    """A dataset.toml with these keys; values as TOML."""
    given = {"images": "'rgb/{split}/*/*_rgb.png'", "masks": "'gt/{split}/*/*.png'"}
    given |= {"image_suffix": "'_rgb'", "mask_suffix": "'_label'", "classes": "['sea', 'land']"}
    given |= {"splits": "{ validation = 'val' }", **keys}
    text = "".join(f"{key} = {value}\n" for key, value in given.items() if value)
    (root / "dataset.toml").write_text(text)
    return root / "dataset.toml"


@pytest.fixture
def coast(tmp_path: Path) -> Path:
    return CASES["toml"].write(tmp_path / "coast")


def test_the_file_itself_may_be_the_root(coast: Path) -> None:
    moved = (coast / "dataset.toml").rename(coast / "other.toml")
    dataset = opened(moved)
    assert sides(dataset) == CASES["toml"].labels
    assert (dataset.title, dataset.root) == ("coast", moved)


def test_a_dataset_without_a_name_is_called_as_its_folder(coast: Path) -> None:
    described(coast)
    assert opened(coast).title == "coast"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, (0, 2)),
        ({"zero": "'class'", "classes": "['a', 'b', 'c']"}, (1, 3)),
        ({"zero": "'class'", "ignore": "2", "classes": "['a', 'b']"}, (1, 0)),
        ({"offset": "-1", "classes": "['a']"}, (0, 1)),
        ({"offset": "3", "classes": "['a', 'b', 'c', 'd', 'e']"}, (0, 5)),
        ({"ignore": "[2, 255]", "classes": "['a']"}, (0, 0)),
        ({"classes": ""}, (0, 2)),
    ],
)
def test_numbers_mean_what_the_file_says(
    keys: dict[str, str], expected: tuple[int, int], coast: Path
) -> None:
    described(coast, **keys)
    assert sides(opened(coast, n_classes=2)) == (expected, expected)


def test_the_digest_covers_what_labels_mean(coast: Path) -> None:
    digests = set()
    for keys in ({}, {"ignore": "9"}, {"classes": "['sea', 'lake']"}, {"zero": "'class'"}):
        described(coast, **keys)
        digests.add(opened(coast).digest)
    assert len(digests) == 4


def test_files_beside_each_other_are_told_apart_by_their_suffixes(tmp_path: Path) -> None:
    for name in ("x", "y"):
        save(photo(1), tmp_path / f"{name}.png")
        save(Image.fromarray(halves(1, 2)), tmp_path / f"{name}_gt.png")
    described(
        tmp_path, images="'[xy].png'", masks="'*.png'", image_suffix="", mask_suffix="'_gt'",
        splits="",
    )  # fmt: skip
    dataset = opened(tmp_path, "all")
    assert (dataset.names, sides(dataset)) == (("x", "y"), ((1, 2), (1, 2)))
    with pytest.raises(SemsegError, match="has no split 'validation', only all"):
        opened(tmp_path)


def test_masks_of_all_splits_may_lie_together(tmp_path: Path) -> None:
    for split, name in (("train", "x"), ("val", "y")):
        save(photo(1), tmp_path / split / f"{name}.jpg")
        save(Image.fromarray(halves(1, 2)), tmp_path / "gt" / f"{name}.png")
    described(
        tmp_path, images="'{split}/*.jpg'", masks="'gt/*.png'", image_suffix="", mask_suffix=""
    )
    assert opened(tmp_path).names == ("y",)


@pytest.mark.parametrize("name", FORMATS)
def test_hidden_folders_and_their_files_are_no_images(name: str, tmp_path: Path) -> None:
    root = CASES[name].write(tmp_path / "data")
    before = opened(root).names
    for path in [*root.rglob("*.png"), *root.rglob("*.jpg")]:
        hidden = path.parent / ".ipynb_checkpoints"
        hidden.mkdir(exist_ok=True)
        shutil.copy(path, hidden / path.name)
    assert opened(root).names == before


def test_a_name_that_is_no_utf_8_is_told(tmp_path: Path) -> None:
    root = CASES["ade20k"].write(tmp_path / "data")
    path = next(root.glob("images/validation/*"))
    shutil.copy(path, path.with_name("caf\udce9.jpg"))
    with pytest.raises(SemsegError, match=r"caf\\udce9\.jpg is not UTF-8: rename the file"):
        opened(root)


def test_a_split_name_is_no_pattern(tmp_path: Path) -> None:
    for part in ("rgb", "gt"):
        save(Image.fromarray(halves(1, 2)), tmp_path / part / "v[1]" / "x_1.png")
        save(Image.fromarray(halves(1, 2)), tmp_path / part / "v1" / "y_1.png")
    described(
        tmp_path, images="'rgb/{split}/*.png'", masks="'gt/{split}/*.png'", image_suffix="",
        mask_suffix="",
    )  # fmt: skip
    assert opened(tmp_path, "v[1]").names == ("x_1",)


WRONG_KEYS = {
    "unknown key": ({"imags": "'x'"}, "has the unknown key 'imags': did you mean images"),
    "no images": ({"images": ""}, "has no 'images': give a glob"),
    "absolute": ({"masks": "'/gt/*.png'"}, "masks = '/gt/[*].png': expected a glob relative"),
    "ignore": ({"ignore": "-1"}, "ignore = -1: expected a number from 0 to 65535"),
    "ignore text": ({"ignore": "'255'"}, "ignore = '255': expected a number"),
    "zero": ({"zero": "'yes'"}, "zero = 'yes': expected 'unlabelled' or 'class'"),
    "offset": ({"offset": "true"}, "offset = True: expected a whole number"),
    "classes": ({"classes": "[1]"}, r"classes = \[1\]: expected a list of names"),
    "no classes": ({"classes": "[]"}, "has no class names"),
    "splits": ({"splits": "'val'"}, "splits = 'val': expected a table"),
    "suffix": ({"image_suffix": "3"}, "image_suffix = 3: expected a string"),
    "no TOML": ({"images": "x"}, "cannot be read"),
    "ignored class": ({"ignore": "2"}, "ignores 2, which is also the class 'land'"),
    "no match": ({"images": "'rgb/{split}/*.bmp'"}, "has no images of the split 'val'"),
    "two of a name": ({"masks": "'gt/{split}/*/*.p*'"}, "share a name: keep one"),
    "too many": ({"offset": "-65534"}, "16-bit masks hold 65535 at most"),
    "ids without number": ({"classes": ""}, "has no classes: give a list"),
}


@pytest.mark.parametrize(("keys", "sentence"), WRONG_KEYS.values(), ids=WRONG_KEYS.keys())
def test_a_wrong_description_is_told(keys: dict[str, str], sentence: str, coast: Path) -> None:
    described(coast, **keys)
    (coast / "gt/val/a/0001_label.pgm").write_text("")
    with pytest.raises(SemsegError, match=sentence):
        opened(coast)


def test_background_needs_classes_from_1(coast: Path) -> None:
    described(coast, offset="-1", classes="['a']")
    with pytest.raises(UsageError, match="begin at 2: it needs classes from 1"):
        opened(coast, background=True)


# --- more classes than 8 bits hold ----------------------------------------------------------------


def many(root: Path, numbers: np.ndarray, n_classes: int) -> Path:
    save(photo(1), root / "rgb/val/a/0001_rgb.png")
    save(Image.fromarray(numbers), root / "gt/val/a/0001_label.png")
    names = ", ".join(f"'c{i + 1}'" for i in range(n_classes))
    return described(root, classes=f"[{names}]", ignore="65535")


def test_sixteen_bit_masks_hold_more_than_255_classes(tmp_path: Path) -> None:
    root = many(tmp_path, halves(65535, 3000, np.uint16), 3000)
    dataset = opened(root)
    assert sides(dataset) == ((0, 3000),)
    assert dataset[0].share_t.max() == 1.0


def test_eight_bit_masks_do_for_many_classes_too(tmp_path: Path) -> None:
    assert sides(opened(many(tmp_path, halves(7, 255), 300))) == ((7, 255),)


def test_a_sixteen_bit_number_of_no_class_is_told(tmp_path: Path) -> None:
    root = many(tmp_path, halves(301, 256, np.uint16), 300)
    with pytest.raises(SemsegError, match="holds label 301, but there are 300 classes"):
        sides(opened(root))


def test_sixteen_bits_are_refused_where_8_suffice(coast: Path) -> None:
    path = coast / "gt/val/a/0001_label.png"
    Image.fromarray(halves(1, 2, np.uint16)).save(path)
    with pytest.raises(SemsegError, match=r"has mode 'I;16', expected an 8-bit one"):
        opened(coast)


def test_an_ade20k_class_file_may_list_more_than_255(tmp_path: Path) -> None:
    root = CASES["ade20k"].write(tmp_path)
    rows = [f"{i}\t0\t0\t0\tclass {i}" for i in range(1, 301)]
    (root / "objectInfo150.txt").write_text("Idx\tRatio\tTrain\tVal\tName\n" + "\n".join(rows))
    mask = root / "annotations/validation/ADE_val_00000001.png"
    Image.fromarray(halves(0, 300, np.uint16)).save(mask)
    assert sides(opened(root)) == ((0, 300), (0, 3))


def test_void_is_label_0_and_shares_are_of_all_pixels(coast: Path) -> None:
    numbers = np.full((256, 256), 255, np.uint8)
    numbers[:, 16:36] = 2  # 20 of the 32 columns of the first patches
    numbers[:, 48:64] = 1  # 16 of the next, a tie with void
    for scene in "ab":
        Image.new("RGB", (256, 256)).save(coast / f"rgb/val/{scene}/0001_rgb.png")
        palette(numbers).save(coast / f"gt/val/{scene}/0001_label.png")
    sample = opened(coast)[0]
    assert sample.labels_t.reshape(7, 7)[0].tolist() == [2, 0, 0, 0, 0, 0, 0]
    assert sample.share_t.reshape(7, 7)[0].tolist() == [20 / 32, 0.5, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("name", "file"),
    [("ade20k", "objectInfo150.txt"), ("coco-stuff", "labels.txt"), ("parquet", "classes.txt")],
)
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("nowhere", path)])
def test_class_names_that_cannot_be_read_are_not_passed_over(
    name: str, file: str, make: Spoil, tmp_path: Path
) -> None:
    root = CASES[name].write(tmp_path / "data")
    (root / file).unlink(missing_ok=True)
    make(root / file)
    with pytest.raises(SemsegError, match=f"{file} cannot be read"):
        opened(root, n_classes=3)
