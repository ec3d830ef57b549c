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
from semseg_cli.runs.per_image import PerImage, on_same_images

DRAWN = "outcomes are not kept draw by draw, and a control that is drawn has the luck of its draws"
Entries = dict[str, Any]


def outcome_values(both: Pair | None, artifacts: Artifacts) -> tuple[Entries, Entries]:
    """What goes into the rows of both runs: their outcomes over the classes that both have, and for
    the first the differences with their p, which are corrected over the outcomes (Holm)."""
    if both is None:
        return {}, {}
    tables = _tables(both, artifacts)
    if tables is None:
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


def _tables(
    both: Pair, artifacts: Artifacts
) -> tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]] | None:
    """The sums [images, classes] of both runs, images by name and the classes of the pair."""
    runs = (both.run, both.baseline)
    one, other = map(artifacts.per_image, runs)
    sums = [artifacts.outcomes(run) for run in runs]
    if one is None or other is None or sums[0] is None or sums[1] is None:
        return None
    alike = on_same_images(one, other)
    return _table(alike[0], sums[0], both), _table(alike[1], sums[1], both)


def _table(
    counts: PerImage, sums: Mapping[str, np.ndarray], both: Pair
) -> Mapping[str, np.ndarray]:
    """The sums times what each image stands for."""
    rows = np.argsort(np.array(counts.images, dtype=object), kind="stable")
    columns = [counts.class_ids.index(class_id) for class_id in both.class_ids]
    weight_bc = 1 if counts.weight_bc is None else counts.weight_bc[rows][:, columns]
    return {name: values[rows][:, columns] * weight_bc for name, values in sums.items()}


def _sides(table: Mapping[str, np.ndarray], both: Pair) -> Entries:
    found = pooled_fraction_intervals(table, both.groups)
    return {
        k: v for name in COMPARED if name in found for k, v in entries(name, found[name]).items()
    }
