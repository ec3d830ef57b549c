"""python -m benchmarks: a table of ratios, and a JSON of all that was measured."""

import argparse
import fnmatch
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import ours
from benchmarks.machine import machine, versions
from benchmarks.memory import peaks, peaks_in_processes
from benchmarks.report import scaling_table, tables, to_row
from benchmarks.rows import Row, rows_of
from benchmarks.scaling import measure_axes
from benchmarks.sizes import SIZES
from benchmarks.timing import CLOCKS, SIDES, bare, measure
from benchmarks.world import World, make_world
from semseg_cli.console import show
from semseg_cli.errors import SemsegError, UsageError


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    made.add_argument("--size", choices=[*SIZES, "full"], default="vitb")
    made.add_argument("--rows", default="*", help="only rows whose name has this in it, or matches")
    made.add_argument("--repeats", type=int, default=3, help="times per side; medians count")
    made.add_argument("--device", default="cpu")
    made.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    made.add_argument("--threads", type=int, help="threads of torch; all cores by default")
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


def chosen_rows(rows: Sequence[Row], pattern: str) -> list[Row]:
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


def measured(given: argparse.Namespace, arguments: Sequence[str]) -> dict[str, Any]:
    """All numbers."""
    world = open_world(given)
    size, rows = world.size, chosen_rows(rows_of(world.size), given.rows)
    about = {
        "size": vars(size),
        "dtype": given.dtype,
        "clock": given.clock,
        "repeats": given.repeats,
        "machine": machine(world.device),
        "versions": versions(),
    }
    of_sides = {} if given.no_memory else peaks_in_processes(arguments, SIDES)
    bare(world)
    ours.lookup(world)  # nothing is measured the first time that it runs
    found = []
    for row in rows:
        say(row.name)
        found.append(to_row(row, size, measure(row, world, given.repeats, given.clock), of_sides))
    scaling: Sequence[dict[str, Any]] = []
    if not given.no_scaling and given.rows == "*":
        scaling = measure_axes(world, given.repeats, given.clock, say)
    return {**about, "rows": found, "scaling": scaling}


def open_world(given: argparse.Namespace) -> World:
    """The world that the options ask for.

    Raises:
        UsageError: the device is not there.
    """
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"--device is {given.device}, but there is no CUDA device: leave it out.")
    if given.threads:
        torch.set_num_threads(given.threads)
    return make_world(SIZES[given.size], given.device, getattr(torch, given.dtype))


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
    busy = max(results["machine"]["load"][0] - 1, 0)
    return [
        f"Bare: one forward pass of the same {size['n_images']} images in batches of "
        f"{size['batch_size']}; medians of {results['repeats']} interleaved runs.",
        f"Peaks beside weights and images. Other load on the machine: {busy:.1f}.",
    ]


def main(arguments: Sequence[str]) -> None:
    """Measures, prints, writes."""
    given = parser().parse_args(arguments)
    if given.peaks_of:
        world = open_world(given)
        rows = chosen_rows(rows_of(world.size), given.rows)
        print(json.dumps(peaks(rows, world, given.peaks_of)))
        return
    results = measured(given, arguments)
    form = "markdown" if given.markdown else "table"
    every = tables(title(results), results["rows"], notes(results))
    if results["scaling"]:
        every.append(scaling_table(results["scaling"]))
    for i, each in enumerate(every):
        if i:
            print()
        show(each, form)
    if given.json:
        given.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SemsegError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError) else 1)
