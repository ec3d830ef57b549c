"""From times and peaks to rows of numbers, and to tables."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import floors
from benchmarks.floors import Floor
from benchmarks.rows import Row
from benchmarks.sizes import Size
from benchmarks.timing import Times
from semseg_cli.show.tables import Column, Table

MIB = 2**20
COLUMNS = (
    Column("name", "work", "text", elastic=True),
    Column("ours", "seconds", "setting"),
    Column("to_bare", "x bare", "setting"),
    Column("most_bare", "at\nmost", "setting"),
    Column("floor", "floor", "setting"),
    Column("to_naive", "naive\nx ours", "setting"),
    Column("least_naive", "at\nleast", "setting"),
    Column("differing", "counts\ndiffer", "setting"),
)
FLOORS = (
    COLUMNS[0],
    Column("gflop", "floor\nGFLOP", "setting"),
    Column("traffic", "floor\nMiB", "setting"),
    Column("speed", "GFLOP/s\nby bare's", "setting"),
)
RESOURCES = (
    *FLOORS,
    Column("bare_mib", "bare\nMiB", "setting"),
    Column("ours_mib", "ours\nMiB", "setting"),
    Column("naive_mib", "naive\nMiB", "setting"),
    Column("memory", "ours by\nnaive", "setting"),
)
SCALING = (
    Column("axis", "doubled", "text"),
    Column("work", "work", "text"),
    Column("shown", "from, to", "text"),
    Column("seconds_shown", "seconds", "text"),
    Column("exponents_shown", "exponents", "text"),
    Column("share_shown", "depends", "setting"),
)


def to_row(
    row: Row, size: Size, times: Times, peaks: Mapping[str, Mapping[str, int]]
) -> dict[str, Any]:
    """One row of the JSON: raw times, ratios, targets, floor, peaks in bytes."""
    found: dict[str, Any] = {
        "name": row.name,
        "note": row.note,
        "seconds": dict(times.seconds),
        "to_bare": times.ratio("ours", "bare"),
        "most_bare": row.most_bare,
        "to_naive": _times(times.ratio("naive", "ours"), row.naive_times),
        "naive_times": row.naive_times,
        "least_naive": row.least_naive,
        "n_differing": times.n_differing,
        "peak_bytes": _peaks(row, peaks) if row.has_peak else {},
    }
    return found | (_floor(row.floor, size, times) if row.floor else {})


def _peaks(row: Row, peaks: Mapping[str, Mapping[str, int]]) -> dict[str, int | None]:
    return {side: of_rows.get(row.name) for side, of_rows in peaks.items()}


def _times(ratio: float | None, factor: float) -> float | None:
    return None if ratio is None else ratio * factor


def _floor(floor: Floor, size: Size, times: Times) -> dict[str, Any]:
    one, n = floors.bare(size), size.n_images
    return {
        "floor_flops": floor.flops * n,
        "floor_bytes": floor.n_bytes * n,
        "floor_to_bare": floor.flops / one.flops,
        "gflops_per_second": floor.flops * n / times.median("ours") / 1e9,
        "bare_gflops_per_second": one.flops * n / times.median("bare") / 1e9,
    }


def tables(title: str, rows: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> list[Table]:
    """Rows of the JSON as two tables: time, and what it takes."""
    marks = tuple(f"{row['name']}: {row['note']}." for row in rows if row["note"])
    times, resources = tuple(map(_times_shown, rows)), tuple(map(_resources_shown, rows))
    has_peaks = any("ours_mib" in row for row in resources)
    name, columns = ("Floors and peak memory", RESOURCES) if has_peaks else ("Floors", FLOORS)
    return [Table(title, COLUMNS, times, (*marks, *notes)), Table(name, columns, resources)]


def _times_shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": row["name"],
        "ours": f"{statistics.median(row['seconds']['ours']):.3g}",
        "to_bare": _number(row["to_bare"], 2),
        "most_bare": _number(row["most_bare"], 2),
        "floor": _number(row.get("floor_to_bare"), 2),
        "to_naive": _number(row["to_naive"], 1),
        "least_naive": _number(row["least_naive"], 1),
        "differing": row["n_differing"],
    }


def _resources_shown(row: Mapping[str, Any]) -> dict[str, Any]:
    peaks = row["peak_bytes"]
    shown: dict[str, Any] = {f"{side}_mib": _mib(n) for side, n in peaks.items()}
    if peaks.get("ours") and peaks.get("naive"):
        shown["memory"] = _number(peaks["ours"] / peaks["naive"], 2)
    if "floor_flops" in row:
        speed = row["gflops_per_second"] / row["bare_gflops_per_second"]
        shown["speed"] = _number(speed, 2)
        shown["gflop"] = _number(row["floor_flops"] / 1e9, 2)
    return {**shown, "name": row["name"], "traffic": _mib(row.get("floor_bytes"))}


def _number(value: float | None, digits: int) -> str | None:
    return None if value is None else f"{value:.{digits}f}"


def _mib(n_bytes: float | None) -> str | None:
    return None if n_bytes is None else f"{n_bytes / MIB:.0f}"


def scaling_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Cost against work as a table."""
    shown = tuple(
        {
            **row,
            "shown": f"{row['values'][0]}, {row['values'][-1]}",
            "seconds_shown": ", ".join(f"{t:.3g}" for t in row["seconds"]),
            "exponents_shown": ", ".join(f"{e:.2f}" for e in row["exponents"]),
            "share_shown": f"{row['share']:.0%}",
        }
        for row in rows
    )
    return Table("Cost against work", SCALING, shown)
