"""Images and masks in memory: every kind of object gives the same dataset."""

from ast import literal_eval
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from worlds import NAMES, random_pairs, write_dataset

from semseg_cli import Data
from semseg_cli.data.dataset import open_dataset
from semseg_cli.data.preprocessing import Preprocessing, class_tensor, image_tensor
from semseg_cli.errors import SemsegError, UsageError

SEEN = Preprocessing()
PAIRS = random_pairs(3, 5)
SQUARE = [(image[:40, :40], mask[:40, :40]) for image, mask in PAIRS]  # a batch has one size


def tensors(pairs: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [
        (torch.from_numpy(image.copy()).permute(2, 0, 1), torch.from_numpy(mask.copy()).long())
        for image, mask in pairs
    ]


KINDS = {
    "arrays": lambda: SQUARE,
    "pictures": lambda: [(Image.fromarray(a), Image.fromarray(b)) for a, b in SQUARE],
    "tensors": lambda: tensors(SQUARE),
    "floats": lambda: [(image.float() / 255, mask[None]) for image, mask in tensors(SQUARE)],
    "loader": lambda: DataLoader(tensors(SQUARE), batch_size=2),  # type: ignore[arg-type]
    "mappings": lambda: DataLoader(
        [{"image": a, "label": b} for a, b in tensors(SQUARE)],  # type: ignore[arg-type]
        batch_size=2,
    ),
    "unbatched": lambda: DataLoader(tensors(SQUARE), batch_size=None),  # type: ignore[arg-type]
    "generator": lambda: (pair for pair in SQUARE),
}


def opened(data: Data, n_images: int | None = None) -> Any:
    return data.open("validation", 14, SEEN, n_images)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_object_is_read_as_its_files_are(kind: str, tmp_path: Any) -> None:
    root = write_dataset(tmp_path, {"validation": SQUARE})
    files: Any = open_dataset(root, "validation", 14, preprocessing=SEEN)
    held = opened(Data(NAMES, validation=cast(Any, KINDS[kind])()))
    assert held.class_names == files.class_names[:1] + NAMES[1:]
    assert len(held) == len(files)
    for one, other in zip(held, files, strict=True):
        assert torch.equal(one.image_chw, other.image_chw)
        assert torch.equal(one.labels_t, other.labels_t)
        assert torch.equal(one.share_t, other.share_t)


def test_prepared_images_are_what_the_network_sees() -> None:
    pictures = [(Image.fromarray(a), Image.fromarray(b)) for a, b in PAIRS]
    usual = opened(Data(NAMES, validation=pictures))
    seen = [
        (image_tensor(image, SEEN), class_tensor(mask, usual.labels, SEEN))
        for image, mask in pictures
    ]
    prepared = Data(NAMES, validation=DataLoader(seen, batch_size=2), prepared=True)  # type: ignore[arg-type]
    for n_images in (None, 2):
        for one, other in zip(
            opened(prepared, n_images),
            opened(Data(NAMES, validation=pictures), n_images),
            strict=True,
        ):
            assert torch.equal(one.image_chw, other.image_chw)
            assert torch.equal(one.labels_t, other.labels_t)
            assert (one.position, one.index) == (other.position, other.index)
    assert opened(prepared).subset([1])[0].index == 1
    for dataset in (opened(prepared, 2), opened(Data(NAMES, validation=pictures), 2)):
        for position, sample in enumerate(dataset):
            assert torch.equal(dataset.image(position), sample.image_chw)
    with pytest.raises(SemsegError, match="224 x 224 pixels, the ViT takes 28 x 28"):
        prepared.open("validation", 14, Preprocessing(resize=(28, 28), crop=(28, 28)), None)


def test_numbers_of_classes_may_begin_anywhere_and_void_is_none() -> None:
    mask = np.array([[0, 1, 2], [255, -1, 0]])
    image = np.zeros((2, 3, 3), np.uint8)
    data = Data(["a", "b", "c"], validation=[(image, mask)], first_class=0)
    kept = data.splits["validation"][0].mask
    assert np.asarray(Image.open(kept.open())).tolist() == [[1, 2, 3], [0, 0, 1]]


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({}, "give first_class, all class_names, or ignored=(0, 255, -1, 11)"),
        ({"first_class": 0}, "give all class_names, or ignored=(255, -1, 11)"),
        ({"first_class": 0, "ignored": ()}, "give all class_names, or ignored=(11,)"),
    ],
)
def test_a_number_that_is_no_class_is_met_with_what_is_left_to_give(
    given: dict[str, Any], left: str
) -> None:
    pair = (np.zeros((1, 2, 3), np.uint8), np.array([[1, 11]]))
    with pytest.raises(UsageError, match="holds 11, and classes are") as raised:
        Data(["a", "b"], validation=[pair], **given)
    assert str(raised.value).endswith(left)
    told = Data(
        ["a", "b"], validation=[pair], **{**given, "ignored": literal_eval(left.split("=")[1])}
    )
    assert len(told.splits["validation"]) == 1


