"""The outcomes of a run that are means of those of its classes, not sums over images."""

from collections.abc import Sequence

from semseg_cli.runs.outcomes import rounded
from semseg_cli.runs.report import ClassResults

# Of a run, each the mean over the classes that have the other.
MEANS_OVER_CLASSES = {
    "target_miou_before": "target_iou_before",
    "target_miou_after": "target_iou_after",
    "other_miou_before": "other_miou_before",
    "other_miou_after": "other_miou_after",
}
BY_CHANGED = ("became_share", "became_entropy")  # weighted by changed patches


def class_means(results: Sequence[ClassResults]) -> dict[str, float]:
    """Each of them, where some class has it."""
    found = {}
    changed = [one for one in results if one.n_changed_patches]
    n_changed = sum(one.n_changed_patches for one in changed)
    for name in BY_CHANGED if changed else ():
        total = sum(getattr(one, name) * one.n_changed_patches for one in changed)
        found[name] = rounded(total / n_changed)
    for name, of_class in MEANS_OVER_CLASSES.items():
        values = [one.outcomes[of_class] for one in results if of_class in one.outcomes]
        if values:
            found[name] = rounded(sum(values) / len(values))
    return found
