"""What a latent responds to: its top images, and where in them it is active, in one picture."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from PIL import Image

from semseg_cli.show.latent_cards import ROOM

QUALITIES = (82, 65, 45, 25)
GAP = 4
HEAT = colormaps["inferno"]
OPACITY = 0.75

Shown = Sequence[tuple[np.ndarray, np.ndarray]]  # image [h w 3] in 0..1, activations [rows columns]


def sheet(shown: Shown, side: int) -> Image.Image:
    """The images in a row, `side` pixels wide, and below each its activations as heat: black where
    there are none, bright where they are largest in the row."""
    most = max(float(grid.max()) for _, grid in shown)
    pairs = [_pair(image, grid / most, side) for image, grid in shown]
    height = pairs[0][0].height
    made = Image.new("RGB", (len(pairs) * (side + GAP) - GAP, 2 * height + GAP), "#808080")
    for place, pair in enumerate(pairs):
        for line, picture in enumerate(pair):
            made.paste(picture, (place * (side + GAP), line * (height + GAP)))
    return made


def _pair(image: np.ndarray, share: np.ndarray, side: int) -> tuple[Image.Image, Image.Image]:
    """An image, and its grey with the heat of its patches."""
    size = (side, round(side * image.shape[0] / image.shape[1]))
    plain = Image.fromarray((255 * image).astype(np.uint8)).resize(size, Image.Resampling.LANCZOS)
    grey = plain.convert("L").convert("RGB")
    heat = Image.fromarray((255 * HEAT(share)[..., :3]).astype(np.uint8))
    return plain, Image.blend(grey, heat.resize(size, Image.Resampling.NEAREST), OPACITY)


def as_files(sheets: Sequence[Image.Image]) -> list[bytes]:
    """The pictures as JPEG, as good as the room for all of them allows."""
    for quality in QUALITIES:
        files = [_jpeg(one, quality) for one in sheets]
        if sum(map(len, files)) <= ROOM:
            break
    return files


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    made = io.BytesIO()
    picture.save(made, "JPEG", quality=quality, optimize=True)
    return made.getvalue()
