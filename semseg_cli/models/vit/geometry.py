"""How the publishers of each family prepare images to evaluate a model."""

from typing import Any

from PIL import Image

from semseg_cli.data.preprocessing import Preprocessing

IMAGENET_MEAN, IMAGENET_STD = Preprocessing().mean, Preprocessing().std
HALF = (0.5, 0.5, 0.5)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
MARGIN = 256 / 224  # of the resized image over its centre
LARGE = 384  # from here on BEiT's evaluation crops nothing off the shorter side


def to_side(size: int | list[int] | tuple[int, ...]) -> int:
    """The side of a square that a config gives as one number or as two equal ones.

    Raises:
        ValueError: they differ.
    """
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1:
        raise ValueError(f"{size} is no square")
    return sides.pop()


def stretched(config: Any) -> Preprocessing:
    """DINOv3's: the whole picture in a square."""
    side = to_side(config.image_size)
    return Preprocessing(resize=(side, side), crop=(side, side))


def stretched_to_half(config: Any) -> Preprocessing:
    """Google's ViTs: the whole picture in a square, pixels from -1 to 1."""
    side = to_side(config.image_size)
    return Preprocessing(resize=(side, side), crop=(side, side), mean=HALF, std=HALF)


def siglip(config: Any) -> Preprocessing:
    """SigLIP's: the same by bicubic interpolation."""
    side = to_side(config.image_size)
    return Preprocessing(
        resize=(side, side),
        crop=(side, side),
        mean=HALF,
        std=HALF,
        resample=Image.Resampling.BICUBIC,
    )


def clip(config: Any) -> Preprocessing:
    """CLIP's: the centre square of the picture."""
    side = to_side(config.image_size)
    return Preprocessing(
        resize=(side, side),
        crop=(side, side),
        mean=CLIP_MEAN,
        std=CLIP_STD,
        keeps_aspect=True,
        resample=Image.Resampling.BICUBIC,
    )


def facebook(config: Any) -> Preprocessing:
    """DINO's, DeiT's and MAE's: the centre of a somewhat larger picture."""
    return _centred(to_side(config.image_size), MARGIN, IMAGENET_MEAN, IMAGENET_STD)


def beit(config: Any) -> Preprocessing:
    """BEiT's: the same, with pixels from -1 to 1, and without a margin for large images."""
    side = to_side(config.image_size)
    return _centred(side, MARGIN if side < LARGE else 1.0, HALF, HALF)


def _centred(
    side: int, margin: float, mean: tuple[float, ...], std: tuple[float, ...]
) -> Preprocessing:
    shorter = int(margin * side)
    return Preprocessing(
        resize=(shorter, shorter),
        crop=(side, side),
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
        keeps_aspect=True,
        resample=Image.Resampling.BICUBIC,
    )
