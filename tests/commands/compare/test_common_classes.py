"""Which classes the runs of a comparison have in common, against an obvious version."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

import pytest

from semseg_cli.commands.compare.artifacts import Artifacts
from semseg_cli.commands.compare.over_classes import common_classes
from semseg_cli.tracking.tracked_run import TrackedRun


@dataclass(frozen=True)
class Counts:
    """All that is asked of counts here."""

    class_ids: Sequence[int]


@dataclass(frozen=True)
class Files:
    """Counts by run id; None where they cannot be read."""

    counts: dict[str, Counts | None]

    def per_image(self, run: TrackedRun) -> Counts | None:
        return self.counts[run.run_id]


def run_on(run_id: str, images: str) -> TrackedRun:
    tags = {"semseg.digest.evaluation": images} if images else {}
    return TrackedRun(
        run_id, run_id, "", "FINISHED", datetime(2026, 1, 1, tzinfo=UTC), "", tags=tags
    )


def obvious(runs: Sequence[TrackedRun], files: Files) -> dict[str, list[int]]:
    found = {}
    for run in runs:
        own = files.counts[run.run_id]
        if own is None:
            continue
        others = [files.counts[one.run_id] for one in runs if one.tags == run.tags]
        shared = [
            class_id
            for class_id in own.class_ids
            if all(other is None or class_id in other.class_ids for other in others)
        ]
        found[run.run_id] = shared or list(own.class_ids)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_common_classes_are_those_of_all_runs_on_the_same_images(seed: int) -> None:
    draw = random.Random(seed)
    runs = [run_on(f"r{i}", draw.choice(["a", "b", ""])) for i in range(draw.randint(1, 8))]
    counts = {
        run.run_id: draw.choice([None, *[Counts(draw.sample(range(6), draw.randint(1, 6)))] * 4])
        for run in runs
    }
    found = common_classes(runs, cast("Artifacts", Files(counts)))
    assert found == obvious(runs, Files(counts))
