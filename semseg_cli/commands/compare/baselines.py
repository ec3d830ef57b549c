"""With which run each run of a comparison is compared. No mlflow until a store is opened."""

import math
from collections.abc import Iterable, Sequence

from semseg_cli import tracking
from semseg_cli.commands.compare.dictionaries import dictionaries_apart
from semseg_cli.commands.compare.like_with_like import are_matched, unlike
from semseg_cli.commands.compare.run_kinds import classes_asked, has_ended, is_method, method_name
from semseg_cli.errors import SemsegError
from semseg_cli.settings.compare import RunChoice
from semseg_cli.settings.controls import RandFeat, RandVec
from semseg_cli.settings.methods import MANUAL, AutoFeat
from semseg_cli.tracking.tracked_run import TrackedRun


def baselines(
    choice: RunChoice, shown: Sequence[TrackedRun], pool: Sequence[TrackedRun]
) -> tuple[str, dict[str, TrackedRun]]:
    """What the baseline is called, and by run id the run that each one is compared with.

    Of several runs of a method, it is the first of those that are most like the run.
    """
    if choice.baseline is not None and not is_method(choice.baseline):
        run = _baseline_run(choice, choice.baseline, [*shown, *pool])
        return run.name, {one.run_id: run for one in shown}
    if choice.baseline is None:
        return controls(shown)
    method = method_name(choice.baseline)
    fitting = [run for run in shown if run.tag("method") == method and has_ended(run, named=True)]
    fitting = fitting or _all_of(method, choice, pool)
    return method, {run.run_id: _nearest(run, fitting) or run for run in shown}


def controls(shown: Sequence[TrackedRun]) -> tuple[str, dict[str, TrackedRun]]:
    """The same where no baseline is asked for: a random control whose edit is as long, latents
    before vectors; where there is none, one that is not, which gives no p."""
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
    """The first of those that measure the same, of all classes or the run's, of the same dictionary
    at the same place, at the same scale, as far as there are such; None of none."""
    nearest, least = None, (math.inf, False, 0, False)
    for one in fitting:
        is_same_scale = one.metrics.get("scale") == run.metrics.get("scale")
        apart = (
            len(unlike(run, one)),
            classes_asked(one) not in (frozenset(), classes_asked(run)),
            len(dictionaries_apart(run, one)),
            not is_same_scale,
        )
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
