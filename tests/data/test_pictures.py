"""Pictures of every mode come out upright and in RGB; masks keep their numbers."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from semseg_cli.data.label_map import LabelMap
from semseg_cli.data.pictures import check_pair, read_image, read_pair
from semseg_cli.errors import SemsegError

LABELS = LabelMap(("a", "b", "c"), ignored=(0,))
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
PHOTO = Image.fromarray(PIXELS)
NUMBERS = np.arange(48, dtype=np.uint8).reshape(6, 8) % 4


def read(
    folder: Path, picture: Image.Image, numbers: np.ndarray = NUMBERS, suffix: str = "png"
) -> tuple[np.ndarray, np.ndarray]:
    picture.save(folder / f"image.{suffix}")
    return reread(folder, numbers, suffix)


def reread(
    folder: Path, numbers: np.ndarray = NUMBERS, suffix: str = "png"
) -> tuple[np.ndarray, np.ndarray]:
    Image.fromarray(numbers).save(folder / "mask.png")
    paths = folder / f"image.{suffix}", folder / "mask.png"
    check_pair(*paths, LABELS)
    image, mask = read_pair(*paths, LABELS)
    assert image.mode == "RGB"
    assert read_image(paths[0]) == image
    return np.asarray(image), np.asarray(mask)


def png16(folder: Path, pixels: np.ndarray) -> None:
    """A 16-bit RGB PNG by hand: Pillow writes none."""
    height, width, _ = pixels.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (folder / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    grey = PHOTO.convert("L")
    image, _ = read(tmp_path, grey)
    assert (image == np.asarray(grey)[..., None]).all()


def test_two_colours_become_black_and_white(tmp_path: Path) -> None:
    image, _ = read(tmp_path, PHOTO.convert("1"))
    assert set(image.ravel().tolist()) == {0, 255}


def test_a_palette_image_has_its_colours(tmp_path: Path) -> None:
    indexed = PHOTO.quantize(256)
    image, _ = read(tmp_path, indexed)
    assert (image == np.asarray(indexed.convert("RGB"))).all()


def test_transparency_is_dropped(tmp_path: Path) -> None:
    indexed = PHOTO.quantize(16)
    indexed.save(tmp_path / "image.png", transparency=bytes(range(16)))
    image, _ = reread(tmp_path)
    assert (image == np.asarray(indexed.convert("RGB"))).all()
    for mode in ("LA", "RGBA"):
        with_alpha = PHOTO.convert(mode)
        with_alpha.putalpha(7)
        image, _ = read(tmp_path, with_alpha)
        assert (image == np.asarray(PHOTO.convert(mode[:-1]).convert("RGB"))).all()


def test_cmyk_has_the_colours_that_it_prints(tmp_path: Path) -> None:
    red = Image.new("RGB", (8, 6), (255, 0, 0)).convert("CMYK")
    image, _ = read(tmp_path, red, suffix="jpg")
    assert np.abs(image.astype(int) - (255, 0, 0)).max() <= 6  # JPEG


def test_sixteen_bit_grey_keeps_its_upper_byte(tmp_path: Path) -> None:
    deep = (PIXELS[..., 0].astype(np.uint16) << 8) + 77
    image, _ = read(tmp_path, Image.fromarray(deep))
    assert (image == PIXELS[..., :1]).all()
    image, _ = read(tmp_path, Image.fromarray(deep.astype(np.int32)), suffix="tiff")
    assert (image == PIXELS[..., :1]).all()


def test_sixteen_bit_colour_keeps_its_upper_byte(tmp_path: Path) -> None:
    png16(tmp_path, (PIXELS.astype(np.uint16) << 8) + 77)
    image, _ = reread(tmp_path)
    assert (image == PIXELS).all()


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SemsegError, match=r"image\.tiff cannot be read \(its pixels are floating"):
        read(tmp_path, Image.fromarray(np.ones((6, 8), np.float32)), suffix="tiff")


# --- orientation ----------------------------------------------------------------------------------


def oriented(folder: Path, orientation: int, suffix: str = "png") -> np.ndarray:
    """Stores a photo that this orientation turns upright; returns how it should look."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    PHOTO.save(folder / f"image.{suffix}", exif=exif)
    with Image.open(folder / f"image.{suffix}") as picture:
        return np.asarray(ImageOps.exif_transpose(picture))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_of_the_stored_size_is_turned_along(orientation: int, tmp_path: Path) -> None:
    upright = oriented(tmp_path, orientation)
    numbers = PIXELS[..., 0] % 4  # drawn on the stored pixels
    image, mask = reread(tmp_path, numbers)
    assert (image == upright).all()
    assert (mask == image[..., 0] % 4).all()


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_mask_of_the_upright_size_is_upright(orientation: int, tmp_path: Path) -> None:
    upright = oriented(tmp_path, orientation)
    image, mask = reread(tmp_path, upright[..., 0] % 4)  # drawn on what one sees
    assert (image == upright).all()
    assert (mask == image[..., 0] % 4).all()


def test_a_photo_in_jpeg_is_turned(tmp_path: Path) -> None:
    upright = oriented(tmp_path, 6, "jpg")
    image, _ = reread(tmp_path, suffix="jpg")
    assert image.shape == (8, 6, 3)
    assert (image == upright).all()


