"""Classes as rows, runs side by side as columns. No torch, no mlflow."""

from collections.abc import Sequence
from typing import Any

from semseg_cli.commands.compare.artifacts import Artifacts, least_in_a_draw, n_draws
from semseg_cli.commands.compare.class_notes import class_captions
from semseg_cli.commands.compare.like_with_like import pair, unlike
from semseg_cli.commands.compare.rows_and_columns import arranged, check_columns, wanted_columns
from semseg_cli.commands.compare.table_of_runs import is_beside, row_names, title
from semseg_cli.commands.compare.uncertainty import class_values as differences_of
from semseg_cli.commands.compare.units import Units
from semseg_cli.commands.compare.which_runs import Candidates
from semseg_cli.errors import SemsegError, UsageError
from semseg_cli.runs.inference import MEASURES
from semseg_cli.runs.interval_rows import class_entries
from semseg_cli.runs.metrics import CLASSES
from semseg_cli.runs.rows import Row
from semseg_cli.settings.compare import View
from semseg_cli.show.run_notes import listed, spread
from semseg_cli.show.run_tables import CLASS, CLASS_COLUMNS
from semseg_cli.show.tables import Column, Table
from semseg_cli.tracking.tracked_run import TrackedRun

OF_CLASSES = {metric.key: metric for metric in CLASSES}
OF_DATA = ("n_class_images", "n_orig_patches")  # the same in all runs on the same images
RANGE = "_range"  # ends the key of the column that has both ends of what differs between runs
Values = dict[str, dict[str, Any]]  # by class name


def class_comparison(chosen: Candidates, view: View, artifacts: Artifacts) -> Table:
    """One row per class: all measures of one run, or the selectivity of several.

    Classes with too few patches come last, however rows are sorted. Tables that are wider than the
    terminal go on below. Stars tell differences to the baseline, corrected over the classes with
    enough patches (Benjamini-Hochberg).

    Raises:
        UsageError: a class or column that no run has.
        SemsegError: no run has classes.
    """
    runs, names = chosen.shown, row_names(chosen.shown)
    prefixes = [""] if len(runs) == 1 else [f"{name}: " for name in names]
    units = Units(view.group_by)
    values = [class_values(run, chosen, artifacts, units) for run in runs]
    every = _rows(values, prefixes)
    if not every:
        raise SemsegError(
            f"None of these runs has classes to show ({' '.join(artifacts.notes())}): compare "
            "them without --per-class, or give others."
        )
    rows = _of_classes(every, view.classes)
    # A run may have none of the classes: a plain column name stands for the first that has one.
    first = next((p for p in prefixes if any(f"{p}selectivity" in row for row in rows)), "")
    few = _with_few_patches(runs, values)
    rows = arranged(rows, _sorted_by_default(view), first, lambda row: row[CLASS.key] in few)
    columns = _columns(rows, view, names, prefixes)
    of = names[0] if len(runs) == 1 else title(runs, len(runs))
    return Table(
        f"{_what(columns)} by class, {of}",
        columns,
        tuple(rows),
        tuple(class_captions(chosen, rows, [c.key for c in columns], names, artifacts, units)),
        strong=_best(rows, prefixes),
    )


def _what(columns: Sequence[Column]) -> str:
    shown = [
        OF_CLASSES[name].header for name in MEASURES if any(c.key.endswith(name) for c in columns)
    ]
    return ", ".join(shown).capitalize() or "Values"


