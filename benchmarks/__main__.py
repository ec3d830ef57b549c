"""python -m benchmarks: a table of ratios, and a JSON of all that was measured."""

import argparse
import fnmatch
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from benchmarks import ours
from benchmarks.full import full_tables, jobs, measure_full
from benchmarks.machine import machine, versions
from benchmarks.memory import peaks, peaks_in_processes
from benchmarks.report import scaling_table, tables, to_row
from benchmarks.rows import rows_of
from benchmarks.scaling import measure_axes
from benchmarks.sizes import FULL, SIZES, TINY, Size
from benchmarks.timing import CLOCKS, SIDES, bare, measure
from benchmarks.world import World, make_world
from semseg_cli.errors import SemsegError, UsageError
from semseg_cli.experiment.flip_rate import EXACT, flipped_share
from semseg_cli.show.console import show
from semseg_cli.show.tables import Table

# Where each command is, and what it measures.
COMMANDS = {
    "trust": ("trust.command:trust", "intervals and tests with a known truth"),
    "planted": ("planted.command:planted", "rules of decision"),
    "cause": ("cause:cause", "how good the causal rules are"),
    "cause-planted": ("cause_planted:cause_planted", "the same where the truth is known"),
    "several": ("several:several", "what SAEs cost side by side"),
    "faults": ("faults:main", "damaged files"),
    "kills": ("kills:main", "killed commands and full disks"),
    "servers": ("servers:main", "stores that go wrong"),
    "heads": ("heads:heads", "the choice of a head"),
    "warm": ("warm:warm", "a warm run by stage"),
    "large": ("large:large", "what a run on all of ADE20K takes beside its ViT"),
    "whole": ("whole:whole", "a whole run of that size with a tiny network"),
    "many": ("many_runs:many", "comparing many runs"),
}


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        "python -m benchmarks",
        description=__doc__,
        epilog="; ".join(f"{name}: {what}" for name, (_, what) in COMMANDS.items()),
    )
    made.add_argument("--size", choices=list(SIZES), default="vitb")
    made.add_argument("--rows", default="*", help="only rows whose name has this in it, or matches")
    made.add_argument("--repeats", type=int, default=3, help="times per side; medians count")
    made.add_argument("--device", help="cpu by default; --size full runs on cuda")
    made.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    made.add_argument(
        "--threads", type=int, help="threads of torch; by default all cores, at tiny one"
    )
    made.add_argument(
        "--clock", choices=list(CLOCKS), default="wall",
        help="cpu: processor time, for a busy machine; with --threads 1",
    )  # fmt: skip
    made.add_argument("--json", type=Path, help="write all numbers here")
    made.add_argument("--markdown", action="store_true", help="print tables for README")
    made.add_argument("--no-memory", action="store_true", help="leave out the peaks")
    made.add_argument("--no-scaling", action="store_true", help="leave out cost against work")
    made.add_argument("--peaks-of", choices=SIDES, help=argparse.SUPPRESS)
    return made


class Named(Protocol):
    """What has a name to be chosen by."""

    @property
    def name(self) -> str:
        """As the table shows it."""


Chosen = TypeVar("Chosen", bound=Named)


def chosen_rows(rows: Sequence[Chosen], pattern: str) -> list[Chosen]:
    """The rows that a pattern names.

    Raises:
        UsageError: there are none.
    """
    wide = pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*"
    found = [row for row in rows if fnmatch.fnmatch(row.name, wide)]
    if not found:
        names = "; ".join(row.name for row in rows)
        raise UsageError(f"No row matches --rows {pattern!r}: there are {names}.")
    return found


def say(text: str) -> None:
    """What is being measured, on stderr."""
    print(text, file=sys.stderr, flush=True)


def about(given: argparse.Namespace, world: World) -> dict[str, Any]:
    """What is measured, where and how."""
    return {
        "size": vars(world.size),
        "dtype": given.dtype,
        "clock": given.clock,
        "repeats": given.repeats,
        "machine": machine(world.device),
        "versions": versions(),
    }


