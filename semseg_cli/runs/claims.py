"""What a calibration comes to, in words and as a file."""

import math
from collections.abc import Collection, Mapping, Sequence

from semseg_cli.runs.calibration import Standing, alone, n_causal, n_judged
from semseg_cli.runs.inference.answers import ALPHA
from semseg_cli.runs.rows import csv_text


def calibration_text(standings: Sequence[Standing]) -> str:
    """The text of calibration.csv: one row per class."""
    return csv_text(standing.to_row() for standing in standings)


def headline(standings: Sequence[Standing]) -> str:
    """What a calibration comes to, in one sentence."""
    return headline_of(n_causal(standings), n_judged(standings))


def headline_of(n_claimed: int, n_all: int) -> str:
    """The same from the numbers of classes claimed and judged."""
    if not n_all:
        return "No class has enough predicted patches to be judged."
    return f"For {n_claimed} of {_classes(n_all)} the latent passes every check."


def _classes(n: int) -> str:
    return f"{n} class{'es' * (n != 1)}"


def reach_note(n_classes: int, n_nulls: Mapping[str, int], spent: Collection[str] = ()) -> str:
    """How many classes are claimed at once, if any, where so few nulls let none be alone; else "".

    `n_nulls` has the number of each kind by the option that raises it; the fewest decide. Those of
    the options in `spent` are all that there are.
    """
    needed, fewest = alone(n_classes), min(n_nulls.values(), default=0)
    if fewest >= needed or not n_classes:
        return ""
    together = math.ceil(n_classes / (ALPHA * (1 + fewest)) - 1e-9)
    who = f"none is claimed unless {together} are" if together <= n_classes else "none is claimed"
    short = [option for option, n in n_nulls.items() if n < needed]
    help = f"For one alone: {' '.join(f'{option} {needed}' for option in short)}."
    if not set(short).isdisjoint(spent):
        help = "No more latents are live."
    return (
        f"{fewest} nulls give no p below {1 / (1 + fewest):.3g}: corrected over "
        f"{_classes(n_classes)}, {who}. {help}"
    )