def test_more_classes_than_8_bits_hold() -> None:
    mask = np.full((30, 30), 299)
    data = Data(300, validation=[(np.zeros((30, 30, 3), np.uint8), mask)])
    assert int(opened(data)[0].labels_t[0]) == 299


def test_turned_photos_are_turned_as_files_are(tmp_path: Any) -> None:
    image, mask = PAIRS[0]
    exif = Image.Exif()
    exif[0x0112] = 6
    root = write_dataset(tmp_path, {"validation": [(image, mask)]})
    (path,) = (root / "images" / "validation").iterdir()
    Image.fromarray(image).save(path, exif=exif)
    file = open_dataset(root, "validation", 14, preprocessing=SEEN)[0]
    held = opened(Data(NAMES, validation=[(Image.open(path), Image.fromarray(mask))]))[0]
    assert torch.equal(held.image_chw, file.image_chw)
    assert torch.equal(held.labels_t, file.labels_t)


def test_contents_tell_images_apart_and_names_find_them() -> None:
    data = Data(
        NAMES,
        training=PAIRS,
        validation=[{"image": a, "mask": b, "name": f"at {i}"} for i, (a, b) in enumerate(PAIRS)],
    )
    held = opened(data)
    assert held.names == ("at 0", "at 1", "at 2")
    assert len(set(held.contents)) == 3
    assert data.open("training", 14, SEEN, None).contents == held.contents
    assert data.open("training", 14, SEEN, 2).names == ("000000", "000001")
    assert "3 training, 3 validation" in repr(data)


IMAGE, MASK = PAIRS[0]


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([], "holds no images"),
        ([(IMAGE, MASK, MASK)], "Image 0 of validation is a tuple: give"),
        ([{"picture": IMAGE, "mask": MASK}], "has the keys picture, mask: it needs an image"),
        ([(IMAGE, MASK[1:])], "they must have the same size"),
        ([(IMAGE, MASK + 3)], r"mask of image 0 of validation holds \d, and classes are 1 to 5"),
        ([(IMAGE, MASK / 1.0)], "give whole numbers"),
        ([(IMAGE, Image.fromarray(IMAGE))], "has mode 'RGB': give one number a pixel"),
        ([(IMAGE.astype(float), MASK)], r"floating-point from .* to .*, expected 0 to 1"),
        ([(IMAGE.astype(np.int32), MASK)], "is int32: give uint8"),
        ([(IMAGE[..., :2], MASK)], "has shape"),
        (DataLoader(SQUARE, shuffle=True), "shuffles"),  # type: ignore[arg-type]
        ("folder", "validation is a str"),
    ],
)
def test_what_cannot_be_used_is_said(pairs: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Data(NAMES, validation=pairs)


def test_data_has_classes_and_images() -> None:
    with pytest.raises(UsageError, match="each class once"):
        Data(["wall", "wall"], validation=PAIRS)
    with pytest.raises(UsageError, match="has no images"):
        Data(NAMES)
    with pytest.raises(UsageError, match="prepared image is floating-point"):
        Data(NAMES, validation=PAIRS, prepared=True)
    with pytest.raises(SemsegError, match="no split 'training', only validation"):
        Data(NAMES, validation=PAIRS).open("training", 14, SEEN, None)
