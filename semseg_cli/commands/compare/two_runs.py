"""Two runs, one against the other: the difference of every metric and of every setting."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from semseg_cli.commands.compare.artifacts import Artifacts
from semseg_cli.commands.compare.difference_notes import tests, untested
from semseg_cli.commands.compare.like_with_like import pair
from semseg_cli.commands.compare.notes import captions
from semseg_cli.commands.compare.outcomes_apart import outcome_values
from semseg_cli.commands.compare.over_classes import common_classes, n_asked, over_what
from semseg_cli.commands.compare.settings_apart import differing, shortened
from semseg_cli.commands.compare.table_of_runs import comparison_rows
from semseg_cli.commands.compare.units import Units
from semseg_cli.commands.compare.which_runs import Candidates
from semseg_cli.runs.metrics import DETAILS, RUNS, Metric
from semseg_cli.runs.outcome_differences import COMPARED
from semseg_cli.settings.compare import View
from semseg_cli.show.tables import Column, Table, cell
from semseg_cli.tracking.tracked_run import setting_of

SIDES = ("one", "two")
NOTED = ("macro_selectivity", "macro_selectivity_difference")
NAME = Column("what", "", "text", elastic=True)
CALLED = {metric.key: metric.name for metric in RUNS}
UNTESTED = (
    "No p for what is no sum over images (deviations, entropies, IoU, curves), nor for the edit."
)


def against_each_other(chosen: Candidates, view: View, artifacts: Artifacts) -> Table:
    """One row per metric, then one per setting that differs; the first run minus the second."""
    first, second = chosen.shown
    chosen = replace(chosen, baselines={first.run_id: second}, baseline=second.name)
    rows = comparison_rows(chosen, view, artifacts)
    units = Units(view.group_by)
    made = outcome_values(pair(first, second, artifacts, units), artifacts)
    for row, values in zip(rows, made, strict=True):
        # An outcome that says nothing of a run (absent classes in the label protocol) stays out.
        row |= {k: v for k, v in values.items() if row.get(_outcome_of(k)) is not None}
    names = [row["run"] for row in rows]
    heads = [name.replace(" ", "\n") for name in names]
    columns = (
        NAME,
        Column("one", heads[0], "estimate"),
        Column("two", heads[1], "estimate"),
        Column("difference", "difference", "difference"),
        Column("p_adjusted", "p", "p"),
    )
    numbers = [found for metric in RUNS if (found := _of_metric(metric, rows[0], rows[1]))]
    shown = [*numbers, *_settings(chosen)]
    notes = captions(chosen, rows, NOTED, artifacts, units)
    notes = [*notes[:-1], *_of_outcomes(rows), notes[-1]]  # where there is more comes last
    classes = [*common_classes(chosen.shown, artifacts).values()]
    over = over_what(rows, classes, n_asked(chosen.shown, artifacts))
    return Table(f"{names[0]} minus {names[1]}: {over}", columns, tuple(shown), tuple(notes))


def _outcome_of(key: str) -> str:
    """The outcome that a key is of."""
    return max((name for name in COMPARED if key.startswith(name)), key=len)


def _of_outcomes(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Which tests the outcomes have, over how many, and which have none."""
    n_tests = sum(row.get(f"{name}_p") is not None for row in rows for name in COMPARED)
    corrected = f"Holm over {n_tests} outcomes, not over shares of change"
    said = [f"Outcomes, {note}" for note in tests(rows, COMPARED, corrected)]
    one = rows[0]
    reasons = {name: why for name in COMPARED if (why := one.get(f"{name}_p_reason"))}
    told = one.get(f"{NOTED[0]}_p_reason")  # of the run: it holds of its outcomes, too
    without = [{"what": CALLED[name], "why": why} for name, why in reasons.items() if why != told]
    missing = untested(without, ["why"], "what")
    return [*said, *missing, UNTESTED] if said or reasons else []


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
    ends = ("p", "p_adjusted", "p_method", "p_reason")
    return row | {end: one[f"{key}_{end}"] for end in ends if f"{key}_{end}" in one}


def _details(values: Mapping[str, Any], key: str, side: str) -> dict[str, Any]:
    known = {end: values[f"{key}_{end}"] for end in DETAILS if f"{key}_{end}" in values}
    return {f"{side}_{end}": value for end, value in known.items()}


def _minus(sides: Sequence[Any]) -> float | None:
    one, two = sides
    is_number = isinstance(one, int | float) and isinstance(two, int | float)
    return one - two if is_number else None


def _settings(chosen: Candidates) -> list[dict[str, Any]]:
    found = []
    for name in differing(chosen.shown):
        row: dict[str, Any] = {"what": f"--{name.replace('_', '-')}", "key": name}
        for side, run in zip(SIDES, chosen.shown, strict=True):
            value = setting_of(run, name)
            row |= {side: None} if value is None else _in_short(side, cell(value, "setting"))
        found.append(row)
    return found


def _in_short(side: str, text: str) -> dict[str, str]:
    """A setting, of a long path its end; the whole of it goes beside."""
    short = shortened(text)
    return {side: short} if short == text else {side: short, f"{side}_whole": text}
