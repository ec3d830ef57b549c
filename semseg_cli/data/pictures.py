"""Files to upright pictures: any mode becomes RGB, a mask keeps its numbers.

A photo's EXIF orientation says how its stored pixels are turned upright. A mask of the stored size
belongs to the stored pixels and is turned along; one of the upright size is upright already.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image

from semseg_cli.data.label_map import LabelMap
from semseg_cli.data.parquet_files import StoredFile, opened
from semseg_cli.errors import SemsegError
from semseg_cli.readers import unreadable

# What Pillow raises for files that are no picture, cut, damaged, or too large to be one.
READ_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    struct.error,
    Image.DecompressionBombError,
)
LOSSY = ("JPEG", "MPO", "JPEG2000", "WEBP", "AVIF", "HEIF")
SPREAD = {"2": 85, "4": 17}  # bits per number -> factor
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPS_SIDES = (5, 6, 7, 8)


@dataclass(frozen=True)
class Shape:
    """Width and height as stored, and the orientation that makes them upright (1: as they are)."""

    size: tuple[int, int]
    orientation: int

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height as seen."""
        return self.size[::-1] if self.orientation in _SWAPS_SIDES else self.size


@contextmanager
def _reading(stored: StoredFile, kind: str) -> Iterator[Image.Image]:
    file = f"The {kind} {stored}"
    expected = "replace it or remove it and its partner, or skip such files with --skip-bad"
    with opened(stored, file, expected) as data:
        try:
            with Image.open(data) as picture:
                yield picture
        except READ_ERRORS as error:
            raise unreadable(file, str(error) or type(error).__name__, expected) from error


def check_pair(image_path: StoredFile, mask_path: StoredFile, labels: LabelMap) -> None:
    """Refuses a mask of another size or mode by two headers, before any pixel is decoded."""
    with _reading(image_path, "image") as image:
        shape = _shape(image)
    with _reading(mask_path, "mask") as mask:
        _check_mask(mask, mask_path, shape, labels)
        _check_stored(mask, mask_path)


def read_image(image_path: StoredFile) -> Image.Image:
    """The image as RGB, upright.

    Raises:
        SemsegError: the file cannot be read.
    """
    picture, shape = _decoded(image_path)
    turn = _TURNS.get(shape.orientation)
    return picture if turn is None else picture.transpose(turn)


def _decoded(image_path: StoredFile) -> tuple[Image.Image, Shape]:
    """The image as RGB, as it is stored."""
    with _reading(image_path, "image") as image:
        shape = _shape(image)
        image.load()
        return to_rgb(image), shape


def read_pair(
    image_path: StoredFile, mask_path: StoredFile, labels: LabelMap
) -> tuple[Image.Image, Image.Image]:
    """The image as RGB and its mask, both upright.

    Raises:
        SemsegError: a file cannot be read, or the mask's size, mode or numbers do not fit.
    """
    picture, shape = _decoded(image_path)
    with _reading(mask_path, "mask") as mask:
        _check_mask(mask, mask_path, shape, labels)
        factor = _check_stored(mask, mask_path)
        mask.load()
    if mask.mode == "1" or factor > 1:
        mask = Image.fromarray(np.asarray(mask).astype(np.uint8) // np.uint8(factor))
    _check_palette(mask, mask_path)
    _check_numbers(mask, mask_path, labels)
    turn = _TURNS.get(shape.orientation)
    if turn is None:
        return picture, mask
    return picture.transpose(turn), mask.transpose(turn) if mask.size == shape.size else mask


def orientation_of(picture: Image.Image) -> int:
    """How a picture's stored pixels are to be turned; 1: they are upright."""
    return int(picture.getexif().get(_ORIENTATION, 1))


def _shape(picture: Image.Image) -> Shape:
    orientation = orientation_of(picture)
    if picture.format == "TIFF" and orientation != 1:  # Pillow 13 turns these by itself, and wrong
        raise ValueError("a TIFF with an orientation is not supported, save it upright")
    return Shape(picture.size, orientation)


def to_rgb(picture: Image.Image) -> Image.Image:
    """The picture as RGB.

    Transparency is dropped; of 16 bits the upper 8 are kept, as Pillow does for colours.
    """
    if picture.mode.startswith("I"):
        values = np.asarray(picture).clip(0, 2**16 - 1) >> 8
        picture = Image.fromarray(values.astype(np.uint8))
    if picture.mode == "F":
        raise ValueError("its pixels are floating-point numbers, expected 8 or 16 bits")
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")
    return picture.convert("RGB")


def _check_mask(mask: Image.Image, path: StoredFile, shape: Shape, labels: LabelMap) -> None:
    if mask.size not in (shape.size, shape.upright):
        (width, height), (image_width, image_height) = mask.size, shape.size
        raise SemsegError(
            f"The mask {path} is {width} x {height} pixels, its image "
            f"{image_width} x {image_height}: they must have the same size."
        )
    if mask.mode not in labels.modes:
        bits = "8-bit" if "I;16" not in labels.modes else "8-bit or 16-bit"
        raise SemsegError(
            f"The mask {path} has mode {mask.mode!r}, expected an {bits} one of label ids "
            f"({', '.join(labels.modes)}): convert it."
        )


def _check_stored(mask: Image.Image, path: StoredFile) -> int:
    """By how much Pillow multiplies the stored numbers: grey of 2 or 4 bits is spread to 255.

    Raises:
        SemsegError: the file's format changes numbers at the edges of regions.
    """
    if mask.format in LOSSY:
        raise SemsegError(
            f"The mask {path} is a {mask.format}, which does not keep label ids exactly: make "
            "masks as PNG, from the original ones."
        )
    raw = next((str(tile[3]) for tile in getattr(mask, "tile", ())), "")
    return SPREAD.get(raw.split(";")[-1][:1], 1) if raw.startswith("L;") else 1


def _check_palette(mask: Image.Image, path: StoredFile) -> None:
    """Refuses a palette of greys that are not the numbers: either may be what is meant."""
    if mask.mode != "P":
        return
    colours = np.array(mask.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    used = np.flatnonzero(mask.histogram()[: len(colours)])
    greys = colours[used]
    is_grey = bool((greys == greys[:, :1]).all())
    if len(used) and is_grey and not np.array_equal(greys[:, 0], used):
        raise SemsegError(
            f"The mask {path} has a palette in which number {used[-1]} is grey {greys[-1, 0]}: it "
            "is not clear which is the label id, save it as an 8-bit grey PNG."
        )


def _check_numbers(mask: Image.Image, path: StoredFile, labels: LabelMap) -> None:
    is_narrow = mask.mode in ("L", "P")
    counts = mask.histogram() if is_narrow else np.bincount(np.asarray(mask).reshape(-1))
    wrong = [n for n in np.flatnonzero(counts) if labels.table[n] < 0]
    if wrong:
        first, last = labels.bounds
        raise SemsegError(
            f"The mask {path} holds label {wrong[-1]}, but there are {len(labels.class_names)} "
            f"classes ({first} to {last}): check the dataset against {labels.source}."
        )
