"""How two runs differ in outcomes, on the same images and classes. No torch in here.

Outcomes that are identical before any edit, or that describe the edit itself, are not compared.
"""

from collections.abc import Sequence

import numpy as np

from semseg_cli.runs.inference import Difference, Interval, Test, flip_tests, gap_intervals
from semseg_cli.runs.inference.answers import tested
from semseg_cli.runs.inference.means import mean_intervals
from semseg_cli.runs.inference.rates import rates_of
from semseg_cli.runs.outcomes import BY_CLASS, FRACTIONS, Fraction, Table, pooled_units

OF_EDITS = ("edit_norm", "edit_ratio", "off_manifold")
COMPARED = tuple(
    name
    for name in FRACTIONS
    if name not in (*BY_CLASS, *OF_EDITS) and not name.endswith("_before")
)
UNLIKE = "the runs are not over the same patches"


def outcome_differences(
    one: Table, other: Table, groups: Sequence[str] | None = None
) -> dict[str, Difference]:
    """Per outcome the pooled number of `one` minus that of `other`, of columns [images, classes] in
    the same order; `groups` names the group of each image, else all differ.

    Tested by swapping the runs image by image, as shares of change are.
    """
    sides = [pooled_units(table, groups) for table in (one, other)]
    names = [name for name in COMPARED if all(_has(side, FRACTIONS[name]) for side in sides)]
    if not names:
        return {}
    made = [_difference(FRACTIONS[name], sides[0], sides[1]) for name in names]
    unit_bj = np.concatenate([np.nan_to_num(unit_b1) for _, unit_b1 in made], axis=1)
    tests = flip_tests(unit_bj, units="images" if groups is None else "groups")
    return {
        name: tested(gap, test if gap.reason != UNLIKE else Test(None, test.method, UNLIKE))
        for name, (gap, _), test in zip(names, made, tests, strict=True)
    }


def _has(side: Table, fraction: Fraction) -> bool:
    return {fraction.part, fraction.whole, fraction.less or fraction.part} <= side.keys()


def _difference(fraction: Fraction, one: Table, other: Table) -> tuple[Interval, np.ndarray]:
    """The difference of two runs, and what each unit adds to it [units, 1]."""
    (part_b1, whole_b1), (other_b1, other_whole_b1) = (fraction.sums(t) for t in (one, other))
    total, other_total = max(whole_b1.sum(), 1), max(other_whole_b1.sum(), 1)
    unit_b1 = part_b1 / total - other_b1 / other_total
    if not np.array_equal(whole_b1, other_whole_b1):
        n_images = int((whole_b1 > 0).sum())
        return Interval(float(unit_b1.sum()), None, None, None, n_images, "", UNLIKE), unit_b1
    if fraction.is_rate:
        sides = rates_of(part_b1, whole_b1), rates_of(other_b1, whole_b1)
        return gap_intervals(*sides)[0], unit_b1
    gap_b1 = (part_b1 - other_b1) / np.maximum(whole_b1, 1)
    return mean_intervals(gap_b1.astype(np.float64), whole_b1)[0], unit_b1
