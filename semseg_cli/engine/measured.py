"""What one intervention did, as counts and as a report."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from semseg_cli.engine.counts import Counts
from semseg_cli.engine.edits import Edit, Intervention
from semseg_cli.ranks.collectives import all_sum
from semseg_cli.runs.inference import sum_groups
from semseg_cli.runs.interval_rows import interval_metrics, is_in_few_images, run_entries
from semseg_cli.runs.report import Report, ratio
from semseg_cli.settings.inputs import Protocol


@dataclass
class Measured:
    """What one intervention did: counts, and the summed L2 length of the edit per edited patch.

    `is_wanted` [n_images, rows] says which rows are run on which images (None: all).
    """

    intervention: Intervention
    counts: Counts
    is_wanted: Bool[Tensor, "n_images rows"] | None = None
    norm_sum: float = 0.0
    n_edited: int = 0

    @property
    def first(self) -> Edit:
        """The intervention's first draw."""
        return self.intervention.first

    def add_norm(self, norms: Tensor) -> None:
        """Counts the lengths of some patches' edits."""
        self.norm_sum += float(norms.double().sum())
        self.n_edited += norms.numel()

    def add_ranks(self) -> None:
        """Adds what the other ranks measured, in total; see `Counts.add_ranks`."""
        norm_sum = torch.tensor(self.norm_sum, dtype=torch.float64)
        n_edited = torch.tensor(self.n_edited)
        all_sum(norm_sum, n_edited)
        self.norm_sum, self.n_edited = float(norm_sum), int(n_edited)
        self.counts.add_ranks()


def to_report(
    measured: Measured,
    class_names: Sequence[str],
    protocol: Protocol,
    min_patches: int = 0,
    groups: Sequence[str] | None = None,
) -> Report:
    """The report of an edit's counts; `groups` names the group of each image, else all differ."""
    n_images = len(measured.counts.per_image)
    n_draws = len(measured.intervention.draws)
    counts_bc4 = measured.counts.per_image.numpy()
    units_bc4 = counts_bc4 if groups is None else sum_groups(counts_bc4, groups)
    few_ids = measured.counts.class_ids[is_in_few_images(units_bc4)]
    n_per_row = int(measured.counts.per_draw[0, :1, [0, 2]].sum())
    return Report(
        method=measured.first.method,
        class_results=measured.counts.to_class_results(class_names),
        intervention_scale=float(measured.first.scale),
        protocol=protocol,
        n_images=n_images,
        n_patches=n_per_row,
        # A float sum depends on the order of its parts in the last digits; six do not.
        edit_norm=float(f"{ratio(measured.norm_sum, measured.n_edited):.6g}"),
        min_patches=min_patches,
        shared_edit=protocol == "label" or measured.first.is_shared,
        n_draws=n_draws,
        few_images=few_ids.tolist(),
        extra=interval_metrics(run_entries(units_bc4, max(1, min_patches) * n_draws)),
    )
