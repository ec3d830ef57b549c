"""Numbers with their intervals and tests, as entries of the rows that tables and files are made of.

Beside its `KEY` a number has `KEY_lo`, `KEY_hi`, `KEY_n_eff`, `KEY_n_images`, `KEY_method`, and
where it is too thin for an interval `KEY_reason`; None for what there is not.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Real

from semseg_cli.runs.inference import (
    MEASURES,
    Difference,
    Interval,
    Measured,
    class_intervals,
    macro_classes,
    macro_intervals,
    pooled_intervals,
)
from semseg_cli.typed import typed

Entries = dict[str, Any]


def entries(key: str, found: Interval, n_touched: int | None = None) -> Entries:
    """A number's entries; `n_touched` of its images have a patch that changed."""
    values = {
        "": found.value,
        "_lo": found.lo,
        "_hi": found.hi,
        "_n_eff": found.n_eff,
        "_n_images": found.n_images,
        "_method": found.method,
    }
    if found.reason:
        values["_reason"] = found.reason
        values |= {} if n_touched is None else {"_n_touched": n_touched}
    return {f"{key}{end}": value for end, value in values.items()}


def difference_entries(key: str, found: Difference) -> Entries:
    """A difference's entries: as a number's, and `KEY_p`, which is not corrected, with its test."""
    made = entries(f"{key}_difference", found.interval)
    made |= {f"{key}_p": found.test.p, f"{key}_p_method": found.test.method}
    return made | ({f"{key}_p_reason": found.test.reason} if found.test.reason else {})


def run_entries(
    counts_bc4: Real[np.ndarray, "b c 4"], min_patches: int, rates: Measured | None = None
) -> Entries:
    """A run's macro and pooled numbers; counts and `min_patches` are over all of its draws.

    `rates` are those of the counts, where they are known.
    """
    macro = macro_intervals(counts_bc4, min_patches, rates)
    made = [entries(f"macro_{name}", macro[name]) for name in MEASURES]
    made += [entries(name, found) for name, found in pooled_intervals(counts_bc4).items()]
    return {key: value for one in made for key, value in one.items()}


@typed
def class_entries(counts_bc4: Real[np.ndarray, "b c 4"]) -> list[Entries]:
    """The numbers of every class."""
    found = class_intervals(counts_bc4)
    touched = {
        "target_change": (counts_bc4[..., 1] > 0).sum(axis=0).tolist(),
        "other_change": (counts_bc4[..., 3] > 0).sum(axis=0).tolist(),
    }
    return [
        {
            "n_class_images": found["target_change"][c].n_images,
            **{
                key: value
                for name in MEASURES
                for key, value in entries(
                    name, found[name][c], touched[name][c] if name in touched else None
                ).items()
            },
        }
        for c in range(counts_bc4.shape[1])
    ]


def interval_metrics(made: Mapping[str, Any]) -> dict[str, float]:
    """The ends of the intervals among these entries, as metrics: those that there are."""
    ends = {key: value for key, value in made.items() if key.endswith(("_lo", "_hi"))}
    return {key: float(value) for key, value in ends.items() if value is not None}


@typed
def is_in_few_images(counts_bc4: Real[np.ndarray, "b c 4"]) -> Bool[np.ndarray, " c"]:
    """Whether a class has patches, but in too few images to be part of macro means."""
    return (counts_bc4[..., 0].sum(axis=0) > 0) & ~macro_classes(counts_bc4)
