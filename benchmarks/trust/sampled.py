"""Other change from a sample of the images without the class: is it as sure as it says?"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64

from benchmarks.trust import worlds
from benchmarks.trust.coverage import Cell, cell_of
from semseg_cli.engine.other_images import image_weights
from semseg_cli.runs.inference import (
    Interval,
    class_intervals,
    macro_differences,
    macro_intervals,
    pooled_intervals,
)

N_IMAGES = 2000
N_PAIRED = 600  # images of two runs
N_CLASSES = 12
PRESENCE = (0.005, 0.3)  # log-uniform: ADE20K's 150 classes are in 7% of the images, on average
# Other change where the class is by other change where it is not: an edit spills into neighbours.
SPILLS = (1.0, 5.0)
KINDS = {"steady": 0.05, "clustered": 0.5}  # ICC of other change


@dataclass(frozen=True)
class Saved:
    """What a sample costs and saves, by kind of world."""

    setting: str
    run_share: float  # of all pairs of image and class
    width_ratio: float  # of selectivity's intervals, against those of all images
    macro_width_ratio: float
    other_by_target: float  # median width of other change by that of target change


def patches_of(
    draw: np.random.Generator, n_images: int, presence_c: Float64[np.ndarray, " c"]
) -> Int64[np.ndarray, "b c"]:
    """How many patches of each image are predicted as each class."""
    shape = n_images, len(presence_c)
    return worlds.patches(draw, shape) * (draw.random(shape) < presence_c)


def run_counts(
    draw: np.random.Generator,
    orig_bc: Int64[np.ndarray, "b c"],
    rate_c: Float64[np.ndarray, " c"],
    spill: float,
    icc: float,
) -> Int64[np.ndarray, "b c 4"]:
    """Counts of one run on all images; other change is a tenth of target change where the class is
    not, and `spill` times that where it is."""
    n_images, n_classes = orig_bc.shape
    z = worlds.like(draw, np.repeat(draw.normal(size=(n_images, 1)), n_classes, axis=1), 0.5)
    changed, rest = np.empty_like(orig_bc), np.empty_like(orig_bc)
    for c, rate in enumerate(rate_c.tolist()):
        changed[:, c] = worlds.changed_in(draw, orig_bc[:, c], z[:, c], rate, 0.5)
        other_z = worlds.like(draw, z[:, c], 0.5)
        for of, times in ((orig_bc[:, c] > 0, spill), (orig_bc[:, c] == 0, 1.0)):
            n_other, mean = worlds.IMAGE_PATCHES - orig_bc[of, c], worlds.OTHER * rate * times
            rest[of, c] = worlds.changed_in(draw, n_other, other_z[of], min(mean, 0.9), icc)
    return np.stack([orig_bc, changed, worlds.IMAGE_PATCHES - orig_bc, rest], axis=-1)


def true_other(
    presence_c: Float64[np.ndarray, " c"], rate_c: Float64[np.ndarray, " c"], spill: float
) -> Float64[np.ndarray, " c"]:
    """Other change over all images that there could be."""
    draw = np.random.default_rng(0)
    left = worlds.IMAGE_PATCHES - float(worlds.patches(draw, (10**6,)).mean())
    with_c, without_c = presence_c * left, (1 - presence_c) * worlds.IMAGE_PATCHES
    base_c = worlds.OTHER * rate_c
    spilt_c = np.minimum(base_c * spill, 0.9)
    found: Float64[np.ndarray, " c"] = (spilt_c * with_c + base_c * without_c) / (
        with_c + without_c
    )
    return found


def weighted(counts_bc4: Int64[np.ndarray, "b c 4"], seed: int) -> Float64[np.ndarray, "b c 4"]:
    """The counts as a run with `--other-images auto` has them."""
    n_own_bc = torch.from_numpy(counts_bc4[..., 0])
    weight_bc = image_weights(n_own_bc, range(len(counts_bc4)), "auto", seed).numpy()
    return counts_bc4 * weight_bc[..., None]


def sampled_cells(seed: int, n_replicates: int) -> Iterator[tuple[list[Cell], Saved]]:
    """Coverage with a sample, and what it saves."""
    draw = np.random.default_rng(seed)
    for kind, icc in KINDS.items():
        for spill in SPILLS:
            yield _one_kind(draw, f"{kind}, spill {spill:g}", icc, spill, n_replicates)


def _one_kind(
    draw: np.random.Generator, setting: str, icc: float, spill: float, n_replicates: int
) -> tuple[list[Cell], Saved]:
    found: dict[str, list[Interval]] = {}
    truths: dict[str, list[float]] = {}
    shares, ratios, macro_ratios, by_target = [], [], [], []
    for replicate in range(n_replicates):
        presence_c = np.exp(draw.uniform(math.log(PRESENCE[0]), math.log(PRESENCE[1]), N_CLASSES))
        rate_c = draw.permutation(np.resize(worlds.LEVELS["mixed"], N_CLASSES))
        counts = run_counts(draw, patches_of(draw, N_IMAGES, presence_c), rate_c, spill, icc)
        sample = weighted(counts, replicate)
        other_c = true_other(presence_c, rate_c, spill)
        of_class, of_all = class_intervals(sample), class_intervals(counts)
        kept_c = (counts[..., 0] > 0).sum(axis=0) >= 3
        macro, macro_all = macro_intervals(sample), macro_intervals(counts)
        for name, truth_c in (("other change", other_c), ("selectivity", rate_c - other_c)):
            key = name.replace(" ", "_")
            found.setdefault(name, []).extend(of_class[key])
            truths.setdefault(name, []).extend(truth_c.tolist())
            found.setdefault(f"macro {name}", []).append(macro[key])
            truths.setdefault(f"macro {name}", []).append(float(truth_c[kept_c].mean()))
        other = pooled_intervals(sample)["other_change"]
        weights_c = N_IMAGES * worlds.IMAGE_PATCHES - counts[..., 0].sum(axis=0)
        found.setdefault("pooled other change", []).append(other)
        truths.setdefault("pooled other change", []).append(
            float(other_c @ weights_c / weights_c.sum())
        )
        shares.append(float((sample[..., 2] > 0).mean()))
        ratios += _ratios(of_class["selectivity"], of_all["selectivity"])
        macro_ratios += _ratios([macro["selectivity"]], [macro_all["selectivity"]])
        by_target += _ratios(of_class["other_change"], of_class["target_change"])
    cells = [
        cell_of(f"sampled: {name}", N_IMAGES, icc, setting, found[name], truths[name])
        for name in found
    ]
    saved = Saved(
        setting,
        float(np.mean(shares)),
        float(np.mean(ratios)),
        float(np.mean(macro_ratios)),
        float(np.median(by_target)),
    )
    return [cell for cell in cells if cell is not None], saved


def _ratios(one: list[Interval], other: list[Interval]) -> list[float]:
    """Widths by widths, where both are printed."""
    pairs = zip(one, other, strict=True)
    return [
        (a.hi - a.lo) / (b.hi - b.lo)
        for a, b in pairs
        if a.lo is not None and a.hi is not None and b.lo is not None and b.hi is not None
    ]


def false_alarms(seed: int, n_replicates: int) -> float:
    """How often two runs that are alike, with one sample, are called different at .05 (macro
    selectivity, swapping them image by image)."""
    draw = np.random.default_rng(seed)
    n_found = 0
    for replicate in range(n_replicates):
        presence_c = np.exp(draw.uniform(math.log(PRESENCE[0]), math.log(PRESENCE[1]), N_CLASSES))
        orig_bc = patches_of(draw, N_PAIRED, presence_c)
        rate_c = np.full(N_CLASSES, 0.3)
        sides = [
            weighted(run_counts(draw, orig_bc, rate_c, SPILLS[1], 0.5), replicate) for _ in range(2)
        ]
        made = macro_differences(sides[0], sides[1], seed=replicate)["selectivity"]
        n_found += made.test.p is not None and made.test.p <= 0.05
    return n_found / n_replicates
