"""Methods against controls that are drawn at random: how often equal ones are called different."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.trust import worlds
from semseg_cli.runs.inference import Difference, control_class_differences, control_differences

N_IMAGES = (20, 100)


@dataclass(frozen=True)
class ControlErrors:
    """How often true nulls are rejected at .05, by the p value and by the interval."""

    setting: str
    test: str
    n_classes: int
    n_draws: int
    n_images: int
    by_p: float
    by_interval: float
    n_printed: int


def control_errors(seed: int, n_replicates: int) -> Iterator[ControlErrors]:
    """All that is printed against a control: one draw per class, several."""
    draw = np.random.default_rng(seed)
    for n in N_IMAGES:
        for n_classes in (10, 30, 150):
            yield _errors(draw, n, n_classes, 1, "draw", n_replicates)
        for kind in ("draw", "expectation"):
            for n_classes, n_draws in ((10, 2), (10, 5), (1, 6), (3, 6)):
                yield _errors(draw, n, n_classes, n_draws, kind, n_replicates)
        yield _errors(draw, n, 30, 1, "expectation", n_replicates)


def _errors(
    draw: np.random.Generator, n: int, n_classes: int, n_draws: int, kind: str, n_replicates: int
) -> ControlErrors:
    found = [
        _selectivity(draw, n, n_classes, n_draws, kind, replicate)
        for replicate in range(n_replicates)
    ]
    tests = [one.test for one in found if one.test.p is not None]
    apart = [one.interval.excludes_zero for one in found if one.interval.is_printed]
    return ControlErrors(
        _SETTINGS[kind], " ".join({test.method for test in tests}), n_classes, n_draws, n,
        float(np.mean([test.p is not None and test.p <= 0.05 for test in tests])),
        float(np.mean(apart)), len(tests),
    )  # fmt: skip


_SETTINGS = {
    "draw": "method is a draw",
    "expectation": "method at the mean of the draws",
}


def _selectivity(
    draw: np.random.Generator, n: int, n_classes: int, n_draws: int, kind: str, seed: int
) -> Difference:
    method, drawn = worlds.control(draw, n, n_classes, n_draws, kind)
    counts = method, drawn.sum(axis=0), drawn.sum(axis=1)
    if n_classes == 1:
        return control_class_differences(*counts, is_draw=kind == "draw", seed=seed)["selectivity"][
            0
        ]
    return control_differences(
        *counts,
        is_draw=kind == "draw" and n_draws > 1,
        seed=seed,
    )["selectivity"]
