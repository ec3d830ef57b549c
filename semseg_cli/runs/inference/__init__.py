"""How sure the numbers are: intervals and tests that keep their word, or the reason for none.

What was sampled is the image, or its group (a drive, a patient): `sum_groups` first. Numpy, scipy.
"""

from semseg_cli.runs.inference.answers import (
    Difference,
    Interval,
    Test,
    bounds_text,
    mark,
)
from semseg_cli.runs.inference.calibrated import (
    Calibrated,
    calibrated_difference,
    calibrated_score,
    no_edit,
)
from semseg_cli.runs.inference.combined import Term, combined_interval, gap_intervals, mean_of
from semseg_cli.runs.inference.controls import (
    control_class_differences,
    control_differences,
    draws_needed,
)
from semseg_cli.runs.inference.many import benjamini_hochberg, holm
from semseg_cli.runs.inference.means import mean_intervals
from semseg_cli.runs.inference.measured import (
    MEASURES,
    Measured,
    class_intervals,
    macro_classes,
    macro_intervals,
    measure,
    pooled,
    pooled_intervals,
)
from semseg_cli.runs.inference.paired import (
    class_differences,
    flip_tests,
    macro_differences,
    pooled_differences,
)
from semseg_cli.runs.inference.rates import rate_intervals, rates_of, sum_groups
from semseg_cli.runs.inference.sides import (
    Side,
    side_class_differences,
    side_differences,
)

__all__ = [
    "MEASURES",
    "Calibrated",
    "Difference",
    "Interval",
    "Measured",
    "Side",
    "Term",
    "Test",
    "benjamini_hochberg",
    "bounds_text",
    "calibrated_difference",
    "calibrated_score",
    "class_differences",
    "class_intervals",
    "combined_interval",
    "control_class_differences",
    "control_differences",
    "draws_needed",
    "flip_tests",
    "gap_intervals",
    "holm",
    "macro_classes",
    "macro_differences",
    "macro_intervals",
    "mark",
    "mean_intervals",
    "mean_of",
    "measure",
    "no_edit",
    "pooled",
    "pooled_differences",
    "pooled_intervals",
    "rate_intervals",
    "rates_of",
    "side_class_differences",
    "side_differences",
    "sum_groups",
]
