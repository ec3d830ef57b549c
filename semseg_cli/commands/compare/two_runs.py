"""Two runs, one against the other: the difference of every metric and of every setting."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from semseg_cli.commands.compare.artifacts import Artifacts
from semseg_cli.commands.compare.like_with_like import Units
from semseg_cli.commands.compare.notes import captions
from semseg_cli.commands.compare.table_of_runs import comparison_rows, differing
from semseg_cli.commands.compare.which_runs import Candidates
from semseg_cli.runs.metrics import DETAILS, RUNS, Metric
from semseg_cli.settings.compare import View
from semseg_cli.show.tables import Column, Table, cell
from semseg_cli.tracking.tracked_run import setting_of

SIDES = ("one", "two")
NOTED = ("macro_selectivity", "macro_selectivity_difference")
NAME = Column("what", "", "text", elastic=True)


def against_each_other(chosen: Candidates, view: View, artifacts: Artifacts) -> Table:
    """One row per metric, then one per setting that differs; the first run minus the second."""
    first, second = chosen.shown
    chosen = replace(chosen, baselines={first.run_id: second}, baseline=second.name)
    rows = comparison_rows(chosen, view, artifacts)
    names = [row["run"] for row in rows]
    heads = [name.replace(" ", "\n") for name in names]
    columns = (
        NAME,
        Column("one", heads[0], "estimate"),
        Column("two", heads[1], "estimate"),
        Column("difference", "difference", "difference"),
        Column("p", "p", "p"),
    )
    numbers = [made for metric in RUNS if (made := _of_metric(metric, rows[0], rows[1]))]
    shown = [*numbers, *_settings(chosen)]
    noted = [Column(key, key) for key in NOTED]
    notes = captions(chosen, rows, noted, artifacts, Units(view.group_by))
    return Table(f"{names[0]} minus {names[1]}", columns, tuple(shown), tuple(notes))


def _of_metric(
    metric: Metric, one: Mapping[str, Any], two: Mapping[str, Any]
) -> dict[str, Any] | None:
    """A metric's row; None for one that neither run has, or that is a difference itself."""
    key = metric.key
    sides = [row.get(key) for row in (one, two)]
    is_compared = key.endswith(("_difference", "_p", "_p_adjusted", "unit"))
    if is_compared or all(value is None for value in sides):
        return None
    if metric.digits is None:
        shown = [None if value is None else cell(value, "setting") for value in sides]
        return {"what": metric.name, "key": key, "one": shown[0], "two": shown[1],
                "difference": _minus(sides)}  # fmt: skip
    row: dict[str, Any] = {"what": metric.name, "key": key}
    for side, values in zip(SIDES, (one, two), strict=True):
        row |= {side: values.get(key)} | _details(values, key, side)
    made = f"{key}_difference"
    if one.get(made) is None:
        return row | {"difference": _minus(sides)}
    row |= {"difference": one[made]} | _details(one, made, "difference")
    row["difference_mark"] = one.get(f"{made}_mark")
    return row | {"p": one.get(f"{key}_p"), "p_method": one.get(f"{key}_p_method")}


def _details(values: Mapping[str, Any], key: str, side: str) -> dict[str, Any]:
    known = {end: values[f"{key}_{end}"] for end in DETAILS if f"{key}_{end}" in values}
    return {f"{side}_{end}": value for end, value in known.items()}


def _minus(sides: list[Any]) -> float | None:
    one, two = sides
    is_number = isinstance(one, int | float) and isinstance(two, int | float)
    return one - two if is_number else None


def _settings(chosen: Candidates) -> list[dict[str, Any]]:
    found = []
    for name in differing(chosen.shown):
        values = [setting_of(run, name) for run in chosen.shown]
        shown = [None if value is None else cell(value, "setting") for value in values]
        found.append({"what": f"--{name.replace('_', '-')}", "key": name,
                      "one": shown[0], "two": shown[1]})  # fmt: skip
    return found
