"""What the counts of some methods measure: whether a latent is needed, and whether it is enough."""

from collections.abc import Sequence

import torch

from semseg_cli.engine.counts import Counts
from semseg_cli.runs.inference import pooled_intervals, sum_groups
from semseg_cli.runs.interval_rows import entries, interval_metrics
from semseg_cli.runs.report import ratio
from semseg_cli.settings.intervening import Measure


def measured_by(
    measure: Measure, counts: Counts, groups: Sequence[str] | None = None
) -> dict[str, float]:
    """A method's measure with its 95% interval, pooled over classes; none for most methods.

    necessity: of the patches predicted as a class, the share that change class. sufficiency: of all
    other patches, the share that become the class. Over no patch at all there is none. `groups`
    names the group of each image, else all differ.
    """
    if not measure:
        return {}
    original, changed, others, _ = counts.weighted_bk4.unbind(dim=2)
    joined = counts.weighted_joined
    whole, part = (original, changed) if measure == "necessity" else (others, joined)
    if not int(whole.sum()):
        return {}
    rest = torch.zeros_like(whole)
    shares_bc4 = torch.stack([whole, part, rest, rest], dim=2).numpy()
    units_bc4 = shares_bc4 if groups is None else sum_groups(shares_bc4, groups)
    found = pooled_intervals(units_bc4)["target_change"]
    value = ratio(float(part.sum()), float(whole.sum()))
    return {measure: value, **interval_metrics(entries(measure, found))}
