"""What must be said about runs that stand side by side, below their table."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np

from semseg_cli.commands.compare.artifacts import Artifacts
from semseg_cli.commands.compare.dictionaries import dictionary_names
from semseg_cli.commands.compare.difference_notes import COMPARED, differences
from semseg_cli.commands.compare.like_with_like import SAME, in_words, unpaired
from semseg_cli.commands.compare.over_classes import common_classes, is_narrowed, report_over
from semseg_cli.commands.compare.settings_apart import settings_notes
from semseg_cli.commands.compare.units import Units
from semseg_cli.commands.compare.which_runs import Candidates
from semseg_cli.demo.world import DEMO_CAPTION, is_world
from semseg_cli.runs.groups import sampling_notes
from semseg_cli.runs.inference import MEASURES
from semseg_cli.runs.per_image import PerImage
from semseg_cli.runs.rows import Row
from semseg_cli.show.run_notes import by_run, exclusions, interval_notes, listed, overlaps
from semseg_cli.show.run_tables import identical_note
from semseg_cli.show.tables import cell
from semseg_cli.tracking.tracked_run import TrackedRun

POOLED = frozenset(MEASURES)
MORE = "More: docs/compare.md."


def captions(
    chosen: Candidates,
    rows: Sequence[Row],
    keys: Sequence[str],
    artifacts: Artifacts,
    units: Units,
    hidden: Sequence[str] = (),
) -> list[str]:
    """All notes of a comparison that has columns of these keys, the most general first; `hidden`
    are settings that differ and have none."""
    names = [row["run"] for row in rows]
    classes = common_classes(chosen.shown, artifacts)
    return [
        *_common(rows),
        *demo(chosen.shown),
        *_constants(chosen.shown, rows),
        *dictionaries(chosen.shown, names),
        *settings_notes(chosen.shown, names, hidden, " (--format csv)"),
        *interval_notes(rows, [key for key in keys if not key.endswith("_difference")]),
        *differences(chosen, rows, keys),
        *_orders(rows),
        *warnings(chosen, names, artifacts, classes, is_pooled=not POOLED.isdisjoint(keys)),
        *excluded(chosen.shown, names, artifacts, units, classes),
        *grouping(chosen.shown, artifacts, units),
        *artifacts.notes(),
        *chosen.notes,
        MORE,
    ]


def demo(runs: Sequence[TrackedRun]) -> list[str]:
    """Whether some of the runs are of the demo world."""
    of_demo = [run for run in runs if is_world(run.params.get("imgs_root"))]
    which = "" if len(of_demo) == len(runs) else f" ({listed([run.name for run in of_demo])})"
    return [DEMO_CAPTION.replace(" (", f"{which} (", 1)] if of_demo else []


def _constants(runs: Sequence[TrackedRun], rows: Sequence[Row]) -> list[str]:
    """What all runs have in common, as far as it is needed to read the numbers."""
    said = {
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


def _common(rows: Sequence[Row]) -> list[str]:
    """Which runs have more classes than the numbers are over, and what was not made anew."""
    counts = [f"{row['run']} has {row['n_classes']:g}" for row in rows if is_narrowed(row)]
    return [f"Over the classes that all runs have: {listed(counts)}."] if counts else []


def dictionaries(runs: Sequence[TrackedRun], names: Sequence[str]) -> list[str]:
    """Which dictionary each run is of, where there are several."""
    called = dictionary_names(runs)
    if not called:
        return []
    who: dict[str, list[str]] = {}
    for run, name in zip(runs, names, strict=True):
        who.setdefault(called[run.run_id], []).append(name)
    said = "; ".join(f"{dictionary}: {', '.join(of)}" for dictionary, of in who.items())
    return [f"SAEs: {said}."]


def _orders(rows: Sequence[Row]) -> list[str]:
    """The pairs of runs that macro and pooled selectivity put in different orders."""
    known = [r for r in rows if None not in (r.get("selectivity"), r.get(COMPARED))]
    ordered = sorted((row[COMPARED], row["selectivity"]) for row in known)
    if all(one[1] <= two[1] for one, two in pairwise(ordered)):
        return []  # of many runs no pair need be looked at
    turned = [
        f"{one['run']} and {two['run']}"
        for i, one in enumerate(known)
        for two in known[i + 1 :]
        if (one[COMPARED] - two[COMPARED]) * (one["selectivity"] - two["selectivity"]) < 0
    ]
    return [f"Pooled and macro selectivity disagree on the order of {listed(turned)}."] * bool(
        turned
    )


def warnings(
    chosen: Candidates,
    names: Sequence[str],
    artifacts: Artifacts,
    classes: Mapping[str, Sequence[int]] = MappingProxyType({}),
    *,
    is_pooled: bool = False,
) -> list[str]:
    """What keeps the numbers of these runs from meaning what they seem to; `classes` has by run id
    those that a run's numbers are over, `is_pooled` says that pooled ones are shown."""
    runs = chosen.shown

    def naming(holds: Callable[[TrackedRun], bool]) -> list[str]:
        return [name for run, name in zip(runs, names, strict=True) if holds(run)]

    notes = by_run({name: _doubts(run) for run, name in zip(runs, names, strict=True)})
    same = naming(lambda run: run.tag("pooled_telling") == "false") if is_pooled else []
    if same:
        notes.append(identical_note(same))
    notes += overlaps([(name, run.metrics) for run, name in zip(runs, names, strict=True)])
    if seen := naming(lambda run: run.tag("latents_on_evaluation") == "true"):
        notes.append(f"{', '.join(seen)}: latents were chosen on the images evaluated.")
    not_paired = _not_paired(chosen, names, artifacts, classes)
    apart = [what for tag, what in SAME.items() if len({run.tag(tag) for run in runs}) > 1]
    if untold := [what for what in apart if not any(in_words(what) in said for said in not_paired)]:
        notes.append(f"Not alike: the runs differ in {', '.join(untold)}.")
    if len({run.tag("protocol") for run in runs}) > 1:
        notes.append("Not alike: the protocols count target and other in different ways.")
    return notes + not_paired


