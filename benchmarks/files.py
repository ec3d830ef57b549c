"""A dataset of ADE20K's size, as files: JPEG images and PNG masks of coarse random cells."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

SPLIT = "validation"
CELLS = 8  # per side: most patches lie within one
NOISE = 12.0


def write_dataset(root: Path, n_images: int, width_height: tuple[int, int], n_classes: int) -> Path:
    """The folder, in ADE20K's layout; all classes occur."""
    for part in ("images", "annotations"):
        (root / part / SPLIT).mkdir(parents=True)
    lines = [f"{i}\t0.1\t10\t2\tclass {i}" for i in range(1, n_classes + 1)]
    (root / "objectInfo150.txt").write_text("\n".join(["Idx\tRatio\tTrain\tVal\tName", *lines]))

    def write(index: int) -> None:
        image, mask = make_pair(index, width_height, n_classes)
        image.save(root / "images" / SPLIT / f"{index:05d}.jpg", quality=90)
        mask.save(root / "annotations" / SPLIT / f"{index:05d}.png")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(write, range(n_images)))
    return root


def make_pair(
    index: int, width_height: tuple[int, int], n_classes: int
) -> tuple[Image.Image, Image.Image]:
    """An image and its mask; the same for the same index."""
    draw = np.random.default_rng(index)
    width, height = width_height
    rows = np.arange(height) * CELLS // height
    columns = np.arange(width) * CELLS // width
    cells = (np.arange(CELLS**2) + index * CELLS**2) % n_classes + 1
    labels = draw.permutation(cells).reshape(CELLS, CELLS).astype(np.uint8)
    colours = draw.integers(30, 226, (n_classes + 1, 3))
    mask = labels[rows][:, columns]
    noise = draw.normal(0, NOISE, (height, width, 3))
    pixels = (colours[mask] + noise).clip(0, 255).astype(np.uint8)
    return Image.fromarray(pixels), Image.fromarray(mask)
