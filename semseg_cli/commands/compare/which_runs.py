"""Which runs a comparison is made of: those named, or the newest of each kind, and their baseline.

No mlflow until a store is opened.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from semseg_cli import tracking
from semseg_cli.commands.compare.dictionaries import dictionaries_apart, dictionary_of
from semseg_cli.commands.compare.like_with_like import SAME, are_matched, unlike
from semseg_cli.errors import SemsegError, UsageError, VersionError
from semseg_cli.runs.report import SCHEMA_VERSION
from semseg_cli.settings.compare import RunChoice
from semseg_cli.settings.controls import RandFeat, RandVec
from semseg_cli.settings.methods import MANUAL, METHODS, AutoFeat, called_now
from semseg_cli.show.run_notes import listed
from semseg_cli.tracking.store_address import public, sqlite_path
from semseg_cli.tracking.tracked_run import TrackedRun, setting_of

CALLED = (*(method.command for method in METHODS), MANUAL)


@dataclass(frozen=True)
class Candidates:
    """The runs to show, the unfinished ones that are not, what was passed over, and baselines.

    `baselines` has by run id what each run is compared with, `baseline` what the user calls it.
    """

    shown: tuple[TrackedRun, ...]
    left_out: tuple[TrackedRun, ...] = ()
    notes: tuple[str, ...] = ()
    baselines: Mapping[str, TrackedRun] = field(default_factory=dict)
    baseline: str = ""


def candidates(choice: RunChoice, wanted: Sequence[str] = ()) -> Candidates:
    """The runs that `wanted` names in their order, else the newest finished one of each kind.

    A kind is a method with its own settings, the protocol, the images, and all parts of the model;
    these go by falling macro selectivity, and what is passed over is said.

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
    shown = kept if wanted else _newest(kept, choice.last)
    notes += foreign
    if len(shown) < len(kept) and shown:
        what = (
            str(choice.last) if choice.last else "of each kind (method, its settings, SAE, images)"
        )
        notes.append(
            f"{_count(kept)}, {len(shown)} shown: the newest {what}; --last {len(kept)} shows all."
        )
    if not shown:
        raise _nothing(choice, found, notes, wanted)
    known = {run.run_id for run in kept}
    left_out = tuple(run for run in found if run.run_id not in known)
    label, compared = _baselines(choice, shown, pool)
    known = {run.run_id for run in shown}
    added = {run.run_id: run for run in compared.values() if run.run_id not in known}
    return Candidates((*shown, *added.values()), left_out, tuple(notes), compared, label)


def method_name(name: str) -> str:
    """The method that a user calls by its name of today or of before.

    Raises:
        UsageError: there is no such method.
    """
    if not _is_method(name):
        raise UsageError(f"--method is {name!r}: choose one of {', '.join(CALLED)}")
    return called_now(name)


def _is_method(name: str) -> bool:
    return called_now(name) in CALLED


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


def has_ended(run: TrackedRun, *, named: bool) -> bool:
    """Whether a run has results to show; those that did not finish must be asked for by name."""
    return "target_std" in run.metrics and (named or run.status == "FINISHED")


def _newest(runs: Sequence[TrackedRun], last: int | None) -> list[TrackedRun]:
    by_kind: dict[Any, TrackedRun] = {}
    for run in runs:  # newest first
        is_one_of_a_kind = last or run.status != "FINISHED"
        by_kind.setdefault(run.run_id if is_one_of_a_kind else kind(run), run)
    kept = list(by_kind.values())[:last]
    return sorted(kept, key=lambda run: -run.metrics.get("macro_selectivity", -2.0))


def kind(run: TrackedRun) -> tuple[int | float | str | None, ...]:
    """What two runs must share for the newer one to stand for both."""
    own = {f.name for method in METHODS for f in fields(method)} - {"lookup"}
    dictionary = dictionary_of(run)
    return (
        run.tag("method"),
        run.tag("protocol"),
        *(run.tag(tag) for tag in SAME),
        dictionary.digest,
        dictionary.layer,
        dictionary.site,
        *(setting_of(run, name) for name in sorted(own)),
    )


def _baselines(
    choice: RunChoice, shown: Sequence[TrackedRun], pool: Sequence[TrackedRun]
) -> tuple[str, dict[str, TrackedRun]]:
    """What the baseline is called, and by run id the run that each one is compared with.

    Of several runs of a method, it is the first of those that are most like the run.
    """
    if choice.baseline is not None and not _is_method(choice.baseline):
        run = _baseline_run(choice, choice.baseline, [*shown, *pool])
        return run.name, {one.run_id: run for one in shown}
    if choice.baseline is None:
        return _controls(shown)
    method = method_name(choice.baseline)
    fitting = [run for run in shown if run.tag("method") == method and has_ended(run, named=True)]
    fitting = fitting or _all_of(method, choice, pool)
    return method, {run.run_id: _nearest(run, fitting) or run for run in shown}


def _controls(shown: Sequence[TrackedRun]) -> tuple[str, dict[str, TrackedRun]]:
    """By default each run is compared with a random control whose edit is as long, latents before
    vectors; where there is none, with one that is not, which gives no p."""
    ended = [run for run in shown if has_ended(run, named=True)]
    latents, vectors = (
        [run for run in ended if run.tag("method") == method.command]
        for method in (RandFeat, RandVec)
    )
    if not latents and not vectors:
        return "", {}
    found = {run.run_id: _control_of(run, latents, vectors) for run in shown}
    used = {found[run.run_id].tag("method") for run in shown if found[run.run_id] is not run}
    return str(used.pop()) if len(used) == 1 else "control", found


def _control_of(
    run: TrackedRun, latents: Sequence[TrackedRun], vectors: Sequence[TrackedRun]
) -> TrackedRun:
    own = latents if run in vectors else [*latents, *vectors]
    as_long = (c for c in own if are_matched(run, c) and not unlike(run, c))
    found = _nearest(run, as_long) if run not in latents else None
    return found or _nearest(run, latents or vectors) or run


def _nearest(run: TrackedRun, fitting: Iterable[TrackedRun]) -> TrackedRun | None:
    """The first of those that measure the same, of the same dictionary at the same place, at the
    same scale, as far as there are such; None of none."""
    nearest, least = None, (math.inf, 0, False)
    for one in fitting:
        is_same_scale = one.metrics.get("scale") == run.metrics.get("scale")
        apart = len(unlike(run, one)), len(dictionaries_apart(run, one)), not is_same_scale
        if apart < least:
            nearest, least = one, apart
        if not any(apart):
            break  # nothing can be nearer
    return nearest


def _baseline_run(choice: RunChoice, name: str, known: Sequence[TrackedRun]) -> TrackedRun:
    try:
        return tracking.find_named(name, known)
    except SemsegError:
        # It may lie in another experiment, or the runs may be folders.
        pool = tracking.find_runs(tracking.resolve_uri(choice.tracking_uri))
        return tracking.find_named(name, pool)


def _all_of(method: str, choice: RunChoice, pool: Sequence[TrackedRun]) -> list[TrackedRun]:
    """The finished runs of a method, newest first."""
    found = [r for r in pool if r.tag("method") == method and has_ended(r, named=False)]
    if not found:
        raise SemsegError(
            f"--baseline {choice.baseline} has no finished run in the store to compare with: make "
            f"one with `semseg-cli {AutoFeat.command if method == MANUAL else method}`."
        )
    return found


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
