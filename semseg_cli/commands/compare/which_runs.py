"""Which runs a comparison is made of: those named, or the newest of each kind, and their baseline.

No mlflow until a store is opened.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from semseg_cli import tracking
from semseg_cli.commands.compare.baselines import baselines
from semseg_cli.commands.compare.run_kinds import classes_asked, has_ended, kind, method_name
from semseg_cli.errors import SemsegError, VersionError
from semseg_cli.runs.report import SCHEMA_VERSION
from semseg_cli.settings.compare import RunChoice
from semseg_cli.show.run_notes import listed
from semseg_cli.tracking.store_address import public, sqlite_path
from semseg_cli.tracking.tracked_run import TrackedRun


@dataclass(frozen=True)
class Candidates:
    """The runs to show, what is to be said of those that are not, and baselines.

    `baselines` has by run id what each run is compared with, `baseline` what the user calls it.
    """

    shown: tuple[TrackedRun, ...]
    notes: tuple[str, ...] = ()
    baselines: Mapping[str, TrackedRun] = field(default_factory=dict)
    baseline: str = ""


def candidates(
    choice: RunChoice, wanted: Sequence[str] = (), *, by_class: bool = False
) -> Candidates:
    """The runs that `wanted` names in their order, else the newest finished one of each kind.

    A kind is a method with its own settings, the protocol, the images and classes asked for, and
    all parts of the model; these go by falling macro selectivity, and what is passed over is said.
    Runs of some classes alone would narrow a table of runs to these: they stay out where others
    are of all classes, unless they are named or the table is `by_class`.

    Raises:
        UsageError: an unknown method.
        SemsegError: no such run, or no finished one.
    """
    methods = [method_name(name) for name in choice.method]
    pool = _pool(choice, wanted)
    found, notes = _named(pool, wanted) if wanted else (pool, [])
    found, foreign = _of_this_version(found)
    found = [run for run in found if not methods or run.tag("method") in methods]
    found = [run for run in found if choice.sweep in (None, run.tag("sweep_id"))]
    kept = [run for run in found if choice.unfinished or has_ended(run, named=bool(wanted))]
    notes += foreign
    if not kept:
        raise _nothing(choice, found, notes, wanted)
    known = {run.run_id for run in kept}
    unfinished = [run for run in found if run.run_id not in known]
    kept, partial = (kept, []) if wanted or by_class else _of_all_classes(kept)
    shown = kept if wanted else _newest(kept, choice.last)
    notes += _left_out(len(kept) - len(shown), len(kept), partial, unfinished)
    label, compared = baselines(choice, shown, pool)
    known = {run.run_id for run in shown}
    added = {run.run_id: run for run in compared.values() if run.run_id not in known}
    return Candidates((*shown, *added.values()), tuple(notes), compared, label)


def _is_folder(one: str) -> bool:
    return tracking.folder_of(one) is not None


def _pool(choice: RunChoice, wanted: Sequence[str]) -> list[TrackedRun]:
    """The runs of the store to choose from; none where every run is named by its folder."""
    if wanted and all(_is_folder(one) for one in wanted):
        return []
    uri = tracking.resolve_uri(choice.tracking_uri)
    if wanted:
        return tracking.find_runs(uri) if _is_there(uri) else []
    return tracking.find_runs(uri, choice.experiments, choice.filter)


def _is_there(uri: str) -> bool:
    """Whether a store may have runs: a file that is not there has none, a folder may."""
    path = sqlite_path(uri)
    return path is None or path.exists() or not tracking.folders_below()


def _named(pool: Sequence[TrackedRun], wanted: Sequence[str]) -> tuple[list[TrackedRun], list[str]]:
    """The named runs, each once, and what is to be said of folders of another version."""
    runs: dict[str, TrackedRun] = {}
    notes = []
    for one in wanted:
        try:
            run = tracking.find_named(one, pool)
        except VersionError as error:
            notes.append(f"Left out: {error}")
            continue
        runs.setdefault(run.run_id, run)
    return list(runs.values()), notes


def _of_this_version(runs: Sequence[TrackedRun]) -> tuple[list[TrackedRun], list[str]]:
    """The runs whose form we know, and a note on the others."""
    ours = [run for run in runs if run.tag("schema_version") in (None, str(SCHEMA_VERSION))]
    known = {run.run_id for run in ours}
    others = [run for run in runs if run.run_id not in known]
    if not others:
        return ours, []
    versions = ", ".join(dict.fromkeys(str(run.tag("schema_version")) for run in others))
    return ours, [
        f"Left out: {_count(others)} of schema version {versions}, this version of semseg-cli "
        f"reads {SCHEMA_VERSION} ({listed([run.name for run in others])})."
    ]


def _count(runs: Sequence[TrackedRun]) -> str:
    return f"{len(runs)} run{'s' * (len(runs) != 1)}"


def _newest(runs: Sequence[TrackedRun], last: int | None) -> list[TrackedRun]:
    by_kind: dict[Any, TrackedRun] = {}
    for run in runs:  # newest first
        is_one_of_a_kind = last or run.status != "FINISHED"
        by_kind.setdefault(run.run_id if is_one_of_a_kind else kind(run), run)
    kept = list(by_kind.values())[:last]
    return sorted(kept, key=lambda run: -run.metrics.get("macro_selectivity", -2.0))


def _of_all_classes(runs: Sequence[TrackedRun]) -> tuple[list[TrackedRun], list[TrackedRun]]:
    """The runs of all classes, and on images that none of them is on those of some; the others."""
    whole = {run.tag("digest.evaluation") for run in runs if not classes_asked(run)}
    partial = [r for r in runs if classes_asked(r) and r.tag("digest.evaluation") in whole]
    ids = {run.run_id for run in partial}
    return [run for run in runs if run.run_id not in ids], partial


def _left_out(
    n_older: int, n_kept: int, partial: Sequence[TrackedRun], unfinished: Sequence[TrackedRun]
) -> list[str]:
    """Which runs are not shown, and what shows them."""
    classes = ", ".join(dict.fromkeys(run.params["class"] for run in partial))
    states = listed([f"{run.name} {run.status}" for run in unfinished], 2)
    parts = {
        f"{n_older} older (--last {n_kept} shows all)": n_older,
        f"{len(partial)} of some classes ({classes}: name them, or --per-class)": partial,
        f"{len(unfinished)} unfinished ({states}: --unfinished)": unfinished,
    }
    said = [text for text, is_there in parts.items() if is_there]
    return [f"Runs left out: {', '.join(said)}."] if said else []


def _nothing(
    choice: RunChoice, found: Sequence[TrackedRun], notes: Sequence[str], wanted: Sequence[str]
) -> SemsegError:
    if found:
        states = ", ".join(f"{run.name}: {run.status}" for run in found[:5])
        return SemsegError(
            f"None of these runs has finished with results ({states}): wait for one, make one "
            "with `semseg-cli auto-feat`, or list them with --unfinished."
        )
    if notes:
        return SemsegError(" ".join(notes))
    limits = [f"--method {name}" for name in choice.method]
    limits += [f"--sweep {choice.sweep}"] if choice.sweep is not None else []
    limits += [f"--filter {choice.filter!r}"] if choice.filter and not wanted else []
    fitting = f" that fits {', '.join(limits)}" if limits else ""
    place = ""
    if not wanted:
        names = " or ".join(repr(name) for name in choice.experiments) or "any"
        place = f" in experiment {names} of {public(tracking.resolve_uri(choice.tracking_uri))}"
    return SemsegError(
        f"There is no run to compare{fitting}{place}: make one with `semseg-cli auto-feat`."
    )
