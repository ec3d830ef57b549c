"""THE table of numbers: every metric of a run, of a class, of a latent, of what is made for them.

A new metric is one row here. Tables, tiles, charts, MLflow's view, short names on the command line
and docs/metrics.md are read off it. Standard library only.
"""

from semseg_cli.runs.metrics.metric import DETAILS, Metric, Place
from semseg_cli.runs.metrics.of_calibration import CALIBRATION
from semseg_cli.runs.metrics.of_classes import CLASSES
from semseg_cli.runs.metrics.of_dictionaries import DICTIONARIES, OF_DICTIONARIES
from semseg_cli.runs.metrics.of_parts import (
    GROUPS,
    HEADS,
    LATENTS,
    SPLICED_CLASSES,
    SPLICES,
    STATISTICS,
)
from semseg_cli.runs.metrics.of_runs import RUNS

TABLES: dict[str, tuple[Metric, ...]] = {
    "runs": RUNS,
    "classes": CLASSES,
    "calibration": CALIBRATION,
    "dictionaries": DICTIONARIES,
    "latents": LATENTS,
    "heads": HEADS,
    "statistics": STATISTICS,
    "splices": SPLICES,
    "spliced classes": SPLICED_CLASSES,
    "groups": GROUPS,
}
# Short name on the command line -> key, where rows are runs, and where they are classes.
SHORT = {metric.short: metric.key for metric in RUNS if metric.short}
SHORT_OF_CLASSES = {metric.short: metric.key for metric in CLASSES if metric.short} | {
    "class": "class_name"
}

__all__ = [
    "CALIBRATION",
    "CLASSES",
    "DETAILS",
    "DICTIONARIES",
    "GROUPS",
    "HEADS",
    "LATENTS",
    "OF_DICTIONARIES",
    "RUNS",
    "SHORT",
    "SHORT_OF_CLASSES",
    "SPLICED_CLASSES",
    "SPLICES",
    "STATISTICS",
    "TABLES",
    "Metric",
    "find",
    "is_detail",
    "shown",
]


def shown(metrics: tuple[Metric, ...], place: Place) -> tuple[Metric, ...]:
    """Those of the metrics that are shown in a place, in their order."""
    return tuple(metric for metric in metrics if place in metric.shown)


def find(metrics: tuple[Metric, ...], key: str) -> Metric | None:
    """The metric of that key, or the one that it is a detail of; None if there is none."""
    by_key = {metric.key: metric for metric in metrics}
    if key in by_key:
        return by_key[key]
    of = by_key.get(is_detail(key) or "")
    return of if of is not None and of.has_interval else None


def is_detail(key: str) -> str | None:
    """The key of the number that this one is a detail of, such as the end of its interval."""
    ends = [f"_{end}" for end in DETAILS if key.endswith(f"_{end}")]
    return key.removesuffix(max(ends, key=len)) if ends else None
