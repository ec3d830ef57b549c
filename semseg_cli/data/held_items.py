"""One image and its mask, whatever kind of object they are, in the one form that is kept."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from semseg_cli.data.held_picture import HeldPicture
from semseg_cli.data.layouts.parquet import IMAGES, MASKS
from semseg_cli.data.pictures import LOSSY, orientation_of, to_rgb
from semseg_cli.errors import UsageError

EXIF_ORIENTATION = 0x0112
WIDEST = 255  # class ids that 8 bits hold
FIRST_CLASS = 1  # where nothing is said


@dataclass(frozen=True)
class Numbers:
    """What the numbers in a user's masks mean: classes are `first`, `first` + 1, ..."""

    n_classes: int
    first: int
    ignored: tuple[int, ...]


@dataclass(frozen=True)
class Item:
    """An image and its mask of class ids 1..C (0: none), as files; `tensor` if it is prepared."""

    name: str
    image: HeldPicture
    mask: HeldPicture
    tensor: Tensor | None = None


def unbatched(batch: Any) -> Iterator[Any]:
    """The pairs of a batch that a DataLoader collated."""
    if isinstance(batch, Mapping):
        for values in zip(*batch.values(), strict=True):
            yield dict(zip(batch, values, strict=True))
    else:
        yield from zip(*batch, strict=True)


def item_of(pair: Any, number: str, said: str, numbers: Numbers, prepared: bool) -> Item:
    """The pair as it is kept; `number` names an image that has no name, `said` is it in words.

    Raises:
        UsageError: it cannot be used.
    """
    image, mask, name = _parts(pair, said)
    ids = _class_ids(mask, said, numbers)
    if prepared:
        tensor = _prepared(image, said)
        _require_same_size(ids, [tuple(tensor.shape[1:])], said)
        kept, held = tensor, HeldPicture(said, tensor.numpy().tobytes())
    else:
        picture = _picture(image, said)
        turned = orientation_of(picture)
        _require_same_size(ids, [picture.size[::-1], *([picture.size] if turned > 4 else [])], said)
        kept, held = None, HeldPicture(said, _png(to_rgb(picture), turned))
    stored = ids.astype(np.uint8 if numbers.n_classes <= WIDEST else np.uint16)
    return Item(name or number, held, HeldPicture(said, _png(Image.fromarray(stored))), kept)


def _parts(pair: Any, said: str) -> tuple[Any, Any, str]:
    """Image, mask and name; an empty one where there is none."""
    if isinstance(pair, Mapping):
        image = next((key for key in IMAGES if key in pair), None)
        mask = next((key for key in MASKS if key in pair), None)
        if image is not None and mask is not None:
            return pair[image], pair[mask], str(pair.get("name") or _file_name(pair[image]))
        raise UsageError(
            f"{said} has the keys {', '.join(map(str, pair))}: it needs an image (a key such as "
            f"{', '.join(IMAGES[:2])}) and a mask ({', '.join(MASKS[::2][:3])})"
        )
    if isinstance(pair, Sequence) and not isinstance(pair, str | bytes) and len(pair) == 2:
        return pair[0], pair[1], _file_name(pair[0])
    raise UsageError(f"{said} is a {type(pair).__name__}: give (image, mask)")


def _file_name(image: Any) -> str:
    return Path(str(getattr(image, "filename", "") or "")).stem


# --- images -----------------------------------------------------------------------------------


def _prepared(image: Any, said: str) -> Tensor:
    tensor = torch.as_tensor(image).detach().cpu()
    if not tensor.is_floating_point() or tensor.ndim != 3 or tensor.shape[0] != 3:
        raise UsageError(
            f"{said} is {tensor.dtype} of shape {tuple(tensor.shape)}: a prepared image is "
            "floating-point [3, height, width]"
        )
    return tensor.float().contiguous()