def _doubts(run: TrackedRun) -> list[str]:
    """What the run said of its parts, which do not seem to fit."""
    said = run.tag("doubts")
    return [said] if said else []


def _not_paired(
    chosen: Candidates,
    names: Sequence[str],
    artifacts: Artifacts,
    classes: Mapping[str, Sequence[int]],
) -> list[str]:
    """Which runs are not compared with their baseline image by image, and why."""
    found: dict[str, dict[str, list[str]]] = {}
    for run, name in zip(chosen.shown, names, strict=True):
        baseline = chosen.baselines.get(run.run_id)
        if baseline is None or baseline.run_id == run.run_id:
            continue
        if why := unpaired(run, baseline, artifacts, classes.get(run.run_id)):
            found.setdefault(baseline.name, {}).setdefault(why, []).append(name)
    return [
        f"Not paired with {base}: {', '.join(f'{listed(who)} ({why})' for why, who in of.items())}."
        for base, of in found.items()
    ]


def excluded(
    runs: Sequence[TrackedRun],
    names: Sequence[str],
    artifacts: Artifacts,
    units: Units,
    classes: Mapping[str, Sequence[int]] = MappingProxyType({}),
) -> list[str]:
    """Which of these classes no macro mean is over, and why; one line for runs of which the same is
    true."""
    said: dict[str, list[str]] = {}
    for run, name in zip(runs, names, strict=True):
        known = report_over(run, classes.get(run.run_id), artifacts, units)
        report = known if run.metrics else None
        if report is not None and (line := exclusions(report)):
            said.setdefault(line, []).append(name)
    is_all = len(said) == 1 and len(next(iter(said.values()))) == len(runs)
    return [line if is_all else f"{listed(who)}: {line}" for line, who in said.items()]


def grouping(runs: Sequence[TrackedRun], artifacts: Artifacts, units: Units) -> list[str]:
    """That images are grouped, or should be."""
    counts = next(filter(None, map(artifacts.per_image, runs)), None)
    if counts is None:
        return []
    return sampling_notes(sorted(counts.images), units.groups(counts), _in_order(counts))


def _in_order(counts: PerImage) -> np.ndarray:
    """Patches per class of the images in the order of their names."""
    found: np.ndarray = counts.on(sorted(counts.images), counts.class_ids)[..., 0]
    return found
