"""What the artifacts of runs say about how sure their numbers are: intervals, differences, draws.

An artifact that is missing takes nothing from the rest; it is noted. No torch, no mlflow until a
store is read.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from semseg_cli import tracking
from semseg_cli.errors import SemsegError
from semseg_cli.runs import bootstrap
from semseg_cli.runs.bootstrap import MEASURES, Difference
from semseg_cli.runs.folder import CLASSES_FILE, DRAWS_FILE, PER_IMAGE_FILE
from semseg_cli.runs.per_image import POOLED, Draws, PerImage, read_draws, read_per_image
from semseg_cli.runs.rows import parse_number, parse_rows
from semseg_cli.tracking.tracked_run import TrackedRun

T = TypeVar("T")
# What must be the same for two runs to measure the same thing: tag, and how we call it.
SAME = {
    "digest.evaluation": "images",
    "digest.sae": "SAE",
    "digest.vit": "ViT",
    "digest.head": "head",
}
_WITHOUT = {
    PER_IMAGE_FILE: "no differences, and no intervals that were not logged",
    CLASSES_FILE: "no classes",
    DRAWS_FILE: "no p value against the draws",
}


class Artifacts:
    """Reads artifacts of runs, each once, and remembers those that it could not read."""

    def __init__(self) -> None:
        self._read: dict[tuple[str, str], Any] = {}
        self._missing: dict[str, list[str]] = {}

    def per_image(self, run: TrackedRun) -> PerImage | None:
        """The counts per image and class."""
        return self._get(run, PER_IMAGE_FILE, read_per_image)

    def classes(self, run: TrackedRun) -> list[dict[str, Any]]:
        """The rows of class_results.csv; none where it cannot be read."""
        return self._get(run, CLASSES_FILE, lambda data: parse_rows(data.decode())) or []

    def draws(self, run: TrackedRun) -> Draws | None:
        """The counts of every draw of a control that was drawn several times."""
        if n_draws(run) == 1:
            return None
        return self._get(run, DRAWS_FILE, lambda data: read_draws(data.decode()))

    def null_range(self, run: TrackedRun) -> tuple[float, float, float] | None:
        """The 2.5%, 50% and 97.5% quantiles of the selectivity over the draws of a control."""
        draws = self.draws(run)
        if draws is None:
            return None
        counts = draws.on(draws.classes or (POOLED,)).sum(axis=1)
        return bootstrap.null_range(bootstrap.measures(counts)["selectivity"].tolist())

    def _get(self, run: TrackedRun, name: str, parse: Callable[[bytes], T]) -> T | None:
        key = (run.run_id, name)
        if key not in self._read:
            try:
                self._read[key] = parse(tracking.read_artifact(run, f"results/{name}"))
            except (SemsegError, UnicodeDecodeError):
                self._read[key] = None
                self._missing.setdefault(name, []).append(run.name)
        found: T | None = self._read[key]
        return found

    def notes(self) -> list[str]:
        """One sentence per kind of artifact that could not be read."""
        return [
            f"{name} of {listed(runs)} cannot be read: {_WITHOUT[name]}."
            for name, runs in self._missing.items()
        ]


def listed(names: Sequence[str], most: int = 3) -> str:
    """The first names, and that there are more."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def n_draws(run: TrackedRun) -> int:
    """How many draws the counts of a run are summed over."""
    asked = parse_number(run.params.get("draws", ""))
    return int(run.metrics.get("n_draws", asked if isinstance(asked, int) else 1))


def min_patches(run: TrackedRun) -> int:
    """The least number of original patches of a class that says something; 0 if not known."""
    value = parse_number(run.params.get("min_patches", ""))
    return value if isinstance(value, int) else 0


def unlike(one: TrackedRun, other: TrackedRun) -> list[str]:
    """What keeps two runs from measuring the same thing."""
    found = [what for tag, what in SAME.items() if one.tag(tag) != other.tag(tag)]
    return found + ["protocol"] * (one.tag("protocol") != other.tag("protocol"))


