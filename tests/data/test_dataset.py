"""Folders to batches: labels by the definition, and every wrong layout in a sentence."""

import multiprocessing
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from worlds import FIRST_NAMES, NAMES, World, random_pairs, write_dataset

from semseg_cli.data.batches import Sample
from semseg_cli.data.dataset import Dataset, even_subset, open_dataset
from semseg_cli.data.layouts import check_layout
from semseg_cli.data.loader import Loader
from semseg_cli.data.patch_labels import get_patch_i, get_patch_mask, patch_modes, patch_pixels
from semseg_cli.data.preprocessing import Preprocessing, image_tensor, label_tensor
from semseg_cli.errors import SemsegError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "ADE", {"validation": random_pairs(4, 5)})


def opened(folder: Path) -> Dataset:
    return open_dataset(folder, "validation", 32)


def read_all(folder: Path, n_workers: int = 0) -> None:
    for _ in Loader(opened(folder), batch_size=2, n_workers=n_workers):
        pass


# --- labels of patches ----------------------------------------------------------------------------


@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 12), st.integers(1, 4))
def test_patch_modes_equal_those_of_a_loop(seed: int, n: int, n_pixels: int, n_labels: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, n_labels, (n, n_pixels), generator=draw).to(torch.uint8)
    modes, shares = patch_modes(pixels)
    for row, mode, share in zip(pixels.tolist(), modes.tolist(), shares.tolist(), strict=True):
        by_label = {label: row.count(label) for label in row}
        most = max(by_label.values())
        assert mode == min(label for label, n in by_label.items() if n == most)
        assert share == most / n_pixels


def test_ties_go_to_the_smallest_label() -> None:
    pixels = torch.tensor([[9, 3, 9, 3], [255, 0, 255, 0], [7, 7, 7, 2]], dtype=torch.uint8)
    modes, shares = patch_modes(pixels)
    assert modes.tolist() == [3, 0, 7]
    assert shares.tolist() == [0.5, 0.5, 0.75]


@pytest.mark.parametrize(
    ("n_pixels", "n_agree", "threshold", "passes"),
    [(10, 9, 0.9, True), (10, 8, 0.9, False), (10, 7, 0.7, True), (196, 177, 0.9, True),
     (196, 176, 0.9, False), (4, 2, 0.5, True), (4, 4, 1.0, True), (3, 1, 0.0, True)],
)  # fmt: skip
def test_the_patch_mask_passes_equality(
    n_pixels: int, n_agree: int, threshold: float, passes: bool
) -> None:
    row = [1] * n_agree + [2 + i for i in range(n_pixels - n_agree)]
    pixels = torch.tensor([row], dtype=torch.int64).remainder(251).to(torch.uint8)
    assert get_patch_mask(pixels, threshold).tolist() == [passes]


def test_patches_are_cut_in_row_major_order() -> None:
    labels = torch.arange(24, dtype=torch.uint8).reshape(4, 6)
    assert patch_pixels(labels, 2).tolist() == [
        [0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11],
        [12, 13, 18, 19], [14, 15, 20, 21], [16, 17, 22, 23],
    ]  # fmt: skip


def test_global_patch_indices_are_row_major() -> None:
    images = torch.tensor([0, 3])[:, None, None].expand(2, 2, 2)
    assert get_patch_i(images, 4).tolist() == [[[0, 1], [2, 3]], [[12, 13], [14, 15]]]


@pytest.mark.parametrize(("shape", "n"), [((1, 2, 3), 6), ((1, 2, 2), 9), ((1, 3, 3), 4)])
def test_a_grid_that_is_not_the_square_one_is_refused(shape: tuple[int, ...], n: int) -> None:
    with pytest.raises(ValueError, match=f"{shape[1]} x {shape[2]}.*{n} patches"):
        get_patch_i(torch.zeros(shape, dtype=torch.int64), n)


# --- pixels --------------------------------------------------------------------------------------


