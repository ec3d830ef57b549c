"""How two runs differ in what changed class means, as entries of rows. No torch, no mlflow."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from semseg_cli.commands.compare.artifacts import Artifacts
from semseg_cli.commands.compare.like_with_like import Pair, is_drawn
from semseg_cli.runs.inference import holm, mark
from semseg_cli.runs.interval_rows import difference_entries, entries
from semseg_cli.runs.outcome_differences import COMPARED, outcome_differences
from semseg_cli.runs.outcomes import pooled_fraction_intervals
from semseg_cli.tracking.tracked_run import TrackedRun

DRAWN = "outcomes are not kept draw by draw, and a control that is drawn has the luck of its draws"
Entries = dict[str, Any]


def outcome_values(both: Pair | None, artifacts: Artifacts) -> tuple[Entries, Entries]:
    """What goes into the rows of both runs: their outcomes over the classes that both have, and for
    the first the differences with their p, which are corrected over the outcomes (Holm)."""
    if both is None:
        return {}, {}
    tables = [_table(run, both, artifacts) for run in (both.run, both.baseline)]
    if tables[0] is None or tables[1] is None:
        return {}, {}
    one, other = (_sides(table, both) for table in tables)
    if is_drawn(both.run) or is_drawn(both.baseline):
        return one | {f"{name}_p_reason": DRAWN for name in COMPARED if name in one}, other
    found = outcome_differences(tables[0], tables[1], both.groups)
    p_values = [None if both.apart else made.test.p for made in found.values()]
    for (name, made), p, adjusted in zip(found.items(), p_values, holm(p_values), strict=True):
        one |= difference_entries(name, made)
        one |= {f"{name}_p": p, f"{name}_p_adjusted": adjusted}
        one |= {f"{name}_p_reason": both.apart} if both.apart else {}
        one[f"{name}_difference_mark"] = mark(adjusted, made.interval)
    return one, other


def _table(run: TrackedRun, both: Pair, artifacts: Artifacts) -> Mapping[str, np.ndarray] | None:
    """The sums [images, classes] of a run, images by name and the classes of the pair."""
    counts, sums = artifacts.per_image(run), artifacts.outcomes(run)
    if counts is None or sums is None:
        return None
    rows = np.argsort(np.array(counts.images, dtype=object), kind="stable")
    columns = [counts.class_ids.index(class_id) for class_id in both.class_ids]
    return {name: values[rows][:, columns] for name, values in sums.items()}


def _sides(table: Mapping[str, np.ndarray] | None, both: Pair) -> Entries:
    assert table is not None
    found = pooled_fraction_intervals(table, both.groups)
    return {
        k: v for name in COMPARED if name in found for k, v in entries(name, found[name]).items()
    }
