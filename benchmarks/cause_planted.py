"""python -m benchmarks cause-planted: the causal rules in worlds whose latents' roles are known.

The same as `cause`, in planted worlds: where a class has a driver, where its best detector only
goes along with it, where two latents share it, where another class reads it too, where it has none.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.cause import LEAST_PATCHES, Found, measure
from benchmarks.planted.plan import ROLES, Size, make_plan
from benchmarks.planted.world import MAX_FREQ, write_world
from semseg_cli.runs.rows import Row
from semseg_cli.show.console import show
from semseg_cli.show.tables import Column, Table

APART = 0.05  # of target minus other change: less is no difference
COLUMNS = (
    Column("role", "planted", "text"),
    Column("n", "classes", "count"),
    Column("f1", "F1\nfirst", "ratio"),
    Column("f1_3", "best of\nF1's 3", "ratio"),
    Column("cause", "by\ncause", "ratio"),
    Column("full", "full\nsearch", "ratio"),
    Column("better", "cause\nbetter", "count"),
    Column("worse", "cause\nworse", "count"),
    Column("missed", "both\nmiss", "count"),
)
MEANS = ("f1", "f1_3", "cause", "full")


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser("python -m benchmarks cause-planted", description=__doc__)
    made.add_argument("--worlds", type=int, default=20)
    made.add_argument("--seed", type=int, default=1, help="of the first world")
    made.add_argument("--scale", type=float, default=-2.0)
    made.add_argument("--sample", type=int, help="full search among the listed and so many others")
    return made


def cause_planted(arguments: Sequence[str]) -> None:
    """Measures and prints."""
    given = parser().parse_args(arguments)
    rows: list[Row] = []
    for seed in range(given.seed, given.seed + given.worlds):
        found = in_world(seed, given)
        roles = dict(zip((plan := make_plan(seed)).names, plan.roles, strict=True))
        rows += [{**row, "role": roles[str(row["class"])]} for row in found.rows]
    notes = (
        f"{given.worlds} planted worlds from seed {given.seed}, scale {given.scale:g}: target "
        "minus other change on the validation images, latents chosen on the training images, "
        "classes with 50 predicted patches.",
        f"better, worse: cause against the best of F1's 3, by more than {APART:g}; both miss: "
        "the full search on the training images finds one that is better than either by more.",
    )
    show(Table("Causes in planted worlds", COLUMNS, tuple(by_role(rows)), notes=notes))


def in_world(
    seed: int,
    given: argparse.Namespace,
    size: Size | None = None,
    least: int = LEAST_PATCHES,
) -> Found:
    """What the rules find in the world of a seed, for classes with so many patches at least."""
    asked = argparse.Namespace(**vars(given) | {"max_freq": MAX_FREQ, "seed": seed})
    with tempfile.TemporaryDirectory() as folder:
        session = write_world(Path(folder), make_plan(seed, size)).session(seed=seed)
        return measure(session, asked, least)


def by_role(rows: Sequence[Row]) -> list[Row]:
    """Means and counts over the classes of each planted role, and over all."""
    found: list[Row] = []
    for role in (*ROLES, "all"):
        of_role = [row for row in rows if role in (row["role"], "all")]
        if of_role:
            means = {key: float(np.mean([row[key] for row in of_role])) for key in MEANS}
            found.append({"role": role, "n": len(of_role), **means, **_counts(of_role)})
    return found


def _counts(rows: Sequence[Row]) -> Row:
    gains = [float(row["cause"]) - float(row["f1_3"]) for row in rows]
    best = [max(float(row["cause"]), float(row["f1_3"])) for row in rows]
    return {
        "better": sum(gain > APART for gain in gains),
        "worse": sum(gain < -APART for gain in gains),
        "missed": sum(
            float(row["full"]) - one > APART for row, one in zip(rows, best, strict=True)
        ),
    }
