"""Runs side by side: one row each, what differs as columns, and what must be said about them.

No torch, no mlflow.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import Any

from semseg_cli.config import Compute, Output, Settings
from semseg_cli.summary import METRICS, NAME, best_row, identical_note, present
from semseg_cli.tables import Column, Table, cell
from semseg_cli.tracked import TrackedRun, parse_number

# What must be the same for two runs to measure the same thing: tag, and how we call it.
SAME = {
    "digest.evaluation": "images",
    "digest.sae": "SAE",
    "digest.vit": "ViT",
    "digest.head": "head",
}
WIDTH, NAME_WIDTH, GAP = 80, 14, 2


def comparison(runs: Sequence[TrackedRun], left_out: Sequence[TrackedRun] = ()) -> Table:
    """The table of these runs; settings that differ are columns, the rest is in the notes."""
    names = row_names(runs)
    settings = differing(runs)
    rows = [
        {
            "run": name,
            "method": run.tag("method"),
            "protocol": run.tag("protocol"),
            **{setting: setting_of(run, setting) for setting in settings},
            **{n: int(v) if n.startswith("n_") else v for n, v in run.metrics.items()},
            "experiment": run.experiment,
            "status": run.status,
            "started": run.started.isoformat(timespec="seconds"),
            "run_id": run.run_id,
        }
        for run, name in zip(runs, names, strict=True)
    ]
    columns, hidden = _columns(rows, settings)
    notes = [*_constants(runs, rows), *warnings(runs, names), *_omitted(left_out)]
    if hidden:
        notes.append(f"Also different, shown by --format csv: {', '.join(hidden)}.")
    return Table(_title(runs), columns, tuple(rows), tuple(notes), best_row(rows))


def setting_of(run: TrackedRun, name: str) -> int | float | str | None:
    """A parameter of a run, as a number where it is one: `mlflow run` logs "-2" for our "-2.0"."""
    return parse_number(run.params.get(name, ""))


def _title(runs: Sequence[TrackedRun]) -> str:
    experiments = ", ".join(dict.fromkeys(run.experiment for run in runs))
    noun = "run" if len(runs) == 1 else "runs"
    return f"{len(runs)} {noun} of experiment {experiments}"


def row_names(runs: Sequence[TrackedRun]) -> list[str]:
    """The names of the runs, told apart by the beginning of the id where two are alike."""
    names = [run.name for run in runs]
    return [
        f"{run.name} ({run.run_id[:8]})" if names.count(run.name) > 1 else run.name for run in runs
    ]


def differing(runs: Sequence[TrackedRun]) -> list[str]:
    """The settings that two of the runs have with different values.

    Settings that change no result are left out, and a setting that only some methods have is no
    difference by itself.
    """
    harmless = _option_names(Output, Compute) - {"dtype", "seed"}
    every = dict.fromkeys(name for run in runs for name in run.params if name not in harmless)
    return [name for name in every if len(_values(runs, name)) > 1]


def _option_names(*groups: type[Settings]) -> set[str]:
    both = [(f.name, f.metadata.get("flag")) for group in groups for f in fields(group)]
    return {name for pair in both for name in pair if name}


def _values(runs: Iterable[TrackedRun], name: str) -> set[int | float | str | None]:
    return {setting_of(run, name) for run in runs if name in run.params}


def _columns(rows: Sequence[Any], settings: Sequence[str]) -> tuple[tuple[Column, ...], list[str]]:
    """The columns that fit beside each other at 80, and the names of the settings that do not."""
    fixed = present(METRICS, rows)
    free = WIDTH - NAME_WIDTH - sum(_width(column, rows) + GAP for column in fixed)
    kept: list[Column] = []
    hidden = []
    for name in settings:
        column = Column(name, name.replace("_", "\n"), "setting")
        free -= _width(column, rows) + GAP
        if free >= 0:
            kept.append(column)
        else:
            hidden.append(name)
            free += _width(column, rows) + GAP
    return (NAME, *kept, *fixed), hidden


def _width(column: Column, rows: Sequence[Any]) -> int:
    heads = [len(part) for part in column.header.split("\n")]
    if column.kind != "setting":
        return max(*heads, 6)
    return max([*heads, *(len(cell(row[column.key], "setting")) for row in rows)])


def _constants(runs: Sequence[TrackedRun], rows: Sequence[Any]) -> list[str]:
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
    least = _only(run.params.get("min_patches") for run in runs)
    macro = f"macro: mean over classes with at least {least} predicted patches."
    return [
        *([f"All runs: {', '.join(parts)}."] if parts else []),
        *([macro] if least is not None else []),
    ]


def _only(values: Iterable[Any]) -> Any:
    """The value that all share; None where they differ."""
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else None


def warnings(runs: Sequence[TrackedRun], names: Sequence[str]) -> list[str]:
    """What keeps the numbers of these runs from meaning what they seem to."""

    def naming(holds: Callable[[TrackedRun], bool]) -> list[str]:
        return [name for run, name in zip(runs, names, strict=True) if holds(run)]

    notes = []
    if same := naming(lambda run: run.tag("pooled_telling") == "false"):
        notes.append(identical_note(same))
    if seen := naming(lambda run: run.tag("latents_on_evaluation") == "true"):
        notes.append(f"{', '.join(seen)}: latents were chosen on the images evaluated.")
    if unlike := [what for tag, what in SAME.items() if len({run.tag(tag) for run in runs}) > 1]:
        notes.append(f"Not alike: the runs differ in {', '.join(unlike)}.")
    if len({run.tag("protocol") for run in runs}) > 1:
        notes.append("Not alike: the protocols count target and other in different ways.")
    return notes


def _omitted(runs: Sequence[TrackedRun]) -> list[str]:
    if not runs:
        return []
    states = ", ".join(f"{run.name} {run.status}" for run in runs[:3])
    more = ", ..." if len(runs) > 3 else ""
    noun = "run" if len(runs) == 1 else "runs"
    return [f"{len(runs)} unfinished {noun} left out: {states}{more}."]
