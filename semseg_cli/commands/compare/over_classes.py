"""Which classes the numbers of a table are over: those that all of its runs have.

A run of more classes has numbers of its own, made anew over these. No torch, no mlflow.
"""

from collections.abc import Sequence
from dataclasses import replace

from semseg_cli.commands.compare.artifacts import Artifacts
from semseg_cli.commands.compare.units import Units
from semseg_cli.runs.class_means import class_means
from semseg_cli.runs.interval_rows import is_in_few_images
from semseg_cli.runs.metrics import RUNS, find
from semseg_cli.runs.outcomes import (
    as_numbers,
    pooled_fraction_intervals,
)
from semseg_cli.runs.report import Report
from semseg_cli.runs.rows import Row
from semseg_cli.show.run_notes import n_classes_text, spread
from semseg_cli.tracking.tracked_run import TrackedRun

ENDS = ("_lo", "_hi")


def common_classes(runs: Sequence[TrackedRun], artifacts: Artifacts) -> dict[str, list[int]]:
    """By run id the classes that all runs on the same images have; none where counts are missing,
    the run's own where nothing is common."""
    counts = {run.run_id: artifacts.per_image(run) for run in runs}
    images = {run.run_id: run.tag("digest.evaluation") for run in runs}
    shared: dict[str | None, set[int]] = {}
    for run_id, one in counts.items():
        if one is not None:
            ids = set(one.class_ids)
            shared[images[run_id]] = shared.get(images[run_id], ids) & ids
    return {
        run_id: [c for c in one.class_ids if c in shared[images[run_id]]] or list(one.class_ids)
        for run_id, one in counts.items()
        if one is not None
    }


def over_what(
    rows: Sequence[Row], classes: Sequence[Sequence[int]], n_asked: int | None = None
) -> str:
    """What the numbers of a table are over, in a few words: `100 images, 16 classes`.

    `classes` has those that each run's numbers are over, where they are known; `n_asked` is how
    many each run was asked for, where all were for as many.
    """
    images = [row["n_images"] for row in rows if row.get("n_images") is not None]
    known = [row.get("n_classes_compared", row.get("n_classes")) for row in rows]
    counts = [int(n) for n in known if n is not None]
    said = [f"{spread(images)} image{'' if set(images) == {1} else 's'}"] if images else []
    if not counts:
        return ", ".join(said)
    if len({tuple(one) for one in classes}) > 1:
        return ", ".join([*said, f"{n_classes_text(counts)} each, not the same"])
    if any(is_narrowed(row) for row in rows):
        return ", ".join([*said, f"the {n_classes_text(counts)} that all runs have"])
    return ", ".join([*said, n_classes_text(counts, n_asked)])


def n_asked(runs: Sequence[TrackedRun], artifacts: Artifacts) -> int | None:
    """How many classes each of the runs was asked for, with a latent or not; None where they
    differ, or are not known."""
    found = {None if (one := artifacts.report(run)) is None else one.n_asked for run in runs}
    return found.pop() if len(found) == 1 else None


def is_narrowed(row: Row) -> bool:
    """Whether a run's numbers are over fewer classes than it has."""
    return row.get("n_classes_compared") not in (None, row.get("n_classes"))


def own_numbers(
    run: TrackedRun, class_ids: Sequence[int], artifacts: Artifacts, units: Units
) -> dict[str, float]:
    """A run's metrics, over these of its classes and these units: what cannot be told of them is
    left out."""
    counts = artifacts.per_image(run)
    is_whole = counts is None or set(counts.class_ids) == set(class_ids)
    if is_whole and units.group_by is None:
        return dict(run.metrics)
    pooled = pooled_outcomes(run, class_ids, artifacts, units)
    pooled = {key: value for key, value in pooled.items() if key in run.metrics}
    if is_whole:  # intervals were over images, or other groups
        return {k: v for k, v in run.metrics.items() if not k.endswith(ENDS)} | pooled
    kept = {key: value for key, value in run.metrics.items() if _is_of_the_whole(key)}
    report = report_over(run, class_ids, artifacts, units)
    return kept | ({} if report is None else _means(report)) | pooled


def report_over(
    run: TrackedRun, class_ids: Sequence[int] | None, artifacts: Artifacts, units: Units
) -> Report | None:
    """A run's report as if it had been made over these of its classes (None: all) and units."""
    report, counts = artifacts.report(run), artifacts.per_image(run)
    if report is None or counts is None:
        return report
    class_ids = counts.class_ids if class_ids is None else class_ids
    is_whole = set(counts.class_ids) == set(class_ids)
    if not is_whole:
        of_these = [one for one in report.class_results if one.class_id in class_ids]
        report = replace(report, class_results=of_these, no_latent=[])
    if units.group_by is None:
        return report
    units_bc4 = units.of(counts, class_ids)
    few = [c for c, is_few in zip(class_ids, is_in_few_images(units_bc4), strict=True) if is_few]
    extra = {**report.extra, "n_groups": float(len(units_bc4))}
    return replace(report, few_images=few, extra=extra)


def _is_of_the_whole(key: str) -> bool:
    """Whether a metric is the same whatever classes are counted."""
    metric = find(RUNS, key)
    return metric is not None and metric.any_classes


def _means(report: Report) -> dict[str, float]:
    """What is a mean or a spread over the classes of a report, as runs are told it."""
    spreads = {"target_std": report.target_change_std, "other_std": report.other_change_std}
    return spreads | class_means(report.class_results)


def pooled_outcomes(
    run: TrackedRun, class_ids: Sequence[int], artifacts: Artifacts, units: Units
) -> dict[str, float]:
    """What changed class means, over all patches of these classes together; nothing where the sums
    were not kept."""
    counts, sums = artifacts.per_image(run), artifacts.outcomes(run)
    if counts is None or sums is None:
        return {}
    columns = [counts.class_ids.index(class_id) for class_id in class_ids]
    weight_bc = 1 if counts.weight_bc is None else counts.weight_bc[:, columns]
    table = {name: values[:, columns] * weight_bc for name, values in sums.items()}
    return as_numbers(pooled_fraction_intervals(table, units.groups(counts)))


def edit_length(
    run: TrackedRun, key: str, class_ids: Sequence[int], artifacts: Artifacts
) -> float | None:
    """The mean length of a run's edits of these classes, by `key` in which unit."""
    counts = artifacts.per_image(run)
    if counts is None or set(counts.class_ids) == set(class_ids):
        return run.metrics.get(key)
    return pooled_outcomes(run, class_ids, artifacts, Units()).get(key, run.metrics.get(key))
