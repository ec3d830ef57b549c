"""What must be said about runs that stand side by side, below their table."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from semseg_cli.commands.compare.uncertainty import (
    SAME,
    Artifacts,
    listed,
    min_patches,
    n_draws,
    unlike,
)
from semseg_cli.commands.compare.which_runs import Candidates
from semseg_cli.runs.rows import Row
from semseg_cli.show.run_tables import identical_note
from semseg_cli.show.tables import Column, cell
from semseg_cli.tracking.tracked_run import TrackedRun

INTERVALS = "[ ]: 95% intervals, bootstrap over images."
FEW_IMAGES = 30  # below, resampling knows too little of the spread


def captions(
    chosen: Candidates, rows: Sequence[Row], columns: Sequence[Column], artifacts: Artifacts
) -> list[str]:
    """All notes of a comparison, the most general first."""
    keys = {column.key for column in columns}
    return [
        *_constants(chosen.shown, rows),
        *_intervals(chosen, rows, keys),
        *_macro(chosen.shown, keys),
        *warnings(chosen, [row["run"] for row in rows]),
        *_draws(chosen, rows, artifacts),
        *few_patches(chosen.shown, artifacts),
        *artifacts.notes(),
        *chosen.notes,
        *omitted(chosen.left_out),
    ]


def _constants(runs: Sequence[TrackedRun], rows: Sequence[Row]) -> list[str]:
    """What all runs have in common, as far as it is needed to read the numbers."""
    said = {
        "{} images": _only(row.get("n_images") for row in rows),
        "{} classes": _only(row.get("n_classes") for row in rows),
        "protocol {}": _only(run.tag("protocol") for run in runs),
        "scale {}": _only(row.get("scale") for row in rows),
        "latents by {}": _only(run.params["select"] for run in runs if "select" in run.params),
        "chosen on the {} split": _only(run.params.get("lookup_split") for run in runs),
    }
    parts = [text.format(cell(v, "setting")) for text, v in said.items() if v is not None]
    return [f"All runs: {', '.join(parts)}."] if parts else []


def _only(values: Iterable[Any]) -> Any:
    """The value that all share; None where they differ."""
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else None


def _intervals(chosen: Candidates, rows: Sequence[Row], keys: set[str]) -> list[str]:
    notes = []
    if any("selectivity_lo" in row for row in rows) and keys & {"target_change", "selectivity"}:
        notes.append(f"{INTERVALS}{few_images(chosen.shown)}")
    if {"selectivity_difference", "selectivity_p"} & keys:
        compared = (
            f"vs {chosen.baseline}: selectivity minus its selectivity, on the same images; p is "
            "two-sided."
        )
        notes.append(" ".join([compared, *_common_classes(rows)]))
    return notes


def _common_classes(rows: Sequence[Row]) -> list[str]:
    by_name = {row["run"]: row.get("n_classes") for row in rows}
    apart = [
        row["run"]
        for row in rows
        if row.get("selectivity_difference") is not None
        and row.get("n_classes") != by_name.get(row.get("baseline"), row.get("n_classes"))
    ]
    return [f"For {listed(apart)} over the classes that both have."] if apart else []


def _macro(runs: Sequence[TrackedRun], keys: set[str]) -> list[str]:
    least = _only(run.params.get("min_patches") for run in runs)
    if least is None or not any(key.startswith("macro") for key in keys):
        return []
    return [f"macro: mean over classes with at least {least} predicted patches."]


def warnings(chosen: Candidates, names: Sequence[str]) -> list[str]:
    """What keeps the numbers of these runs from meaning what they seem to."""
    runs = chosen.shown

    def naming(holds: Callable[[TrackedRun], bool]) -> list[str]:
        return [name for run, name in zip(runs, names, strict=True) if holds(run)]

    notes = []
    if same := naming(lambda run: run.tag("pooled_telling") == "false"):
        notes.append(identical_note(same))
    if seen := naming(lambda run: run.tag("latents_on_evaluation") == "true"):
        notes.append(f"{', '.join(seen)}: latents were chosen on the images evaluated.")
    unpaired = [
        name
        for run, name in zip(runs, names, strict=True)
        if (baseline := chosen.baselines.get(run.run_id)) and unlike(run, baseline)
    ]
    untested = f" No paired test for {listed(unpaired)}." if unpaired else ""
    if apart := [what for tag, what in SAME.items() if len({run.tag(tag) for run in runs}) > 1]:
        notes.append(f"Not alike: the runs differ in {', '.join(apart)}.{untested}")
        untested = ""
    if len({run.tag("protocol") for run in runs}) > 1:
        notes.append(
            f"Not alike: the protocols count target and other in different ways.{untested}"
        )
    return notes


def _draws(chosen: Candidates, rows: Sequence[Row], artifacts: Artifacts) -> list[str]:
    """How the runs stand against the draws of their baselines."""
    notes = []
    for baseline in {run.run_id: run for run in chosen.baselines.values()}.values():
        null = artifacts.null_range(baseline)
        against = [
            f"{_as_good(row['p_draws'], n_draws(baseline))} as well as {row['run']} "
            f"(p {cell(row['p_draws'], 'p')})"
            for run, row in zip(chosen.shown, rows, strict=True)
            if row.get("p_draws") is not None and chosen.baselines[run.run_id] is baseline
        ]
        if null is not None and against:
            low, middle, high = (cell(value) for value in null)
            notes.append(
                f"Of the {n_draws(baseline)} draws of {baseline.name} (median selectivity "
                f"{middle}, 95% from {low} to {high}) {listed(against)}."
            )
    return notes


def _as_good(p_value: float, n: int) -> str:
    """How many draws do as well, from the p value that counts the run itself among them."""
    n_as_good = round(p_value * (n + 1)) - 1
    return f"{n_as_good} {'does' if n_as_good == 1 else 'do'}"


def few_images(runs: Sequence[TrackedRun]) -> str:
    """A warning where intervals rest on a handful of images."""
    least = min((run.metrics.get("n_images", FEW_IMAGES) for run in runs), default=FEW_IMAGES)
    return f" From {least:g} images only: too narrow." if least < FEW_IMAGES else ""


def few_patches(runs: Sequence[TrackedRun], artifacts: Artifacts) -> list[str]:
    """The classes whose numbers rest on few patches; predictions are the same for alike runs."""
    run = runs[0]
    least = min_patches(run)
    rows = artifacts.classes(run) if least and run.metrics else []
    few = [row["class_name"] for row in rows if row["n_orig_patches"] < least * n_draws(run)]
    if not few:
        return []
    verb, whose = ("has", "its") if len(few) == 1 else ("have", "their")
    return [
        f"{len(few)} of {len(rows)} classes {verb} fewer than {least} predicted patches, so "
        f"{whose} own numbers say little: {listed(few, 5)}."
    ]


def omitted(runs: Sequence[TrackedRun]) -> list[str]:
    """Which runs are not shown since they did not finish."""
    if not runs:
        return []
    states = listed([f"{run.name} {run.status}" for run in runs])
    noun = "run" if len(runs) == 1 else "runs"
    return [f"{len(runs)} unfinished {noun} left out (--unfinished shows them): {states}."]
