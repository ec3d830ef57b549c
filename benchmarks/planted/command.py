"""python -m benchmarks planted: which rule of decision names planted roles right."""

import argparse
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.planted.cases import MATCHED_IMAGES, MIN_PATCHES, SCALE, Case, world_cases
from benchmarks.planted.plan import ROLES, make_plan
from benchmarks.planted.rules import NULLS, checks, null_rows, role_rows
from benchmarks.planted.world import write_world
from benchmarks.trust.command import check_table
from semseg_cli.settings.intervening import Control
from semseg_cli.show.console import show
from semseg_cli.show.tables import Column, Table

SEED, N_WORLDS = 2026, 20
EVERY = 2  # of so many worlds one also gets the null dictionaries


def planted(arguments: Sequence[str]) -> bool:
    """Measures and prints; whether every promise is kept."""
    given = parser().parse_args(arguments)
    if given.write:
        write_world(given.write, make_plan(given.seed)).write_settings()
        return True
    begin = time.time()
    found = measured(range(given.seed, given.seed + given.worlds), given.processes)
    cases = [case for case in found if case.control == "none"]
    nulls = [case for case in found if case.control != "none"]
    notes = [
        f"{given.worlds} worlds, seeds {given.seed} and on; scale {SCALE:g}, as many peers and "
        f"matched peers as let one class stand alone, {MATCHED_IMAGES} images of each class for "
        f"the latter; classes with fewer than {MIN_PATCHES} predicted patches are not claimed.",
        f"{time.time() - begin:.0f} s in {given.processes} processes, {processor_time():.0f} s of "
        "processor time.",
    ]
    for table in (
        role_table(cases), null_table(cases, nulls), check_table(checks(cases, nulls), notes)
    ):  # fmt: skip
        show(table, given.format)
        print()
    return all(check.is_kept for check in checks(cases, nulls))


def processor_time() -> float:
    """Seconds that the processes of the worlds computed."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser("python -m benchmarks planted", description=__doc__)
    made.add_argument("--seed", type=int, default=SEED, help="of the first world")
    made.add_argument("--worlds", type=int, default=N_WORLDS)
    made.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    made.add_argument(
        "--write", type=Path, metavar="FOLDER",
        help="only write the world of --seed, with settings for semseg-cli in planted.toml",
    )  # fmt: skip
    made.add_argument("--markdown", dest="format", action="store_const", const="markdown")
    made.set_defaults(format="table")
    return made


def measured(seeds: range, n_processes: int) -> list[Case]:
    """All classes of all worlds, every other one with the null dictionaries, too."""
    jobs: list[tuple[int, tuple[Control, ...]]] = [
        (seed, ("none", *NULLS) if i % EVERY == 0 else ("none",)) for i, seed in enumerate(seeds)
    ]
    found: list[Case] = []
    context = multiprocessing.get_context("spawn")  # a fork would share threads of torch
    with context.Pool(n_processes) as pool:
        for number, cases in enumerate(pool.imap(_world, jobs), start=1):
            print(f"world {number} of {len(jobs)}", file=sys.stderr, flush=True)
            found += cases
    return found


def _world(job: tuple[int, tuple[Control, ...]]) -> list[Case]:
    return world_cases(*job)


def role_table(cases: Sequence[Case]) -> Table:
    """Claims with the planted dictionaries."""
    columns = (
        Column("rule", "claims by", "text", elastic=True),
        Column("right", "right"),
        *(Column(role, role, "text") for role in ROLES),
    )
    return Table("Claimed classes by planted role", columns, tuple(role_rows(cases)))


def null_table(cases: Sequence[Case], nulls: Sequence[Case]) -> Table:
    """Claims with dictionaries that were never trained: all of them false."""
    columns = (
        Column("rule", "claims by", "text", elastic=True),
        *(Column(null, null, "text") for null in NULLS),
    )
    return Table("Claimed classes of null SAEs", columns, tuple(null_rows(cases, nulls)))
