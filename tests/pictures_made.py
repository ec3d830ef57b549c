"""Looks at picture files."""

from pathlib import Path

import numpy as np
from PIL import Image


def picture(path: Path) -> np.ndarray:
    """The pixels of a PNG, [h, w, 3]; it must be whole and not of one colour."""
    assert path.read_bytes().startswith(b"\x89PNG"), path
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.std() > 1, f"{path} is blank"
    return pixels


def has_colour(pixels: np.ndarray, colour: str, at_least: int = 20) -> bool:
    """Whether that many pixels have the colour, given as #rrggbb; rounding is forgiven."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((abs(pixels.astype(int) - wanted) <= 2).all(axis=2).sum()) >= at_least