def test_images_are_resized_without_aspect_cropped_and_normalised() -> None:
    picture = Image.fromarray(np.full((30, 90, 3), (255, 0, 51), dtype=np.uint8))
    tensor = image_tensor(picture, Preprocessing())
    assert tensor.shape == (3, 224, 224)
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225]
    assert tensor[:, 100, 100].tolist() == pytest.approx(expected, abs=1e-5)
    assert tensor.std(dim=(1, 2)).max() < 1e-6


def test_masks_are_cut_as_the_images_are_and_keep_their_labels() -> None:
    mask = np.zeros((256, 256), dtype=np.uint8)
    mask[16, 16], mask[239, 239], mask[15, 15] = 1, 2, 3
    labels = label_tensor(Image.fromarray(mask), Preprocessing())
    assert labels.shape == (224, 224)
    assert (int(labels[0, 0]), int(labels[-1, -1])) == (1, 2)
    assert sorted(labels.unique().tolist()) == [0, 1, 2]


def test_a_palette_mask_holds_ids_not_colours(folder: Path) -> None:
    path = next((folder / "annotations" / "validation").iterdir())
    before = opened(folder)[0].labels_t
    with Image.open(path) as mask:
        ids = np.asarray(mask).copy()
    as_palette = Image.fromarray(ids).convert("P")
    as_palette.putdata(ids.flatten().tolist())
    as_palette.save(path)
    with Image.open(path) as mask:
        assert mask.mode == "P"
    assert torch.equal(opened(folder)[0].labels_t, before)


def test_a_grey_image_is_read_as_rgb(folder: Path) -> None:
    path = next((folder / "images" / "validation").iterdir())
    with Image.open(path) as picture:
        picture.convert("L").save(path)
    image = opened(folder)[0].image_chw
    assert image.shape == (3, 224, 224)


# --- folders -------------------------------------------------------------------------------------


def test_images_and_masks_are_paired_by_stem(tmp_path: Path) -> None:
    root = write_dataset(tmp_path, {"validation": random_pairs(3, 1)})
    for path in (root / "images" / "validation").iterdir():
        with Image.open(path) as picture:
            picture.save(path.with_suffix(".jpg"))
        path.unlink()
    (root / "images" / "validation" / ".hidden.jpg").write_text("no picture")
    (root / "images" / "validation" / "notes.txt").write_text("no picture")
    dataset = opened(root)
    images = [Path(str(image)) for image in dataset.images]
    assert [p.stem for p in images] == [Path(str(mask)).stem for mask in dataset.masks]
    assert {p.suffix for p in images} == {".jpg"}
    assert len(dataset) == 3


def test_classes_have_their_first_synonym(folder: Path) -> None:
    assert opened(folder).class_names == FIRST_NAMES
    assert any("," in name for name in NAMES)


def test_without_a_class_file_ids_are_names(folder: Path) -> None:
    (folder / "objectInfo150.txt").unlink()
    dataset = open_dataset(folder, "validation", 32, n_classes=3)
    assert dataset.class_names == ("1", "2", "3")
    with pytest.raises(SemsegError, match=r"has no objectInfo150\.txt"):
        opened(folder)


@pytest.mark.parametrize(
    "text",
    ["Idx\tName\n1\twall\n3\tsky\n", "Idx\tName\n", "Idx\tName\none\twall\n", "Idx\tName\nwall\n"],
)
def test_a_bad_class_file_is_refused(folder: Path, text: str) -> None:
    (folder / "objectInfo150.txt").write_text(text)
    with pytest.raises(SemsegError, match=r"objectInfo150\.txt"):
        opened(folder)


def test_a_folder_one_level_too_deep_is_refused_with_the_right_one(folder: Path) -> None:
    for deep in (folder / "images", folder / "images" / "validation"):
        with pytest.raises(SemsegError, match=re.escape(f"did you mean {folder}?")):
            check_layout(deep, "validation")


def test_a_folder_one_level_too_shallow_is_refused_with_the_right_one(folder: Path) -> None:
    with pytest.raises(SemsegError, match=re.escape(f"did you mean {folder}?")):
        check_layout(folder.parent, "validation")