@dataclass(frozen=True)
class Pair:
    """The counts of a run and of its baseline, on the same images, and the classes of both."""

    run: PerImage
    baseline: PerImage
    class_ids: list[int]

    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Both counts [images, classes, 4] of the same images and classes in the same order."""
        images = self.run.images
        return self.run.on(images, self.class_ids), self.baseline.on(images, self.class_ids)


def pair(run: TrackedRun, baseline: TrackedRun | None, artifacts: Artifacts) -> Pair | None:
    """The two runs to compare image by image; None unless they measure the same thing."""
    if baseline is None or run.run_id == baseline.run_id or unlike(run, baseline):
        return None
    one, other = artifacts.per_image(run), artifacts.per_image(baseline)
    if one is None or other is None or set(one.images) != set(other.images):
        return None
    common = [class_id for class_id in one.class_ids if class_id in other.class_ids]
    return Pair(one, other, common) if common else None


def run_values(
    runs: Sequence[TrackedRun],
    baselines: Mapping[str, TrackedRun],
    artifacts: Artifacts,
    n_resamples: int,
) -> dict[str, dict[str, Any]]:
    """Per run id what goes into its row beside its metrics: intervals, differences, p values."""
    values = {run.run_id: _intervals(run, artifacts, n_resamples) for run in runs}
    pairs = {}
    for run in runs:
        found = pair(run, baselines.get(run.run_id), artifacts)
        if found is not None:
            pairs[run.run_id] = found
            values[run.run_id]["baseline"] = baselines[run.run_id].name
    for run_id, made in _paired(pairs, n_resamples).items():
        values[run_id] |= made
    for run in runs:
        values[run.run_id] |= _against_draws(run, baselines.get(run.run_id), artifacts)
    return values


def _intervals(run: TrackedRun, artifacts: Artifacts, n_resamples: int) -> dict[str, Any]:
    if "selectivity_lo" in run.metrics or "selectivity" not in run.metrics:
        return {}
    counts = artifacts.per_image(run)
    if counts is None:
        return {}
    least = min_patches(run) * n_draws(run)
    return dict(bootstrap.intervals(counts.counts_bc4, least, n_resamples=n_resamples))


def _paired(pairs: Mapping[str, Pair], n_resamples: int) -> dict[str, dict[str, Any]]:
    """Pooled differences of all pairs; those on the same images share one resampling."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for run_id, one in pairs.items():
        groups.setdefault(one.run.images, []).append(run_id)
    found: dict[str, dict[str, Any]] = {}
    for run_ids in groups.values():
        counts = [pairs[run_id].counts() for run_id in run_ids]
        ones, others = (
            np.stack([both[side].sum(axis=1) for both in counts], axis=1) for side in (0, 1)
        )
        made = bootstrap.differences(ones, others, n_resamples=n_resamples)
        for k, run_id in enumerate(run_ids):
            found[run_id] = {}
            for name in MEASURES:
                found[run_id] |= as_values(name, made[name][k])
    return found


def as_values(name: str, made: Difference) -> dict[str, float | None]:
    """A difference as entries of a row; None for what is not defined."""
    entries = {
        f"{name}_difference": made.value,
        f"{name}_difference_lo": made.lo,
        f"{name}_difference_hi": made.hi,
        f"{name}_p": made.p_value,
    }
    return {key: defined(value) for key, value in entries.items()}


def defined(value: float) -> float | None:
    """The value; None for NaN, which JSON does not have."""
    return None if math.isnan(value) else float(value)


def _against_draws(
    run: TrackedRun, baseline: TrackedRun | None, artifacts: Artifacts
) -> dict[str, Any]:
    if baseline is None or run.run_id == baseline.run_id or unlike(run, baseline):
        return {}
    draws, counts = artifacts.draws(baseline), artifacts.per_image(run)
    if draws is None:
        return {}
    common = [c for c in draws.classes if counts is not None and c in counts.class_ids]
    if common and counts is not None:
        pooled = bootstrap.measures(counts.on(counts.images, common).sum(axis=(0, 1)))
        seen = float(pooled["selectivity"])
        drawn = bootstrap.measures(draws.on(common).sum(axis=1))["selectivity"]
    elif POOLED in draws.class_ids and "selectivity" in run.metrics:
        seen = run.metrics["selectivity"]
        drawn = bootstrap.measures(draws.on([POOLED])[:, 0])["selectivity"]
    else:
        return {}
    return {"p_draws": bootstrap.draws_p(seen, drawn.tolist())}
