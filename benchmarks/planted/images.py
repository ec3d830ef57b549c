"""Drawn images of a planted world: which class each patch is, which factors it has, its pixels."""

from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from benchmarks.ade20k_folder import write_names, write_split
from benchmarks.planted.network import (
    BLOCK_PX,
    GREY,
    PATCH_PX,
    PIXELS,
    make_patterns,
    make_preprocessing,
)
from benchmarks.planted.plan import Plan, rng
from semseg_cli.typed import typed

SPLITS = ("training", "validation")
N_OBJECTS = (3, 7)  # in an image, from, up to
SIDES = (1, 3)  # patches of an object's side


@typed
def draw_classes(
    plan: Plan, n_images: int, draw: np.random.Generator
) -> Int64[np.ndarray, "b g g"]:
    """Class ids of patches: rectangles on ground, each of one class."""
    grid, ground = plan.size.grid, len(plan.classes)
    frequencies = np.array([one.frequency for one in plan.classes[:-1]])
    found = np.full((n_images, grid, grid), ground, dtype=np.int64)
    for image in found:
        n_objects = draw.integers(*N_OBJECTS)
        for class_id in 1 + draw.choice(ground - 1, n_objects, p=frequencies / frequencies.sum()):
            height, width = draw.integers(SIDES[0], SIDES[1] + 1, 2)
            top, left = draw.integers(0, grid - 1, 2)
            image[top : top + height, left : left + width] = class_id
    return found


@typed
def draw_factors(
    plan: Plan, classes_n: Int64[np.ndarray, " n"], draw: np.random.Generator
) -> Float64[np.ndarray, "n f"]:
    """How strong each factor is in each patch."""
    found = np.zeros((len(classes_n), len(plan.factors)))
    for f, factor in enumerate(plan.factors):
        strength_n = factor.strength * np.exp(factor.spread * draw.normal(size=len(classes_n)))
        shown = np.array([0.0, *(one.shows.get(f, 0.0) for one in plan.classes)])
        is_shown_n = draw.random(len(classes_n)) < shown[classes_n]
        is_stray_n = draw.random(len(classes_n)) < factor.stray
        stray_n = np.where(is_stray_n, factor.stray_strength, 0.0)
        found[:, f] = strength_n * np.where(is_shown_n, 1.0, stray_n)
    return found


@typed
def to_pixels(plan: Plan, factors_nf: Float64[np.ndarray, "n f"]) -> UInt8[np.ndarray, "b h w 3"]:
    """Images whose patches have these factors, in the order of rows and columns."""
    grid, side = plan.size.grid, PATCH_PX // BLOCK_PX
    pieces = GREY + PIXELS * factors_nf @ make_patterns(plan)
    pieces = pieces.reshape(-1, grid, grid, 3, side, side).transpose(0, 1, 4, 2, 5, 3)
    pixels = pieces.reshape(-1, grid * side, grid * side, 3).repeat(BLOCK_PX, 1).repeat(BLOCK_PX, 2)
    return pixels.round().clip(0, 255).astype(np.uint8)


def write_images(plan: Plan, root: Path) -> None:
    """The dataset as an ADE20K folder."""
    sizes = (plan.size.n_training, plan.size.n_validation)
    for split, n_images in zip(SPLITS, sizes, strict=True):
        draw = rng(plan.seed, split)
        classes_bgg = draw_classes(plan, n_images, draw)
        images = to_pixels(plan, draw_factors(plan, classes_bgg.reshape(-1), draw))
        write_split(root, split, images, classes_bgg, make_preprocessing(plan))
    write_names(root, plan.names)
