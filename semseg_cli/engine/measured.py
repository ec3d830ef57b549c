"""What an intervention did, all images together, and the report of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxtyping import Bool
from torch import Tensor

from semseg_cli.engine.counts import Counts
from semseg_cli.engine.edits import Edit, Intervention
from semseg_cli.engine.outcomes import Clean, Edited, Outcomes
from semseg_cli.runs.class_means import class_means
from semseg_cli.runs.inference import sum_groups
from semseg_cli.runs.interval_rows import interval_metrics, is_in_few_images, run_entries
from semseg_cli.runs.outcomes import (
    Table,
    as_numbers,
    fraction_intervals,
    pooled_fraction_intervals,
    rounded,
)
from semseg_cli.runs.per_image import COUNTED
from semseg_cli.runs.report import ClassResults, Report
from semseg_cli.settings.inputs import Protocol


@dataclass
class Measured:
    """What one intervention did: counts, and outcomes where they were measured.

    `is_wanted` [n_images, rows] says which rows are run on which images (None: all).
    """

    intervention: Intervention
    counts: Counts
    outcomes: Outcomes | None = None
    is_wanted: Bool[Tensor, "n_images rows"] | None = None

    @property
    def first(self) -> Edit:
        """The intervention's first draw."""
        return self.intervention.first

    @property
    def by_image(self) -> tuple[Tensor, ...]:
        """What there is one row of per image."""
        return (*self.counts.by_image, *(self.outcomes.by_image if self.outcomes else ()))

    @property
    def totals(self) -> tuple[Tensor, ...]:
        """What is summed over images."""
        return (*self.counts.totals, *(self.outcomes.totals if self.outcomes else ()))

    def add_rows(
        self,
        images_p: Tensor,
        rows_p: Tensor,
        is_edited_pt: Tensor | None,
        clean: Clean,
        edited: Edited,
        draw: int,
    ) -> None:
        """Adds edited images, each for its own row only; see `Outcomes.add_rows`."""
        classes = clean.prediction.classes_bt, edited.prediction.classes_bt
        self.counts.add_rows(images_p, rows_p, *classes, draw)
        if self.outcomes:
            self.outcomes.add_rows(images_p, rows_p, is_edited_pt, clean, edited)

    def add_pair(
        self,
        images_b: Tensor,
        rows_bt: Tensor | None,
        clean: Clean,
        edited: Edited,
        draw: int,
    ) -> None:
        """Adds one edit of the whole image to every row; see `Outcomes.add_pair`."""
        classes = clean.prediction.classes_bt, edited.prediction.classes_bt
        self.counts.add_pair(images_b, *classes, draw)
        if self.outcomes:
            self.outcomes.add_pair(images_b, rows_bt, clean, edited)

    def add_ranks(self) -> None:
        """Adds what the other ranks measured, in total; see `Counts.add_ranks`."""
        self.counts.add_ranks()
        if self.outcomes:
            self.outcomes.add_ranks()

    def gather_images(self, n_images: int) -> None:
        """Lets the lead have what was measured on each of all `n_images`; reports need it."""
        self.counts.gather_images(n_images)
        if self.outcomes:
            self.outcomes.gather_images(n_images)


def table_of(measured: Measured) -> Table:
    """All that was counted and summed, as [images, rows] per name."""
    counts = measured.counts.per_image.unbind(dim=2)
    table = {name: values.numpy() for name, values in zip(COUNTED, counts, strict=True)}
    return table if measured.outcomes is None else {**table, **measured.outcomes.to_table()}


def weighted_table(measured: Measured) -> Table:
    """The same, times what each image stands for."""
    table, weight_bk = table_of(measured), measured.counts.weight_bk
    if weight_bk is None:
        return table
    return {name: values * weight_bk.numpy() for name, values in table.items()}


def to_report(
    measured: Measured,
    class_names: Sequence[str],
    protocol: Protocol,
    min_patches: int = 0,
    groups: Sequence[str] | None = None,
) -> Report:
    """The report of what an edit did; `groups` names the group of each image, else all differ."""
    counts, first = measured.counts, measured.first
    n_draws = len(measured.intervention.draws)
    counts_bc4 = counts.weighted_bk4.numpy()
    units_bc4 = counts_bc4 if groups is None else sum_groups(counts_bc4, groups)
    results, edit_norm = counts.to_class_results(class_names), None
    extra = interval_metrics(run_entries(units_bc4, max(1, min_patches) * n_draws))
    if counts.weight_bk is not None:
        results = _with_sample(counts, results)
        extra["run_share"] = rounded(float((counts.weight_bk > 0).double().mean()))
    if measured.outcomes is not None:
        results = _with_outcomes(measured, results, protocol, groups)
        found = _pooled(measured, results, protocol, groups)
        edit_norm = found.get("edit_norm")
        extra |= {k: v for k, v in found.items() if not k.startswith("edit_norm")}
    return Report(
        method=first.method,
        class_results=results,
        intervention_scale=float(first.scale),
        protocol=protocol,
        n_images=len(counts.per_image),
        n_patches=int(counts.weighted_rk4[0, :1, [0, 2]].sum()),
        edit_norm=edit_norm,
        min_patches=min_patches,
        shared_edit=protocol == "label" or first.is_shared,
        n_draws=n_draws,
        few_images=counts.class_ids[is_in_few_images(units_bc4)].tolist(),
        extra=extra,
    )


def _with_sample(counts: Counts, results: Sequence[ClassResults]) -> list[ClassResults]:
    """The results with the number of images without the class that each was run on."""
    is_with_bk, is_run_bk = (counts.per_image[..., column] > 0 for column in (0, 2))
    n_other_k = (is_run_bk & ~is_with_bk).sum(dim=0).tolist()
    pairs = zip(results, n_other_k, strict=True)
    return [replace(one, outcomes={"n_other_images": float(n)}) for one, n in pairs]


def is_told(name: str, measured: Measured, protocol: Protocol) -> bool:
    """Whether a number says something of a run.

    In the label protocol no latent of an absent class is set: what changes there is not its doing.
    """
    return name != "absent_change" or protocol == "class" or measured.first.is_shared


def _with_outcomes(
    measured: Measured,
    results: Sequence[ClassResults],
    protocol: Protocol,
    groups: Sequence[str] | None,
) -> list[ClassResults]:
    outcomes = measured.outcomes
    assert outcomes is not None
    found = fraction_intervals(weighted_table(measured), groups)
    numbers = [
        as_numbers({k: of_k[c] for k, of_k in found.items() if is_told(k, measured, protocol)})
        for c in range(len(results))
    ]
    mious = outcomes.other_miou(len(measured.intervention.draws))
    for of_class, *pair in zip(numbers, *(miou_r.tolist() for miou_r in mious), strict=True):
        known = zip(("other_miou_before", "other_miou_after"), pair, strict=True)
        of_class.update({name: rounded(miou) for name, miou in known if not math.isnan(miou)})
    return [
        replace(one, outcomes={**one.outcomes, **of_one})
        for one, of_one in zip(results, numbers, strict=True)
    ]


def _pooled(
    measured: Measured,
    results: Sequence[ClassResults],
    protocol: Protocol,
    groups: Sequence[str] | None,
) -> dict[str, float]:
    """Numbers over all patches of all classes; mIoU are means over the classes that have one."""
    assert measured.outcomes is not None
    pooled = pooled_fraction_intervals(weighted_table(measured), groups)
    found = as_numbers({k: one for k, one in pooled.items() if is_told(k, measured, protocol)})
    deviation = rounded(measured.outcomes.reference.deviation)
    return {**found, **class_means(results), "margin_deviation": deviation}
