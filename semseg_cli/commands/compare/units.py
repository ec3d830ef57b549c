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
        counts_bc4 = counts.on(sorted(counts.images), class_ids)
        if self.groups(counts) is None:
            return counts_bc4
        return sum_groups(counts_bc4, self.by_name(counts))

    def by_name(self, counts: PerImage) -> tuple[str, ...]:
        """The group of each image, else the image, in the order of the images' names."""
        group_of = dict(zip(counts.images, self.groups(counts) or counts.images, strict=True))
        return tuple(group_of[image] for image in sorted(counts.images))

    def groups(self, counts: PerImage) -> Sequence[str] | None:
        """The group of each image: as asked for now, else as the run was told."""
        if self.group_by is not None:
            return group_names(counts.images, self.group_by)
        return counts.groups