def _remove_mask(root: Path) -> None:
    (root / "annotations/validation/validation_0001.png").unlink()


def _remove_image(root: Path) -> None:
    (root / "images/validation/validation_0002.png").unlink()


def _resize_mask(root: Path) -> None:
    Image.new("L", (9, 9)).save(root / "annotations/validation/validation_0001.png")


def _colour_mask(root: Path) -> None:
    path = root / "annotations/validation/validation_0001.png"
    with Image.open(path) as mask:
        mask.convert("RGB").save(path)


def _wide_mask(root: Path) -> None:
    path = root / "annotations/validation/validation_0001.png"
    with Image.open(path) as mask:
        Image.fromarray(np.asarray(mask).astype(np.uint16)).save(path)


def _empty_split(root: Path) -> None:
    for part in ("images", "annotations"):
        for path in (root / part / "validation").iterdir():
            path.unlink()


def _no_split(root: Path) -> None:
    shutil.move(root / "images/validation", root / "images/val")


def _no_annotations(root: Path) -> None:
    shutil.rmtree(root / "annotations")


def _text_as_image(root: Path) -> None:
    (root / "images/validation/validation_0001.png").write_text("no picture")


def _same_stem(root: Path) -> None:
    Image.new("RGB", (9, 9)).save(root / "images/validation/validation_0001.jpg")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_remove_mask, r"images/validation/validation_0001\.png has no mask \(1 such"),
        (_remove_image, r"annotations/validation/validation_0002\.png has no image \(1 such"),
        (_resize_mask, r"validation_0001\.png is 9 x 9 pixels, its image \d+ x \d+"),
        (_colour_mask, r"validation_0001\.png has mode 'RGB'"),
        (_wide_mask, r"validation_0001\.png has mode 'I;16"),
        (_empty_split, "holds no images"),
        (_no_split, r"has no split 'validation', only val"),
        (_no_annotations, r"no images/ and annotations/"),
        (_text_as_image, r"validation_0001\.png.*cannot be read"),
        (_same_stem, "share a name"),
        (shutil.rmtree, "does not exist: check --imgs-root"),
    ],
)
def test_a_wrong_folder_is_refused_on_opening(
    folder: Path, spoil: Callable[[Path], None], sentence: str
) -> None:
    spoil(folder)
    with pytest.raises(SemsegError, match=sentence):
        opened(folder)


def _cut_jpeg(root: Path) -> None:
    path = root / "images/validation/validation_0002.png"
    with Image.open(path) as picture:
        noisy = Image.fromarray(
            np.random.default_rng(0).integers(0, 255, (*picture.size[::-1], 3), dtype=np.uint8)
        )
    path.unlink()
    cut = path.with_suffix(".jpg")
    noisy.save(cut)
    cut.write_bytes(cut.read_bytes()[:-400])


def _label_beyond(root: Path) -> None:
    path = root / "annotations/validation/validation_0002.png"
    with Image.open(path) as mask:
        ids = np.asarray(mask).copy()
    ids[0, 0] = 6
    Image.fromarray(ids).save(path)


@pytest.mark.parametrize("n_workers", [0, 2])
@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_cut_jpeg, r"^The image .*validation_0002\.jpg cannot be read"),
        (_label_beyond, r"^The mask .*validation_0002\.png holds label 6, but there are 5 classes"),
    ],
)
def test_a_bad_file_is_named_while_reading_also_through_workers(
    folder: Path, spoil: Callable[[Path], None], sentence: str, n_workers: int
) -> None:
    spoil(folder)
    others = multiprocessing.active_children()
    with pytest.raises(SemsegError, match=sentence) as caught:
        read_all(folder, n_workers)
    assert "Traceback" not in str(caught.value)
    assert set(multiprocessing.active_children()) <= {*others}  # nobody waits for workers then


class Orphaned(Dataset):
    """Images whose reading tells what a worker's thread tells when the parent has gone."""

    def __getitem__(self, position: int) -> Sample:
        sys.excepthook(EOFError, EOFError(), None)
        return super().__getitem__(position)


