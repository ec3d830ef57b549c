"""What the files of runs say, each read once. No torch, no mlflow until a store is read."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from semseg_cli import tracking
from semseg_cli.errors import SemsegError
from semseg_cli.readers import parse_json, text_of
from semseg_cli.runs.class_rows import parse_class_rows
from semseg_cli.runs.folder import CLASSES_FILE, DRAWS_FILE, PER_IMAGE_FILE, REPORT_FILE
from semseg_cli.runs.outcomes import COLUMNS
from semseg_cli.runs.per_image import (
    COUNTED,
    Draws,
    PerImage,
    read_draws,
    read_per_image,
    read_sums,
)
from semseg_cli.runs.report import Report
from semseg_cli.runs.report_json import report_of
from semseg_cli.runs.rows import parse_number
from semseg_cli.show.run_notes import listed
from semseg_cli.tracking.tracked_run import RESULT_FILES, TrackedRun

T = TypeVar("T")
_WITHOUT = {
    PER_IMAGE_FILE: "no differences, and no intervals that were not logged",
    CLASSES_FILE: "no classes",
    DRAWS_FILE: "no p value against the draws",
    REPORT_FILE: "not known which classes are left out",
}


class Artifacts:
    """Reads artifacts of runs, each once, and remembers those that it could not read."""

    def __init__(self) -> None:
        self._read: dict[tuple[str, str], Any] = {}
        self._missing: dict[str, list[str]] = {}

    def per_image(self, run: TrackedRun) -> PerImage | None:
        """The counts per image and class."""
        return self._get(run, PER_IMAGE_FILE, read_per_image)

    def outcomes(self, run: TrackedRun) -> dict[str, np.ndarray] | None:
        """The sums [images, classes] that outcomes are made of, and the counts, in their order."""
        counts = self.per_image(run)
        if counts is None:
            return None

        def parse(data: bytes) -> dict[str, np.ndarray]:
            made = dict(zip(COUNTED, np.moveaxis(counts.counts_bc4, -1, 0), strict=True))
            return made | read_sums(data, counts, COLUMNS)

        return self._get(run, PER_IMAGE_FILE, parse, "outcomes")

    def classes(self, run: TrackedRun) -> list[dict[str, Any]]:
        """The rows of class_results.csv; none where it cannot be read."""
        return self._get(run, CLASSES_FILE, _read_classes) or []

    def draws(self, run: TrackedRun) -> Draws | None:
        """The counts of every draw of a control that was drawn several times."""
        if n_draws(run) == 1:
            return None
        return self._get(run, DRAWS_FILE, _read_draws)

    def report(self, run: TrackedRun) -> Report | None:
        """The report."""
        return self._get(run, REPORT_FILE, _read_report)

    def _get(
        self, run: TrackedRun, name: str, parse: Callable[[bytes], T], part: str = ""
    ) -> T | None:
        key = (run.run_id, name + part)
        if key not in self._read:
            path = f"results/{name}" if name in RESULT_FILES else name
            try:
                self._read[key] = parse(tracking.read_artifact(run, path))
            except SemsegError:
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


def _read_classes(data: bytes) -> list[dict[str, Any]]:
    return parse_class_rows(text_of(data, CLASSES_FILE, ""))


def _read_draws(data: bytes) -> Draws:
    return read_draws(text_of(data, DRAWS_FILE, ""))


def _read_report(data: bytes) -> Report:
    return report_of(parse_json(data, REPORT_FILE, ""), REPORT_FILE)


def n_draws(run: TrackedRun) -> int:
    """How many draws the counts of a run are summed over."""
    asked = parse_number(run.params.get("draws", ""))
    return int(run.metrics.get("n_draws", asked if isinstance(asked, int) else 1))


def least_in_a_draw(run: TrackedRun) -> int:
    """The least number of original patches of a class that says something, in one draw; at least
    one."""
    value = parse_number(run.params.get("min_patches", ""))
    return max(1, value if isinstance(value, int) else 0)


def least_patches(run: TrackedRun) -> int:
    """The same over all draws of the run."""
    return least_in_a_draw(run) * n_draws(run)