@pytest.mark.parametrize("orientation", [1, 3])
def test_a_rotated_mask_of_an_upright_image_is_an_error(orientation: int, tmp_path: Path) -> None:
    oriented(tmp_path, orientation)
    with pytest.raises(SemsegError, match="is 6 x 8 pixels, its image 8 x 6"):
        reread(tmp_path, NUMBERS.T)


def test_a_rotated_tiff_is_refused(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    PHOTO.save(tmp_path / "image.tiff", exif=exif)
    with pytest.raises(SemsegError, match=r"image\.tiff cannot be read \(a TIFF with an orientat"):
        reread(tmp_path, suffix="tiff")


# --- masks ----------------------------------------------------------------------------------------


def test_masks_of_one_bit_hold_0_and_1(tmp_path: Path) -> None:
    PHOTO.save(tmp_path / "image.png")
    Image.fromarray(NUMBERS > 1).save(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as mask:
        assert mask.mode == "1"
    _, numbers = read_pair(tmp_path / "image.png", tmp_path / "mask.png", LABELS)
    assert (np.asarray(numbers) == (NUMBERS > 1)).all()


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_a_file_that_cannot_be_read_names_itself(kind: str, tmp_path: Path) -> None:
    read(tmp_path, PHOTO)
    path = tmp_path / f"{kind}.png"
    path.write_bytes(path.read_bytes()[:45])
    with pytest.raises(SemsegError, match=f"^The {kind} {path} cannot be read .*--skip-bad"):
        read_pair(tmp_path / "image.png", tmp_path / "mask.png", LABELS)


@pytest.mark.parametrize("seed", range(40))
def test_damage_gives_a_picture_or_a_sentence(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    suffix = ("png", "jpg")[seed % 2]
    oriented(tmp_path, 6, suffix)
    data = bytearray((tmp_path / f"image.{suffix}").read_bytes())
    for place in rng.integers(0, len(data), 3):
        data[place] = rng.integers(0, 256)
    (tmp_path / f"image.{suffix}").write_bytes(data[: rng.integers(1, len(data))])
    with pytest.raises(SemsegError, match="The image"):
        reread(tmp_path, suffix=suffix)


def low_bits(path: Path, numbers: np.ndarray, bits: int) -> None:
    """A grey PNG of 2 or 4 bits per number by hand."""
    per_byte = 8 // bits
    rows = numbers.reshape(len(numbers), -1, per_byte).astype(int)
    shifts = [bits * (per_byte - 1 - i) for i in range(per_byte)]
    packed = (rows << np.array(shifts)).sum(axis=2).astype(np.uint8)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width = numbers.shape
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in packed))
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


@pytest.mark.parametrize("bits", [2, 4])
def test_masks_of_few_bits_hold_the_numbers_that_are_stored(bits: int, tmp_path: Path) -> None:
    PHOTO.save(tmp_path / "image.png")
    low_bits(tmp_path / "mask.png", NUMBERS, bits)
    assert np.asarray(Image.open(tmp_path / "mask.png")).max() == 3 * {2: 85, 4: 17}[bits]
    check_pair(tmp_path / "image.png", tmp_path / "mask.png", LABELS)
    _, mask = read_pair(tmp_path / "image.png", tmp_path / "mask.png", LABELS)
    assert np.array_equal(np.asarray(mask), NUMBERS)


@pytest.mark.parametrize("name", ["mask.jpg", "mask.png"])
def test_a_jpeg_mask_is_refused_whatever_it_is_called(name: str, tmp_path: Path) -> None:
    PHOTO.save(tmp_path / "image.png")
    Image.fromarray(NUMBERS).save(tmp_path / name, format="JPEG")
    for look in (check_pair, read_pair):
        with pytest.raises(SemsegError, match=f"{name} is a JPEG, which does not keep label ids"):
            look(tmp_path / "image.png", tmp_path / name, LABELS)


def palette(folder: Path, colours: list[int]) -> np.ndarray:
    """What a mask with this palette is read as."""
    PHOTO.save(folder / "image.png")
    made = Image.fromarray(NUMBERS).convert("P")
    made.putpalette(colours)
    made.save(folder / "mask.png")
    return np.asarray(read_pair(folder / "image.png", folder / "mask.png", LABELS)[1])


def test_a_palette_of_colours_is_for_the_eye(tmp_path: Path) -> None:
    assert np.array_equal(palette(tmp_path, [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]), NUMBERS)


def test_a_palette_of_the_numbers_themselves_changes_nothing(tmp_path: Path) -> None:
    assert np.array_equal(palette(tmp_path, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]), NUMBERS)


def test_a_palette_of_other_greys_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SemsegError, match="number 3 is grey 1: it is not clear which"):
        palette(tmp_path, [0, 0, 0, 3, 3, 3, 2, 2, 2, 1, 1, 1])


def test_a_pipe_and_a_pointer_are_no_pictures(tmp_path: Path) -> None:
    PHOTO.save(tmp_path / "image.png")
    os.mkfifo(tmp_path / "mask.png")
    with pytest.raises(SemsegError, match=r"The mask .*mask\.png cannot be read \(it is a pipe"):
        check_pair(tmp_path / "image.png", tmp_path / "mask.png", LABELS)
    (tmp_path / "image.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0")
    with pytest.raises(SemsegError, match=r"The image .*image\.png is a Git LFS pointer"):
        check_pair(tmp_path / "image.png", tmp_path / "mask.png", LABELS)