def test_a_worker_whose_parent_has_gone_prints_nothing(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    images = opened(folder)
    own = {field.name: getattr(images, field.name) for field in fields(images) if field.init}
    orphaned = Orphaned(**own)
    assert len(list(Loader(orphaned, batch_size=2, n_workers=1))) == 2
    assert capfd.readouterr().err == ""
    list(Loader(orphaned, batch_size=2))
    assert capfd.readouterr().err.startswith("EOFError")  # in this process it is told


def test_workers_of_an_abandoned_loop_end_with_it(folder: Path) -> None:
    others = multiprocessing.active_children()
    batches = iter(Loader(opened(folder), batch_size=1, n_workers=2))
    next(batches)
    workers = set(multiprocessing.active_children()) - {*others}
    del batches
    assert [worker.exitcode for worker in workers] == [0, 0]


# --- subsets and batches -----------------------------------------------------------------------


@given(st.integers(1, 300), st.integers(1, 400))
def test_a_subset_is_even(n_all: int, n_wanted: int) -> None:
    chosen = even_subset(n_all, n_wanted)
    assert len(chosen) == len(set(chosen)) == min(n_all, n_wanted)
    assert all(0 <= i < n_all for i in chosen)
    gaps = {b - a for a, b in pairwise(chosen)}
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_a_subset_by_hand() -> None:
    assert even_subset(10, 4) == [0, 2, 5, 7]
    assert even_subset(3, None) == [0, 1, 2]
    assert even_subset(0, 0) == []


def test_images_of_a_subset_keep_their_index_in_the_split(tiny_world: World) -> None:
    dataset = open_dataset(tiny_world.data, "validation", 32, n_images=2)
    batch = next(iter(Loader(dataset, batch_size=4)))
    assert batch.positions_b.tolist() == [0, 1]
    assert batch.indices_b.tolist() == [0, 3]
    whole = opened(tiny_world.data)
    assert torch.equal(batch.images_bchw[1], whole[3].image_chw)


@pytest.mark.parametrize(
    ("n_images", "given", "expected"),
    [(6, 128, 8), (101, 128, 8), (101, 4, 4), (2000, 128, 125), (20_000, 128, 128)],
)
def test_parts_are_of_so_many_images(
    tiny_world: World, n_images: int, given: int, expected: int
) -> None:
    loader = Loader(opened(tiny_world.data), given, positions=range(n_images))
    assert loader.in_parts(16, 8).batch_size == expected


@pytest.mark.parametrize("n_workers", [0, 2])
def test_batches_hold_the_same_images_whatever_their_size(
    tiny_world: World, n_workers: int
) -> None:
    dataset = opened(tiny_world.data)
    batches = list(Loader(dataset, batch_size=4, n_workers=n_workers))
    assert [len(b) for b in batches] == [4, 2]
    assert torch.cat([b.indices_b for b in batches]).tolist() == list(range(6))
    for i, sample in enumerate(dataset[i] for i in range(6)):
        batch, row = batches[i // 4], i % 4
        assert torch.equal(batch.images_bchw[row], sample.image_chw)
        assert torch.equal(batch.labels_bt[row], sample.labels_t)
        assert torch.equal(batch.share_bt[row], sample.share_t)


def test_the_digest_follows_contents_not_places(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "elsewhere" / "ADE"))
    assert opened(folder).digest == opened(copy).digest
    _label = copy / "annotations/validation/validation_0000.png"
    with Image.open(_label) as mask:
        changed = np.zeros_like(np.asarray(mask))
    Image.fromarray(changed).save(_label)
    assert opened(folder).digest != opened(copy).digest


def test_the_real_images_open(ade20k_sample: Path) -> None:
    dataset = open_dataset(ade20k_sample, "validation", 14)
    assert len(dataset) == 3
    assert len(dataset.class_names) == 150
    assert dataset.class_names[:2] == ("wall", "building")
    batch = next(iter(Loader(dataset, batch_size=3)))
    assert batch.labels_bt.shape == (3, 256)
    assert 1 < len(batch.labels_bt.unique()) < 100
