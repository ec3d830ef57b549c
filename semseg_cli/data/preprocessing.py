"""From a picture to the pixels that a network sees: resize, centre crop, normalise.

Masks go through the same geometry with nearest neighbour, so that labels stay on their pixels.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from PIL import Image
from torch import Tensor

from semseg_cli.data.label_map import LabelMap
from semseg_cli.errors import SemsegError
from semseg_cli.typed import typed

LARGEST = 10_000  # pixels of a side
Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Preprocessing:
    """Resize, centre crop, divide by `divisor`, normalise. The default is DINOv2's.

    With `keeps_aspect` a picture is scaled until it covers `resize`, else stretched to it.
    """

    resize: Size = (256, 256)
    crop: Size = (224, 224)
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    keeps_aspect: bool = False
    resample: Image.Resampling = Image.Resampling.BILINEAR
    divisor: float = 255.0

    def pixels(self, picture: Image.Image, resample: Image.Resampling) -> np.ndarray:
        """The resized, cropped picture as an array of its own mode."""
        height, width = self._resized(picture.height, picture.width)
        crop_h, crop_w = self.crop
        top, left = (height - crop_h) // 2, (width - crop_w) // 2
        small = picture.resize((width, height), resample)
        return np.asarray(small.crop((left, top, left + crop_w, top + crop_h)))

    def _resized(self, height: int, width: int) -> Size:
        wanted_h, wanted_w = self.resize
        if not self.keeps_aspect:
            return wanted_h, wanted_w
        if wanted_h * width >= wanted_w * height:  # the height is the shorter side
            return wanted_h, wanted_h * width // height
        return wanted_w * height // width, wanted_w

    def sized(self, crop: Size) -> "Preprocessing":
        """The same for another size: the margin around the crop grows and shrinks with it."""
        resize = [
            round(whole * new / old)
            for whole, new, old in zip(self.resize, crop, self.crop, strict=True)
        ]
        return replace(self, resize=(resize[0], resize[1]), crop=crop)


def image_pixels(image_chw: Tensor, preprocessing: Preprocessing) -> np.ndarray:
    """The image as it was cropped, in 0..1, [height, width, 3]."""
    scaled_hwc = image_chw.permute(1, 2, 0).numpy() * preprocessing.std + preprocessing.mean
    return (scaled_hwc * preprocessing.divisor / 255).clip(0, 1)


@typed
def image_tensor(picture: Image.Image, preprocessing: Preprocessing) -> Float32[Tensor, "3 h w"]:
    """The network's input: RGB, scaled (mostly to 0..1), then normalised."""
    pixels = preprocessing.pixels(picture.convert("RGB"), preprocessing.resample)
    scaled = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / preprocessing.divisor
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    return ((scaled - mean) / std).contiguous()


@typed
def label_tensor(mask: Image.Image, preprocessing: Preprocessing) -> UInt8[Tensor, "h w"]:
    """The labels of the same pixels, by nearest neighbour."""
    return torch.from_numpy(preprocessing.pixels(mask, Image.Resampling.NEAREST).copy())


@typed
def class_tensor(
    mask: Image.Image, labels: LabelMap, preprocessing: Preprocessing
) -> Int64[Tensor, "h w"]:
    """The class ids of the same pixels; 0 where a pixel has none."""
    if mask.mode in ("L", "P"):
        numbers = label_tensor(mask, preprocessing).long()
    else:  # 16 bits: both bytes go the way of 8-bit masks
        stored = np.asarray(mask)
        low, high = (
            label_tensor(Image.fromarray(part.astype(np.uint8)), preprocessing).long()
            for part in (stored & 255, stored >> 8)
        )
        numbers = low + 256 * high
    return torch.from_numpy(labels.table)[numbers]


def from_published(
    values: Mapping[str, Any], family: Preprocessing, *, only_normalisation: bool
) -> Preprocessing:
    """What a checkpoint's `preprocessor_config.json` says; the family's word where it is silent.

    Raises:
        ValueError: it asks for something else than one resize and one centre crop to a fixed size.
    """
    scales, factor = values.get("do_rescale", True), values.get("rescale_factor", 1 / 255)
    made = replace(
        family,
        divisor=1 / _number("rescale_factor", factor) if scales else 1.0,
        mean=_channels(values, "image_mean", family.mean, 0.0),
        std=_channels(values, "image_std", family.std, 1.0),
    )
    if only_normalisation:
        return made
    if not values.get("do_resize", True):
        raise ValueError("do_resize is false: images need one size")
    resize, keeps_aspect = _size(values, "size", family.resize, family.keeps_aspect)
    crop = resize
    if values.get("do_center_crop", family.keeps_aspect):
        crop, _ = _size(values, "crop_size", family.crop, False)
    if not all(1 <= side <= LARGEST for side in (*crop, *resize)):
        raise ValueError(f"crop_size is {crop}, size {resize}: expected sides of 1 to {LARGEST}")
    if crop[0] > resize[0] or crop[1] > resize[1]:
        raise ValueError(f"crop_size is {crop}, larger than size {resize}")
    resample = values.get("resample")
    return replace(
        made,
        resize=resize,
        crop=crop,
        keeps_aspect=keeps_aspect,
        resample=family.resample if resample is None else Image.Resampling(resample),
    )


def _channels(
    values: Mapping[str, Any], name: str, family: tuple[float, ...], neutral: float
) -> tuple[float, ...]:
    if not values.get("do_normalize", True):
        return (neutral,) * 3
    given = values.get(name)
    if given is None:
        return family
    listed = given if isinstance(given, list) else [given] * 3
    numbers = tuple(_number(name, one) for one in listed[:4])
    if len(numbers) != 3 or (name == "image_std" and not all(numbers)):
        raise ValueError(f"{name} is {given}: expected three numbers, and no std of 0")
    return numbers


def _number(name: str, value: Any) -> float:
    number = float(value) if isinstance(value, int | float) else math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} is {str(value)[:40]}: expected a finite number")
    return number


def _size(
    values: Mapping[str, Any], name: str, family: Size, int_keeps_aspect: bool
) -> tuple[Size, bool]:
    """A size and whether the aspect is kept; a bare number means what the family means by it."""
    given = values.get(name)
    if given is None:
        return family, int_keeps_aspect
    if isinstance(given, int):
        return (given, given), int_keeps_aspect
    if isinstance(given, list) and len(given) == 2:
        return (int(given[0]), int(given[1])), False
    sides = {k: v for k, v in given.items() if v} if isinstance(given, dict) else {}
    if set(sides) == {"height", "width"}:
        return (int(sides["height"]), int(sides["width"])), False
    if set(sides) == {"shortest_edge"}:
        return (int(sides["shortest_edge"]), int(sides["shortest_edge"])), True
    raise ValueError(f"{name} is {given}: expected height and width, or shortest_edge")


def fitted(
    preprocessing: Preprocessing, image_size: Size | None, patch_size_px: int
) -> Preprocessing:
    """The preprocessing at the size that the user asks for, checked against the patches.

    Raises:
        SemsegError: the size is no multiple of the patch size.
    """
    if image_size is None or image_size == preprocessing.crop:
        return preprocessing
    if any(side % patch_size_px or side < patch_size_px for side in image_size):
        near = [max(1, round(side / patch_size_px)) * patch_size_px for side in image_size]
        raise SemsegError(
            f"The image size {image_size[0]}x{image_size[1]} does not hold whole patches of "
            f"{patch_size_px} pixels: try --image-size {near[0]}x{near[1]}."
        )
    return preprocessing.sized(image_size)
