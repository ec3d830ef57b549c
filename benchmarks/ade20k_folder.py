"""Drawn images and masks as an ADE20K folder has them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from semseg_cli.data.preprocessing import Preprocessing


def with_margin(prepared: Preprocessing, arrays: np.ndarray) -> np.ndarray:
    """The images or masks with what is cut off again around them."""
    (whole, _), (side, _) = prepared.resize, prepared.crop
    before = (whole - side) // 2
    around = (before, whole - side - before)
    rest = [(0, 0)] * (arrays.ndim - 3)
    return np.pad(arrays, [(0, 0), around, around, *rest], mode="edge")


def write_split(
    root: Path, split: str, images: np.ndarray, classes_bgg: np.ndarray, prepared: Preprocessing
) -> None:
    """Images [b, h, w, 3] of the size after the crop, and masks of the classes of their patches."""
    patch_px = images.shape[1] // classes_bgg.shape[1]
    masks = classes_bgg.astype(np.uint8).repeat(patch_px, 1).repeat(patch_px, 2)
    for part, arrays in (("images", images), ("annotations", masks)):
        folder = root / part / split
        folder.mkdir(parents=True)
        for i, array in enumerate(with_margin(prepared, arrays)):
            Image.fromarray(array).save(folder / f"{split}_{i:04d}.png", compress_level=1)


def write_names(root: Path, names: Sequence[str]) -> None:
    """The names of the classes."""
    rows = [f"{i}\t0.1\t10\t2\t{name}" for i, name in enumerate(names, start=1)]
    text = "\n".join(["Idx\tRatio\tTrain\tVal\tName", *rows]) + "\n"
    (root / "objectInfo150.txt").write_text(text, encoding="utf-8")
