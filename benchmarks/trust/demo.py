"""One control against itself on the demo world: 28 pairs of `rand-feat` with seeds 1 to 8."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import numpy as np
from jaxtyping import Int64

from semseg_cli.experiment.run import run
from semseg_cli.experiment.session import open_session
from semseg_cli.quantitative import Quantitative, filled
from semseg_cli.runs.inference import Difference, control_differences, macro_differences
from semseg_cli.settings.controls import RandFeat

SEEDS = range(1, 9)


def control_counts(say: Callable[[str], None]) -> list[Int64[np.ndarray, "b c 4"]]:
    """Counts [images, classes, 4] of each run, as the engine makes them."""
    session = open_session(filled(Quantitative()))
    found = []
    for seed in SEEDS:
        say(f"rand-feat with seed {seed} on the demo world")
        session.setup = replace(session.setup, seed=seed)
        (outcome,) = run(session, [RandFeat(match="none")], {})
        found.append(outcome.counts.per_image.numpy())
    return found


def same_control(
    runs: list[Int64[np.ndarray, "b c 4"]],
) -> list[tuple[str, Difference, Difference]]:
    """Per pair of runs: its name, the difference with the swap test, and by images alone."""
    return [
        (
            f"{i + 1} and {j + 1}",
            control_differences(one, other, is_draw=True)["selectivity"],
            macro_differences(one, other)["selectivity"],
        )
        for (i, one), (j, other) in combinations(enumerate(runs), 2)
    ]
