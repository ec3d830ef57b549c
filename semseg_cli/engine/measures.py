"""What the counts of some methods measure: whether a latent is needed, and whether it is enough."""

import torch

from semseg_cli.engine.counts import Counts
from semseg_cli.runs.bootstrap import intervals
from semseg_cli.runs.report import ratio
from semseg_cli.settings.intervening import Measure


def measured_by(measure: Measure, counts: Counts) -> dict[str, float]:
    """A method's measure with its 95% interval over images, pooled over classes; none for most.

    necessity: of the patches predicted as a class, the share that change class. sufficiency: of all
    other patches, the share that become the class. Over no patch at all there is none.
    """
    if not measure:
        return {}
    original, changed, others, _ = counts.per_image.unbind(dim=2)
    whole, part = (original, changed) if measure == "necessity" else (others, counts.joined)
    if not int(whole.sum()):
        return {}
    shares = torch.stack([whole, part, torch.zeros_like(whole), torch.zeros_like(whole)], dim=2)
    found = intervals(shares.numpy(), min_patches=1)
    bounds = {f"{measure}_{end}": found.get(f"target_change_{end}") for end in ("lo", "hi")}
    known = {key: value for key, value in bounds.items() if value is not None}
    return {measure: ratio(int(part.sum()), int(whole.sum())), **known}
