"""What was sampled in the runs of a comparison: images, or groups of them. No torch, no mlflow."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from semseg_cli.runs.groups import group_names
from semseg_cli.runs.inference import sum_groups
from semseg_cli.runs.per_image import PerImage


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
