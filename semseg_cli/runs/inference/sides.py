"""Two runs on the same units, each as it came about: by fixed edits, or drawn class by class.

The one place that decides which test a difference gets, with the luck of a draw where there is one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Real

from semseg_cli.runs.inference.answers import Difference, Interval, Test
from semseg_cli.runs.inference.controls import (
    Scope,
    control_class_differences,
    control_differences,
)
from semseg_cli.runs.inference.measured import MEASURES, Measured, measure
from semseg_cli.runs.inference.paired import (
    class_differences,
    macro_differences,
    pooled_differences,
)

NO_DRAWS = "the draws of the control cannot be read"


@dataclass(frozen=True)
class Side:
    """Counts [units, classes, 4] of a run; units and classes are those of the other side.

    `is_drawn`: something was drawn at random for each class; `draws_rc4` has the counts of several
    draws, `can_draw` says whether there can be more of them, `lacks_draws` that there are several,
    but not known. `rates` are those of the counts, where they are known: of a run that is compared
    with many they are measured once.
    """

    counts_bc4: Real[np.ndarray, "b c 4"]
    draws_rc4: Real[np.ndarray, "r c 4"] | None = None
    is_drawn: bool = False
    can_draw: bool = True
    lacks_draws: bool = False
    rates: Measured | None = None

    @property
    def measured(self) -> Measured:
        """The rates of its classes."""
        return self.rates or measure(self.counts_bc4)

    def of(self, classes: Sequence[int]) -> "Side":
        """The same of some of its classes, by their places."""
        chosen = list(classes)
        return replace(
            self,
            counts_bc4=self.counts_bc4[:, chosen],
            draws_rc4=None if self.draws_rc4 is None else self.draws_rc4[:, chosen],
            rates=None if self.rates is None else self.rates.of(chosen),
        )


def side_differences(one: Side, other: Side, scope: Scope) -> dict[str, Difference]:
    """Per measure `one` minus `other`, of the mean over all classes that are given or of pooled
    numbers."""
    if not other.is_drawn and one.is_drawn:
        turned = side_differences(other, one, scope)
        return {name: reversed_difference(found) for name, found in turned.items()}
    if not other.is_drawn and scope == "pooled":
        return pooled_differences(one.counts_bc4, other.counts_bc4)
    rates = one.measured, other.measured
    if not other.is_drawn:
        return macro_differences(one.counts_bc4, other.counts_bc4, rates=rates)
    found = control_differences(
        one.counts_bc4, other.counts_bc4, other.draws_rc4, scope=scope,
        is_draw=one.is_drawn, can_draw=other.can_draw, rates=rates,
    )  # fmt: skip
    return {name: _known(made, other) for name, made in found.items()}


def side_class_differences(one: Side, other: Side) -> dict[str, list[Difference]]:
    """The same of every class by itself."""
    if not other.is_drawn and one.is_drawn:
        turned = side_class_differences(other, one)
        return {name: [reversed_difference(found) for found in turned[name]] for name in MEASURES}
    if not other.is_drawn:
        return class_differences(one.counts_bc4, other.counts_bc4)
    made = control_class_differences(
        one.counts_bc4, other.counts_bc4, other.draws_rc4,
        is_draw=one.is_drawn, can_draw=other.can_draw,
    )  # fmt: skip
    return {name: [_known(found, other) for found in made[name]] for name in MEASURES}


def _known(found: Difference, drawn: Side) -> Difference:
    """Nothing but the value where there are several draws and they are not known."""
    if not drawn.lacks_draws:
        return found
    bare = replace(found.interval, lo=None, hi=None, n_eff=None, reason=NO_DRAWS)
    return Difference(bare, Test(None, found.test.method, NO_DRAWS))


def reversed_difference(found: Difference) -> Difference:
    """The other minus the one."""
    i = found.interval
    turned = Interval(
        _minus(i.value), _minus(i.hi), _minus(i.lo), i.n_eff, i.n_images, i.method, i.reason
    )
    return Difference(turned, found.test)


def _minus(value: float | None) -> float | None:
    return None if value is None else -value