def measured(given: argparse.Namespace, arguments: Sequence[str]) -> dict[str, Any]:
    """All numbers of a size whose images are in memory."""
    world = open_world(given, SIZES[given.size])
    rows = chosen_rows(rows_of(world.size), given.rows)
    found = about(given, world)
    if given.dtype != EXACT:
        exact = make_world(world.size, str(world.device))
        found["flip_rate"] = flipped_share(world.pipeline, exact.pipeline, world.loader)
    of_sides = {} if given.no_memory else peaks_in_processes(arguments, SIDES)
    bare(world)
    ours.lookup(world)  # nothing is measured the first time that it runs
    found["rows"] = []
    for row in rows:
        say(row.name)
        times = measure(row, world, given.repeats, given.clock)
        found["rows"].append(to_row(row, world.size, times, of_sides))
    found["scaling"] = []
    if not given.no_scaling and given.rows == "*":
        found["scaling"] = measure_axes(world, given.repeats, given.clock, say)
    return found


def measured_full(given: argparse.Namespace) -> dict[str, Any]:
    """All numbers of the size whose images are files."""
    world = open_world(given, replace(FULL, n_images=FULL.batch_size))
    world = replace(world, size=FULL, n_workers=min(16, os.cpu_count() or 1))
    chosen = chosen_rows(jobs(world.size), given.rows)
    return about(given, world) | measure_full(world, chosen, given.repeats, say)


def open_world(given: argparse.Namespace, size: Size) -> World:
    """A world of a size, where and in what precision the options say.

    Raises:
        UsageError: the device is not there.
    """
    device = given.device or ("cuda" if given.size == FULL.name else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(
            "There is no CUDA device, which --size full and --device cuda need: take --size vitb."
        )
    threads = given.threads or (1 if given.size == TINY.name else None)
    if threads:  # more than one only get in each other's way where the work is tiny
        torch.set_num_threads(threads)
    return make_world(size, device, getattr(torch, given.dtype))


def title(results: dict[str, Any]) -> str:
    """What, where and how it was measured."""
    where, how = results["machine"], results["versions"]
    return (
        f"{results['size']['name']}, {results['dtype']}: {where['gpu'] or where['cpu']}, "
        f"{how['threads']} threads, torch {how['torch']} ({how['blas']}), {results['clock']} time"
    )


def notes(results: dict[str, Any]) -> list[str]:
    """How to read the table."""
    size = results["size"]
    found = [
        f"Bare: one forward pass of the same {size['n_images']} images in batches of "
        f"{size['batch_size']}; medians of {results['repeats']} interleaved runs.",
        f"Load average when it began: {results['machine']['load'][0]:.1f}.",
    ]
    if any(row["peak_bytes"] for row in results["rows"]):
        peak_images = size["peak_images"]
        found.append(f"Peaks with {peak_images} images in one batch, beside weights and images.")
    if not size["has_targets"]:
        found.append("Of this size only the counts mean anything: times are those of small parts.")
    if "flip_rate" in results:
        found.append(
            f"{results['dtype']} changes the clean class of {results['flip_rate']:.2%} of patches."
        )
    return found


def tables_of(results: dict[str, Any]) -> list[Table]:
    """All tables."""
    if "stages" in results:
        return full_tables(title(results), results, results["size"]["n_images"])
    found = tables(title(results), results["rows"], notes(results))
    return [*found, scaling_table(results["scaling"])] if results["scaling"] else found


def run_command(name: str, arguments: Sequence[str]) -> None:
    """Runs a command of its own options; ends with 1 where it says that something does not hold."""
    module, function = COMMANDS[name][0].split(":")
    outcome = getattr(import_module(f"benchmarks.{module}"), function)(arguments)
    if outcome is False:
        sys.exit(1)


def main(arguments: Sequence[str]) -> None:
    """Measures, prints, writes."""
    if arguments and arguments[0] in COMMANDS:
        run_command(arguments[0], arguments[1:])
        return
    given = parser().parse_args(arguments)
    if given.peaks_of:
        world = open_world(given, SIZES[given.size].at_peak)
        rows = chosen_rows(rows_of(world.size), given.rows)
        print(json.dumps(peaks(rows, world, given.peaks_of)))
        return
    results = measured_full(given) if given.size == FULL.name else measured(given, arguments)
    for i, table in enumerate(tables_of(results)):
        if i:
            print()
        show(table, "markdown" if given.markdown else "table")
    if given.json:
        given.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SemsegError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError) else 1)
