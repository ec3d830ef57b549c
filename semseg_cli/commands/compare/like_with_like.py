"""Which runs measure the same thing, and on what they do. No torch, no mlflow."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from semseg_cli.commands.compare.artifacts import Artifacts, least_patches, n_draws
from semseg_cli.commands.compare.dictionaries import (
    MOST_RUNS,
    dictionaries_apart,
    edits_latents,
    places_apart,
)
from semseg_cli.commands.compare.over_classes import edit_length
from semseg_cli.commands.compare.units import Units
from semseg_cli.runs.inference import Side, measure, sum_groups
from semseg_cli.runs.outcomes import are_as_long
from semseg_cli.runs.per_image import PerImage, on_same_images
from semseg_cli.settings import methods
from semseg_cli.settings.controls import RandFeat
from semseg_cli.show.tables import cell
from semseg_cli.tracking.tracked_run import TrackedRun, setting_of

# What must be the same for two runs to measure the same thing: tag, and how we call it.
SAME = {"digest.evaluation": "images", "digest.vit": "ViT", "digest.head": "head"}


def unlike(one: TrackedRun, other: TrackedRun) -> list[str]:
    """What keeps two runs from measuring the same thing."""
    sides = zip((*SAME.values(), "protocol"), _measured(one), _measured(other), strict=True)
    return [what for what, a, b in sides if a != b]


@lru_cache(maxsize=MOST_RUNS)
def _measured(run: TrackedRun) -> tuple[str | None, ...]:
    return tuple(run.tag(tag) for tag in (*SAME, "protocol"))


def are_matched(one: TrackedRun, other: TrackedRun) -> bool:
    """Whether the edits of both are near enough in length to be one dose.

    At one place lengths are in units of its residuals; of two places each is taken by the length of
    its own residuals.
    """
    key = _length_of(one, other)
    return _are_one_dose(one.metrics.get(key), other.metrics.get(key))


def _are_one_dose(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and are_as_long([one, other])


def _length_of(one: TrackedRun, other: TrackedRun) -> str:
    return "edit_ratio" if places_apart(one, other) else "edit_norm"


def lengths_apart(
    one: TrackedRun, other: TrackedRun, class_ids: Sequence[int], artifacts: Artifacts
) -> str:
    """Both lengths of the edits of these classes where they are too unlike for one dose, or not
    known; else ''."""
    key = _length_of(one, other)
    a, b = (edit_length(run, key, class_ids, artifacts) for run in (one, other))
    if _are_one_dose(a, b):
        return ""
    by = " by the residual's" if key == "edit_ratio" else ""
    return f"not matched in length{by} ({cell(a)} vs {cell(b)})"


def is_drawn(run: TrackedRun) -> bool:
    """Whether the run drew something at random for each class."""
    return methods.is_drawn(run.tag("method") or "", str(setting_of(run, "control")))


def can_draw(run: TrackedRun) -> bool:
    """Whether what is drawn for each class can be drawn more often in one run (`--draws`)."""
    return run.tag("method") == RandFeat.command


@dataclass(frozen=True)
class Pair:
    """A run and its baseline, on the same units and classes in the same order.

    `between`: in what their dictionaries differ. `unmatched` has both edit lengths where they are
    unlike. Two dictionaries are tested nevertheless, since how far the scale goes is a dictionary's
    own; else another length is another dose, and there is no p.
    """

    run: TrackedRun
    baseline: TrackedRun
    class_ids: list[int]
    one: Side
    other: Side
    between: tuple[str, ...] = ()
    unmatched: str = ""
    groups: tuple[str, ...] | None = None  # of the images in the order of their names

    @property
    def apart(self) -> str:
        """Why the difference has no p; '' where it has one."""
        is_of_dictionaries = self.between and edits_latents(self.run)
        return "" if is_of_dictionaries and edits_latents(self.baseline) else self.unmatched

    @property
    def is_tested_c(self) -> np.ndarray:
        """Whether a class has enough patches in both runs."""
        enough = [
            side.counts_bc4[..., 0].sum(axis=0) >= least_patches(run)
            for run, side in ((self.run, self.one), (self.baseline, self.other))
        ]
        return enough[0] & enough[1]

    def of(self, class_ids: Sequence[int]) -> "Pair":
        """The pair on those of its classes that are among these."""
        kept = [k for k, class_id in enumerate(self.class_ids) if class_id in class_ids]
        if len(kept) == len(self.class_ids):
            return self
        ids = [self.class_ids[k] for k in kept]
        return replace(self, class_ids=ids, one=self.one.of(kept), other=self.other.of(kept))


def in_words(what: str) -> str:
    """How a run is called that differs in it."""
    return "other images" if what == "images" else f"another {what}"


def unpaired(
    run: TrackedRun,
    baseline: TrackedRun,
    artifacts: Artifacts,
    among: Sequence[int] | None = None,
) -> str:
    """Why two runs cannot be compared unit by unit, over all of these classes where they are given;
    '' where they can."""
    if found := unlike(run, baseline):
        return ", ".join(map(in_words, found))
    one, other = artifacts.per_image(run), artifacts.per_image(baseline)
    if one is None or other is None:
        return "counts by image cannot be read"
    if set(one.images) != set(other.images):
        return "other images by name"
    if not set(one.class_ids) & set(other.class_ids):
        return "no class in common"
    return "" if among is None or set(among) <= set(other.class_ids) else "fewer classes"


def pair(
    run: TrackedRun,
    baseline: TrackedRun | None,
    artifacts: Artifacts,
    units: Units,
    among: Sequence[int] | None = None,
) -> Pair | None:
    """The two runs to compare unit by unit, over these classes, else those that both have; None
    unless they measure the same thing."""
    if baseline is None or run.run_id == baseline.run_id:
        return None
    if unpaired(run, baseline, artifacts, among):
        return None
    one, other = artifacts.per_image(run), artifacts.per_image(baseline)
    assert one is not None
    assert other is not None
    one, other = on_same_images(one, other)
    common = [c for c in one.class_ids if c in (other.class_ids if among is None else among)]
    told = one if one.groups is not None else other
    groups = units.by_name(told)
    first, second = (
        side(of, counts, groups, tuple(common), artifacts)
        for of, counts in ((run, one), (baseline, other))
    )
    between = tuple(dictionaries_apart(run, baseline))
    unmatched = lengths_apart(run, baseline, common, artifacts)
    told_groups = None if units.groups(told) is None else groups
    return Pair(run, baseline, common, first, second, between, unmatched, told_groups)


@lru_cache(maxsize=4)  # a run, its baseline, and both again over other classes
def side(
    run: TrackedRun,
    counts: PerImage,
    groups: tuple[str, ...],
    class_ids: tuple[int, ...],
    artifacts: Artifacts,
) -> Side:
    """A run's counts of these classes with their rates, which take the longest; `groups` has the
    group of each image in the order of the images' names."""
    counts_bc4 = sum_groups(counts.on(sorted(counts.images), class_ids), groups)
    rates = measure(counts_bc4)
    if not is_drawn(run):
        return Side(counts_bc4, rates=rates)
    draws = artifacts.draws(run)
    return Side(
        counts_bc4,
        None if draws is None else draws.on(class_ids),
        is_drawn=True,
        can_draw=can_draw(run),
        lacks_draws=n_draws(run) > 1 and draws is None,
        rates=rates,
    )