def class_values(run: TrackedRun, chosen: Candidates, artifacts: Artifacts, units: Units) -> Values:
    """What a run says of each class: counts, measures, intervals, difference to the baseline."""
    names = _names(run, chosen.shown, artifacts)
    rows = artifacts.classes(run)
    values: Values = {row["class_name"]: _measured(row, n_draws(run)) for row in rows}
    counts = artifacts.per_image(run)
    if counts is None:
        return values
    units_bc4 = units.of(counts, counts.class_ids)
    made = class_entries(units_bc4)
    for c, class_id in enumerate(counts.class_ids):
        entry = values.setdefault(names.get(class_id, str(class_id)), {"class_id": class_id})
        entry.setdefault("n_orig_patches", int(units_bc4[:, c, 0].sum()) // n_draws(run))
        entry |= made[c]
    both = pair(run, chosen.baselines.get(run.run_id), artifacts, units)
    compared = {} if both is None else differences_of(both)
    for class_id, differences in compared.items():
        values[names.get(class_id, str(class_id))] |= differences
    return values


def _measured(row: Row, draws: int) -> dict[str, Any]:
    kept = {"class_id": row["class_id"], "n_orig_patches": row["n_orig_patches"] // draws}
    measured = {name: row[name] for name in MEASURES}
    latent = {"latent": row["latent"]} if row.get("latent") is not None else {}
    return {**kept, **latent, **measured}


def _names(run: TrackedRun, runs: Sequence[TrackedRun], artifacts: Artifacts) -> dict[int, str]:
    """Class id -> name, from the run itself or one on the same images."""
    alike = [one for one in runs if "images" not in unlike(run, one)]
    for one in (run, *alike):
        if rows := artifacts.classes(one):
            return {row["class_id"]: row["class_name"] for row in rows}
    return {}


def _rows(values: Sequence[Values], prefixes: Sequence[str]) -> list[dict[str, Any]]:
    """One row per class of any run, by class id; what is the same in all runs is there once."""
    shared = [key for key in OF_DATA if _is_shared(values, key)]
    rows: dict[str, dict[str, Any]] = {}
    for by_class, prefix in zip(values, prefixes, strict=True):
        for name, entry in by_class.items():
            general = {"class_name": name, "class_id": entry["class_id"]}
            general |= {key: entry[key] for key in shared if key in entry}
            row = rows.setdefault(name, general)
            row |= {f"{prefix}{k}": v for k, v in entry.items() if k not in general}
    for row in rows.values():
        row |= _ranges(row, [key for key in OF_DATA if key not in shared], prefixes)
    return sorted(rows.values(), key=lambda row: row["class_id"])


def _is_shared(values: Sequence[Values], key: str) -> bool:
    """Whether no two runs have another number for the same class."""
    known: dict[str, Any] = {}
    pairs = ((name, e[key]) for by_class in values for name, e in by_class.items() if key in e)
    return all(known.setdefault(name, value) == value for name, value in pairs)


def _ranges(row: Row, keys: Sequence[str], prefixes: Sequence[str]) -> dict[str, str]:
    """The least and the largest number of the runs, `40-101`, or the one that all have."""
    found = {key: [row[p + key] for p in prefixes if p + key in row] for key in keys}
    return {f"{key}{RANGE}": spread(known) for key, known in found.items() if known}


def _of_classes(rows: Sequence[Row], wanted: Sequence[str]) -> list[Row]:
    known = [row["class_name"] for row in rows]
    asked = {one.casefold() for one in wanted}
    called = [{row["class_name"].casefold(), str(row["class_id"])} for row in rows]
    for one in wanted:
        if not any(one.casefold() in names for names in called):
            raise UsageError(f"--class has no class {one!r}: choose of {listed(known, 12)}")
    return [row for row, names in zip(rows, called, strict=True) if not wanted or names & asked]


def _with_few_patches(runs: Sequence[TrackedRun], values: Sequence[Values]) -> set[str]:
    """The classes that no run has enough predicted patches of to rank them."""
    found: dict[str, bool] = {}
    for run, by_class in zip(runs, values, strict=True):
        least = least_in_a_draw(run)
        for name, entry in by_class.items():
            found[name] = found.get(name, True) and entry["n_orig_patches"] < least
    return {name for name, is_few in found.items() if is_few}


def _sorted_by_default(view: View) -> View:
    if view.sort is not None:
        return view
    return View(sort="selectivity", top=view.top)


def _columns(
    rows: Sequence[Row], view: View, names: Sequence[str], prefixes: Sequence[str]
) -> tuple[Column, ...]:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    wanted = _wanted(keys, view, is_one=len(names) == 1)
    is_one_measure = len({*wanted} - set(keys)) == 1
    columns = [CLASS]
    for key in wanted:
        header = OF_CLASSES[key].header if key in OF_CLASSES else key.replace("_", "\n")
        columns += [_column(key, [header])] if key in keys else []
        for name, prefix in zip(names, prefixes, strict=True):
            if prefix and prefix + key in keys:
                heads = [name.replace(" ", "\n"), header]
                columns.append(_column(prefix + key, heads[:1] if is_one_measure else heads))
    return tuple(columns)


def _wanted(keys: Sequence[str], view: View, *, is_one: bool) -> list[str]:
    """The names of the columns to show, without the runs that they are of."""
    plain = list(dict.fromkeys(key.split(": ")[-1] for key in keys if key != "class_name"))
    if view.all_columns:
        return [name for name in plain if not is_beside(name)]
    if wanted := wanted_columns(view):
        check_columns(wanted, [CLASS.key, *keys, *plain], view)
        return [name for name in wanted if name != CLASS.key]
    own = [column.key for column in CLASS_COLUMNS if column.key in plain]
    of_data = [key if key in keys else f"{key}{RANGE}" for key in OF_DATA]
    return own if is_one else [*of_data, "selectivity"]


def _column(key: str, heads: Sequence[str]) -> Column:
    metric = OF_CLASSES.get(key.split(": ")[-1])
    return Column(key, "\n".join(heads), metric.kind if metric else "setting")


def _best(rows: Sequence[Row], prefixes: Sequence[str]) -> frozenset[tuple[int, str]]:
    """Per class the run with the largest selectivity."""
    if len(prefixes) < 2:
        return frozenset()
    found = set()
    for number, row in enumerate(rows):
        values = {f"{p}selectivity": row.get(f"{p}selectivity") or 0.0 for p in prefixes}
        key = max(values, key=lambda name: values[name])
        found |= {(number, key)} if values[key] > 0 else set()
    return frozenset(found)
