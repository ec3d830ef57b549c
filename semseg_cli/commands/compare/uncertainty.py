"""How sure the numbers of runs and their differences are, as entries of rows. No torch, no mlflow.

A run is compared with a control that was drawn class by class with the luck of its draw in the
error; with any other run image by image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from semseg_cli.commands.compare.artifacts import Artifacts, least_patches
from semseg_cli.commands.compare.like_with_like import Pair, pair, side
from semseg_cli.commands.compare.over_classes import common_classes, own_numbers
from semseg_cli.commands.compare.units import Units
from semseg_cli.commands.compare.which_runs import Candidates
from semseg_cli.runs.inference import (
    MEASURES,
    Difference,
    Interval,
    Test,
    benjamini_hochberg,
    holm,
    macro_classes,
    mark,
    side_class_differences,
    side_differences,
)
from semseg_cli.runs.inference.controls import Scope
from semseg_cli.runs.interval_rows import difference_entries, run_entries
from semseg_cli.tracking.tracked_run import TrackedRun

Values = dict[str, dict[str, Any]]  # by run id
_WHY = "no class has enough patches in both"
NOTHING = Difference(Interval(None, None, None, None, 0, "", _WHY), Test(None, "", _WHY))


def run_values(chosen: Candidates, artifacts: Artifacts, units: Units) -> Values:
    """Per run id the numbers that go into its row: all over the classes that all runs have, with
    their intervals, differences to the baseline, p values, marks."""
    values: Values = {run.run_id: dict(run.metrics) for run in chosen.shown}
    classes = common_classes(chosen.shown, artifacts)
    found: dict[str, dict[str, Difference]] = {}
    for run, baseline in _by_baseline(chosen):
        if run.run_id in classes:
            values[run.run_id] = _numbers(run, classes[run.run_id], artifacts, units)
        both = pair(run, baseline, artifacts, units, classes.get(run.run_id))
        if both is not None:
            found[run.run_id] = run_differences(both)
            values[run.run_id] |= _against(both)
    for name in (f"{scope}{measure}" for scope in ("macro_", "") for measure in MEASURES):
        _add(values, {run_id: made[name] for run_id, made in found.items()}, name)
    return values


def _by_baseline(chosen: Candidates) -> list[tuple[TrackedRun, TrackedRun | None]]:
    """The runs with their baselines, those of one baseline after each other: its rates are kept
    that long."""
    pairs = [(run, chosen.baselines.get(run.run_id)) for run in chosen.shown]
    return sorted(pairs, key=lambda pair: "" if pair[1] is None else pair[1].run_id)


def _numbers(
    run: TrackedRun, class_ids: Sequence[int], artifacts: Artifacts, units: Units
) -> dict[str, Any]:
    counts = artifacts.per_image(run)
    assert counts is not None
    own = side(run, counts, units.by_name(counts), tuple(class_ids), artifacts)
    n_units = len(own.counts_bc4)
    unit = {} if units.groups(counts) is None else {"unit": "groups", "n_groups": n_units}
    return {
        **own_numbers(run, class_ids, artifacts, units),
        **run_entries(own.counts_bc4, least_patches(run), own.rates),
        **unit,
        "n_classes_compared": len(class_ids),
    }


def _against(both: Pair) -> dict[str, Any]:
    """What a run is compared with, and how that is another kind of thing."""
    said = {"between": ", ".join(both.between), "unmatched": both.unmatched}
    return {
        "baseline": both.baseline.name,
        "baseline_run_id": both.baseline.run_id,
        **{key: text for key, text in said.items() if text},
    }


def run_differences(both: Pair) -> dict[str, Difference]:
    """The run minus its baseline by the keys of runs."""
    counts = both.one.counts_bc4, both.other.counts_bc4
    is_kept_c = both.is_tested_c & macro_classes(counts[0]) & macro_classes(counts[1])
    kept = [c for c, is_kept in zip(both.class_ids, is_kept_c, strict=True) if is_kept]
    macro, pooled = _differences(both.of(kept), "macro"), _differences(both, "pooled")
    found = {f"macro_{name}": made for name, made in macro.items()} | pooled
    return {name: _untested(made, both.apart) for name, made in found.items()}


def _differences(both: Pair, scope: Scope) -> dict[str, Difference]:
    if not both.class_ids:
        return dict.fromkeys(MEASURES, NOTHING)
    return side_differences(both.one, both.other, scope)


def class_values(both: Pair) -> dict[int, dict[str, Any]]:
    """By class id the differences to the baseline, corrected over the classes that have enough
    patches."""
    made = side_class_differences(both.one, both.other)
    values: dict[int, dict[str, Any]] = {class_id: {} for class_id in both.class_ids}
    for name in MEASURES:
        found = dict(zip(both.class_ids, made[name], strict=True))
        tested = zip(found.items(), both.is_tested_c, strict=True)
        known = {
            c: _untested(one, both.apart or ("" if enough else "few patches"))
            for (c, one), enough in tested
        }
        for class_id, p in zip(known, benjamini_hochberg(_p(known)), strict=True):
            values[class_id] |= difference_entries(name, known[class_id])
            values[class_id][f"{name}_p_adjusted"] = p
            # What the reader sees is the value: the mark of its difference stands there.
            values[class_id][f"{name}_mark"] = mark(p, known[class_id].interval)
    return values


def _p(found: Mapping[Any, Difference]) -> list[float | None]:
    return [one.test.p for one in found.values()]


def _add(values: Values, found: Mapping[str, Difference], name: str) -> None:
    """The differences in one measure, corrected over the runs."""
    for run_id, p in zip(found, holm(_p(found)), strict=True):
        entries = difference_entries(name, found[run_id])
        entries[f"{name}_p_adjusted"] = p
        entries[f"{name}_difference_mark"] = mark(p, found[run_id].interval)
        values[run_id] |= entries


def _untested(found: Difference, why: str) -> Difference:
    return replace(found, test=Test(None, found.test.method, why)) if why else found
