"""Which runs measure the same thing, and on what they do. No torch, no mlflow."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from semseg_cli.commands.compare.artifacts import Artifacts, least_patches
from semseg_cli.runs.groups import group_names
from semseg_cli.runs.inference import sum_groups
from semseg_cli.runs.per_image import PerImage
from semseg_cli.settings.controls import RandFeat
from semseg_cli.settings.methods import METHODS
from semseg_cli.show.tables import cell
from semseg_cli.tracking.tracked_run import TrackedRun, setting_of

# What must be the same for two runs to measure the same thing: tag, and how we call it.
SAME = {
    "digest.evaluation": "images",
    "digest.sae": "SAE",
    "digest.vit": "ViT",
    "digest.head": "head",
}
LENGTH_APART = 0.1  # of the longer edit: more is another dose
DRAWN = {method.command for method in METHODS if method().is_drawn_by_class}


def unlike(one: TrackedRun, other: TrackedRun) -> list[str]:
    """What keeps two runs from measuring the same thing."""
    found = [what for tag, what in SAME.items() if one.tag(tag) != other.tag(tag)]
    return found + ["protocol"] * (one.tag("protocol") != other.tag("protocol"))


def lengths_apart(one: TrackedRun, other: TrackedRun) -> str:
    """Both edit lengths where they are too unlike for a test, or not known; else ''."""
    lengths = [run.metrics.get("edit_norm") for run in (one, other)]
    known = [length for length in lengths if length is not None]
    if len(known) == 2 and max(known) - min(known) <= LENGTH_APART * max(known):
        return ""
    return f"edit length {cell(lengths[0])} against {cell(lengths[1])}"


def is_drawn(run: TrackedRun) -> bool:
    """Whether the run drew something at random for each class.

    A random vector is drawn for every image, so that its luck is among that of the images.
    """
    return run.tag("method") in DRAWN or setting_of(run, "control") == "shuffled"


def can_draw(run: TrackedRun) -> bool:
    """Whether what is drawn for each class can be drawn more often in one run (`--draws`)."""
    return run.tag("method") == RandFeat.command


@dataclass(frozen=True)
class Units:
    """What was sampled: images, or groups of them, in which counts are summed."""

    group_by: str | None = None

    def of(self, counts: PerImage, class_ids: Sequence[int]) -> np.ndarray:
        """The counts [units, classes, 4] of these classes; images in the order of their names."""
        images = sorted(counts.images)
        counts_bc4 = counts.on(images, class_ids)
        groups = self.groups(counts)
        if groups is None:
            return counts_bc4
        group_of = dict(zip(counts.images, groups, strict=True))
        return sum_groups(counts_bc4, [group_of[image] for image in images])

    def groups(self, counts: PerImage) -> Sequence[str] | None:
        """The group of each image: as asked for now, else as the run was told."""
        if self.group_by is not None:
            return group_names(counts.images, self.group_by)
        return counts.groups


@dataclass(frozen=True)
class Pair:
    """The counts [units, classes, 4] of a run and of its baseline, and the draws [draws, classes,
    4] of the one that was drawn; on the same units and classes in the same order."""

    run: TrackedRun
    baseline: TrackedRun
    class_ids: list[int]
    one_bc4: np.ndarray
    other_bc4: np.ndarray
    apart: str = ""  # in edit length

    @property
    def is_tested_c(self) -> np.ndarray:
        """Whether a class has enough patches in both runs."""
        enough = [
            counts_bc4[..., 0].sum(axis=0) >= least_patches(run)
            for run, counts_bc4 in ((self.run, self.one_bc4), (self.baseline, self.other_bc4))
        ]
        return enough[0] & enough[1]


def pair(
    run: TrackedRun, baseline: TrackedRun | None, artifacts: Artifacts, units: Units
) -> Pair | None:
    """The two runs to compare unit by unit; None unless they measure the same thing."""
    if baseline is None or run.run_id == baseline.run_id or unlike(run, baseline):
        return None
    one, other = artifacts.per_image(run), artifacts.per_image(baseline)
    if one is None or other is None or set(one.images) != set(other.images):
        return None
    common = [class_id for class_id in one.class_ids if class_id in other.class_ids]
    if not common:
        return None
    told = one if one.groups is not None else other
    groups = dict(zip(told.images, units.groups(told) or told.images, strict=True))
    images = sorted(one.images)
    sides = [
        sum_groups(counts.on(images, common), [groups[image] for image in images])
        for counts in (one, other)
    ]
    return Pair(run, baseline, common, sides[0], sides[1], lengths_apart(run, baseline))


def common_classes(runs: Sequence[TrackedRun], artifacts: Artifacts) -> dict[str, list[int]]:
    """By run id the classes that all runs on the same images have; none where counts are missing,
    or where nothing is common."""
    found: dict[str, list[int]] = {}
    for run in runs:
        alike = [one for one in runs if "images" not in unlike(run, one)]
        counts = [one for one in map(artifacts.per_image, alike) if one is not None]
        own = artifacts.per_image(run)
        if own is not None:
            shared = [c for c in own.class_ids if all(c in one.class_ids for one in counts)]
            found[run.run_id] = shared or list(own.class_ids)
    return found
