"""Which test two sides get, in either order."""

import numpy as np
import pytest
from test_inference import made

from semseg_cli.runs.inference import (
    Side,
    class_differences,
    control_class_differences,
    control_differences,
    macro_differences,
    pooled_differences,
    side_class_differences,
    side_differences,
)
from semseg_cli.runs.inference.controls import Scope
from semseg_cli.runs.inference.sides import NO_DRAWS

ONE, OTHER = made(1), made(2, rate=0.4)
DRAWS = np.stack([made(seed, rate=0.4).sum(axis=0) for seed in range(6)])
FIXED, DRAWN = Side(ONE), Side(6 * OTHER, DRAWS, is_drawn=True)


@pytest.mark.parametrize("scope", ["macro", "pooled"])
def test_fixed_runs_are_paired_and_drawn_ones_hold_their_luck(scope: Scope) -> None:
    paired = macro_differences(ONE, OTHER) if scope == "macro" else pooled_differences(ONE, OTHER)
    assert side_differences(FIXED, Side(OTHER), scope) == paired
    want = control_differences(ONE, 6 * OTHER, DRAWS, scope=scope)
    assert side_differences(FIXED, DRAWN, scope) == want


def test_the_other_way_round_the_signs_turn_and_p_stays() -> None:
    there, back = (side_differences(*sides, "macro") for sides in ((FIXED, DRAWN), (DRAWN, FIXED)))
    for name, made_there in there.items():
        i, j = made_there.interval, back[name].interval
        assert (i.value, i.lo, i.hi) == (-(j.value or 0), -(j.hi or 0), -(j.lo or 0))
        assert made_there.test == back[name].test


def test_classes_are_tested_alike() -> None:
    assert side_class_differences(FIXED, Side(OTHER)) == class_differences(ONE, OTHER)
    want = control_class_differences(ONE, 6 * OTHER, DRAWS)
    assert side_class_differences(FIXED, DRAWN) == want
    turned = side_class_differences(DRAWN, FIXED)["selectivity"]
    assert [one.interval.lo for one in turned] == [
        -(one.interval.hi or 0) for one in want["selectivity"]
    ]


def test_draws_that_are_not_known_leave_the_value_alone() -> None:
    lacking = Side(6 * OTHER, None, is_drawn=True, lacks_draws=True)
    found = side_differences(FIXED, lacking, "macro")["selectivity"]
    assert found.interval.value is not None
    assert (found.interval.lo, found.test.p) == (None, None)
    assert found.interval.reason == found.test.reason == NO_DRAWS


def test_some_of_the_classes_are_taken_of_counts_and_draws() -> None:
    found = DRAWN.of([0, 2])
    assert np.array_equal(found.counts_bc4, 6 * OTHER[:, [0, 2]])
    assert found.draws_rc4 is not None
    assert np.array_equal(found.draws_rc4, DRAWS[:, [0, 2]])