def _picture(image: Any, said: str) -> Image.Image:
    if isinstance(image, Image.Image):
        if image.mode == "F":
            raise UsageError(f"{said} has floating-point pixels: give 8 or 16 bits")
        return image
    is_tensor = isinstance(image, Tensor)
    pixels = image.detach().cpu().numpy() if is_tensor else np.asarray(image)
    pixels = _channels_last(pixels, said, first=is_tensor)
    if np.issubdtype(pixels.dtype, np.floating):
        pixels = _from_shares(pixels, said)
    if pixels.dtype != np.uint8:
        raise UsageError(f"{said} is {pixels.dtype}: give uint8, or floating-point of 0 to 1")
    return Image.fromarray(pixels)


def _channels_last(pixels: np.ndarray, said: str, *, first: bool) -> np.ndarray:
    """[h, w, 3] or [h, w]; `first`: where channels are looked for first."""
    if pixels.ndim == 2:
        return pixels
    axes = (0, -1) if first else (-1, 0)
    axis = next((a for a in axes if pixels.ndim == 3 and pixels.shape[a] in (1, 3)), None)
    if axis is None:
        raise UsageError(
            f"{said} has shape {pixels.shape}: give [height, width, 3], or a tensor "
            "[3, height, width]"
        )
    moved = np.ascontiguousarray(np.moveaxis(pixels, axis, -1))
    return moved[..., 0] if moved.shape[-1] == 1 else moved


def _from_shares(pixels: np.ndarray, said: str) -> np.ndarray:
    low, high = float(pixels.min()), float(pixels.max())
    if not 0 <= low <= high <= 1:
        raise UsageError(
            f"{said} is floating-point from {low:.3g} to {high:.3g}, expected 0 to 1: give the "
            "picture before it is normalised, or Data(prepared=True) if it is what the ViT is to "
            "see"
        )
    return (pixels * 255).round().astype(np.uint8)


def _png(picture: Image.Image, orientation: int = 1) -> bytes:
    file = BytesIO()
    exif = Image.Exif()
    if orientation != 1:
        exif[EXIF_ORIENTATION] = orientation
    picture.save(file, "PNG", compress_level=1, exif=exif)
    return file.getvalue()


# --- masks ------------------------------------------------------------------------------------


def _class_ids(mask: Any, said: str, numbers: Numbers) -> np.ndarray:
    """The class ids 1..C of a mask [h, w], 0 where there is none."""
    stored = _numbers(mask, said)
    ids = stored.astype(np.int64) - numbers.first + 1
    is_class = (ids >= 1) & (ids <= numbers.n_classes)
    wrong = stored[~is_class & ~np.isin(stored, numbers.ignored)]
    if len(wrong):
        last = numbers.first + numbers.n_classes - 1
        found = int(wrong.flat[0])
        first = "first_class, " if numbers.first == FIRST_CLASS else ""  # else it was given
        ignored = tuple(int(n) for n in numbers.ignored if not numbers.first <= n <= last)
        raise UsageError(
            f"The mask of {said[0].lower()}{said[1:]} holds {found}, and classes are "
            f"{numbers.first} to {last}: give {first}all class_names, or "
            f"ignored={(*ignored, found)}"
        )
    return np.where(is_class, ids, 0)


def _numbers(mask: Any, said: str) -> np.ndarray:
    if isinstance(mask, Image.Image):
        if mask.format in LOSSY:
            raise UsageError(f"The mask of {said} is a {mask.format}, which changes numbers")
        if mask.mode not in ("1", "L", "P", "I", "I;16", "I;16L", "I;16B"):
            raise UsageError(f"The mask of {said} has mode {mask.mode!r}: give one number a pixel")
        mask = np.asarray(mask)
    found = mask.detach().cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)
    found = found[0] if found.ndim == 3 and len(found) == 1 else found
    if found.ndim != 2 or np.issubdtype(found.dtype, np.floating):
        raise UsageError(
            f"The mask of {said} is {found.dtype} of shape {found.shape}: give whole numbers "
            "[height, width]"
        )
    return found


def _require_same_size(ids: np.ndarray, sizes: Sequence[tuple[int, ...]], said: str) -> None:
    if ids.shape not in sizes:
        raise UsageError(
            f"The mask of {said} is {ids.shape[0]} x {ids.shape[1]} pixels, the image "
            f"{sizes[0][0]} x {sizes[0][1]}: they must have the same size"
        )
