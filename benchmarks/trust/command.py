"""python -m benchmarks trust: coverage and errors of all that is printed, and the promises kept."""

import argparse
import contextlib
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import jaxtyping
import numpy as np

from benchmarks.trust import accepted, coverage, draws, pairs
from benchmarks.trust.accepted import Check
from benchmarks.trust.coverage import Cell
from benchmarks.trust.draws import ControlErrors
from benchmarks.trust.pairs import Errors
from semseg_cli.show.console import show
from semseg_cli.show.tables import Column, Table

SEED = 2026
N = {
    "rate": 1000,
    "selectivity": 1000,
    "classes": 400,
    "difference": 500,
    "flip": 1500,
    "draw": 400,
    "sampled": 120,
    "sampled flip": 300,
}
T = TypeVar("T")


def trust(arguments: Sequence[str]) -> bool:
    """Measures and prints; whether every promise is kept."""
    given = parser().parse_args(arguments)
    begin = time.process_time()
    with without_shape_checks():
        cells, flips, controls, checks = simulated(given.seed, given.share)
        checks += accepted.of_size(given.seed)
    notes = [f"Seed {given.seed}, {given.share:g} of the replicates."]
    if given.demo:
        found, note = on_demo()
        checks += found
        notes.append(note)
    notes.append(f"{time.process_time() - begin:.0f} s of processor time.")
    made = (*interval_tables(cells), flip_table(flips), control_table(controls))
    for table in (*made, check_table(checks, notes)):
        show(table, given.format)
        print()
    return all(check.is_kept for check in checks)


@contextlib.contextmanager
def without_shape_checks() -> Iterator[None]:
    """Leaves out the checks of shapes, which are half the time of small arrays."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


def on_demo() -> tuple[list[Check], str]:
    """What is promised of one control against itself, and what a test by images alone says."""
    from benchmarks.trust import demo  # loads torch

    found = demo.same_control(demo.control_counts(say))
    return accepted.of_demo(found), (
        f"A test that holds the drawn latents fixed calls {accepted.by_images_alone(found)} of "
        f"the {len(found)} pairs of rand-feat different."
    )


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser("python -m benchmarks trust", description=__doc__)
    made.add_argument("--seed", type=int, default=SEED)
    made.add_argument(
        "--share", type=float, default=1.0, help="of the replicates, for a quick look"
    )
    made.add_argument(
        "--demo", action=argparse.BooleanOptionalAction, default=True,
        help="28 pairs of rand-feat on the demo world",
    )  # fmt: skip
    made.add_argument("--markdown", dest="format", action="store_const", const="markdown")
    made.set_defaults(format="table")
    return made


def simulated(
    seed: int, share: float
) -> tuple[list[Cell], list[Errors], list[ControlErrors], list[Check]]:
    """All simulations, and the promises that they are about."""
    n = {name: max(20, round(share * full)) for name, full in N.items()}
    rates = measured("rates", coverage.rate_cells(seed, n["rate"]))
    cells = [
        *rates,
        *measured("groups", coverage.group_cells(seed + 1, n["rate"])),
        *measured("selectivity", coverage.selectivity_cells(seed + 2, n["selectivity"])),
        *measured("macro, pooled", coverage.class_set_cells(seed + 3, n["classes"])),
        *measured("differences", pairs.difference_cells(seed + 4, n["difference"])),
        *measured("means of values", coverage.mean_cells(seed + 5, n["rate"])),
    ]
    flips = [
        *measured("flip test", pairs.flip_errors(seed + 6, n["flip"])),
        *measured("flip test of means", pairs.macro_flip_errors(seed + 7, n["draw"])),
    ]
    controls = measured("controls", draws.control_errors(seed + 8, n["draw"]))
    from benchmarks.trust import sampled  # loads torch

    made = measured("samples of other images", sampled.sampled_cells(seed + 9, n["sampled"]))
    of_samples = [cell for found, _ in made for cell in found]
    n_alarms = sampled.false_alarms(seed + 10, n["sampled flip"])
    cells += of_samples
    checks = accepted.of_rates(rates) + accepted.of_intervals(cells)
    checks += accepted.of_flips(flips) + accepted.of_controls(controls)
    checks += accepted.of_samples(of_samples, [saved for _, saved in made], n_alarms)
    return cells, flips, controls, checks


def measured(what: str, cells: Iterable[T | None]) -> list[T]:
    """The cells in which something is printed."""
    say(what)
    return [cell for cell in cells if cell is not None]


def say(text: str) -> None:
    """What is being measured, on stderr."""
    print(text, file=sys.stderr, flush=True)


def interval_tables(cells: Sequence[Cell]) -> list[Table]:
    """Coverage by kind of number and images: the worst cell and the mean."""
    sizes = sorted({cell.n_images for cell in cells})
    kinds = list(dict.fromkeys(cell.what for cell in cells))
    columns = (
        Column("what", "interval of", "text"),
        *(Column(str(n), f"{n} images", "text") for n in sizes),
    )
    covered, wide = [], []
    for kind in kinds:
        of_kind = {n: [c for c in cells if (c.what, c.n_images) == (kind, n)] for n in sizes}
        covered.append({"what": kind} | {str(n): _covered(found) for n, found in of_kind.items()})
        wide.append({"what": kind} | {str(n): _width(found) for n, found in of_kind.items()})
    return [
        Table("Coverage of 95% intervals: worst cell (mean)", columns, tuple(covered)),
        Table("Mean width", columns, tuple(wide)),
    ]


def _covered(cells: Sequence[Cell]) -> str:
    if not cells:
        return "-"
    found = [cell.coverage for cell in cells]
    return f"{min(found):.2f} ({np.mean(found):.2f})"


def _width(cells: Sequence[Cell]) -> str:
    return f"{np.mean([cell.width for cell in cells]):.2f}" if cells else "-"


def flip_table(errors: Sequence[Errors]) -> Table:
    """The flip test's errors."""
    columns = (
        Column("setting", "runs", "text"),
        Column("n_images", "images", "count"),
        Column("rate", "rate", "setting"),
        Column("rejected", "p <= .05"),
        Column("starred", "starred"),
        Column("printed", "p printed", "count"),
    )
    rows = [vars(one) | {"printed": one.n_printed} for one in errors]
    return Table("Equal runs on the same images", columns, tuple(rows))


def control_table(errors: Sequence[ControlErrors]) -> Table:
    """Errors against controls."""
    columns = (
        Column("setting", "null", "text"),
        Column("n_classes", "classes", "count"),
        Column("n_draws", "draws", "count"),
        Column("n_images", "images", "count"),
        Column("test", "test", "text"),
        Column("by_p", "p <= .05"),
        Column("by_interval", "interval without 0"),
    )
    return Table("Controls drawn at random", columns, tuple(vars(one) for one in errors))


def check_table(checks: Sequence[Check], notes: Sequence[str]) -> Table:
    """What is promised."""
    columns = (
        Column("promise", "promise", "text", elastic=True),
        Column("found", "found", "text", elastic=True),
        Column("kept", "kept", "text"),
    )
    rows = [vars(check) | {"kept": "yes" if check.is_kept else "NO"} for check in checks]
    return Table("Promises", columns, tuple(rows), tuple(notes))
