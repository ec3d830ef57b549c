"""Which controls and baselines do better than the latents themselves: said where it is so."""

from collections.abc import Mapping, Sequence

import numpy as np

from semseg_cli.runs.contents import null_sae_of
from semseg_cli.runs.folder import DRAWS_FILE, PER_IMAGE_FILE, RunFolder
from semseg_cli.runs.inference import (
    Difference,
    Side,
    bounds_text,
    macro_classes,
    side_differences,
    sum_groups,
)
from semseg_cli.runs.per_image import PerImage, on_same_images, read_draws, read_per_image
from semseg_cli.runs.report import Report
from semseg_cli.settings.methods import is_drawn

SELECTIVITY = "selectivity"
KNOWS = ("mean-diff", "head-direction")  # supervised directions
ALIKE = 0.98  # as long


def verdicts(own: RunFolder, others: Mapping[str, RunFolder]) -> list[str]:
    """A sentence for each run that does better than the latents, by macro selectivity over the
    classes that both have; one for the nearest where none does."""
    name = own.meta["run_name"]
    gaps = {other: gap(own, folder) for other, folder in others.items()}
    known = {other: made for other, made in gaps.items() if made.interval.value is not None}
    better = [other for other, made in known.items() if (made.interval.value or 0.0) < 0]
    if better:
        return [_better(name, other, known[other], own, others[other]) for other in better]
    if not known:
        return []
    nearest = min(known, key=lambda other: known[other].interval.value or 0.0)
    return [
        f"No control or baseline does better than {name}; {nearest} comes nearest, "
        f"{known[nearest].interval.value:.3f} below{_between(known[nearest])}."
    ]


def _better(name: str, other: str, made: Difference, own: RunFolder, folder: RunFolder) -> str:
    value = made.interval.value or 0.0
    other = f"{other} (which knows the labels)" if folder.meta["command"] in KNOWS else other
    said = "wins over" if made.interval.excludes_zero else "does no worse than"
    return (
        f"{other} {said} {name}: macro selectivity {-value:.3f} higher"
        f"{_between(made, turned=True)}{_length(own.report(), folder.report())}."
    )


def _between(made: Difference, *, turned: bool = False) -> str:
    if not made.interval.is_printed:
        return ""
    i = made.interval
    if turned and i.value is not None and i.lo is not None and i.hi is not None:
        low, high = -i.hi, -i.lo
        return f" [{low:.2f}, {high:.2f}]"
    return f" {bounds_text(i)}"


def _length(own: Report, other: Report) -> str:
    if not own.edit_norm or other.edit_norm is None:
        return ""
    times = other.edit_norm / own.edit_norm
    return (
        ", by an edit as long"
        if ALIKE <= times <= 1 / ALIKE
        else (f", by an edit {times:.2g} times as long")
    )


def gap(own: RunFolder, other: RunFolder) -> Difference:
    """Macro selectivity of one run minus that of another, over the classes that both have enough
    of, on the same images."""
    counts = on_same_images(_counts(own), _counts(other))
    class_ids = [class_id for class_id in counts[0].class_ids if class_id in counts[1].class_ids]
    one_bc4, two_bc4 = (_units(of_one, class_ids) for of_one in counts)
    least = own.report().min_patches
    kept_c = macro_classes(one_bc4, least) & macro_classes(two_bc4, least)
    kept = np.flatnonzero(kept_c).tolist()
    drawn = is_drawn(other.meta["command"], null_sae_of(other))
    control = Side(two_bc4, _draws(other, class_ids), is_drawn=drawn)
    return side_differences(Side(one_bc4).of(kept), control.of(kept), "macro")[SELECTIVITY]


def _counts(folder: RunFolder) -> PerImage:
    return read_per_image((folder.path / PER_IMAGE_FILE).read_bytes())


def _units(counts: PerImage, class_ids: Sequence[int]) -> np.ndarray:
    images = sorted(counts.images)  # runs are paired by name, not by place
    group_of = dict(zip(counts.images, counts.groups or counts.images, strict=True))
    return sum_groups(counts.on(images, class_ids), [group_of[image] for image in images])


def _draws(folder: RunFolder, class_ids: Sequence[int]) -> np.ndarray | None:
    path = folder.path / DRAWS_FILE
    return read_draws(path.read_text(encoding="utf-8")).on(class_ids) if path.exists() else None
