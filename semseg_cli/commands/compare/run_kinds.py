"""What a run is: by which method, of which kind, and whether it has results. No mlflow."""

from dataclasses import fields
from typing import Any

from semseg_cli.commands.compare.dictionaries import dictionary_of
from semseg_cli.commands.compare.like_with_like import SAME
from semseg_cli.errors import UsageError
from semseg_cli.settings.methods import MANUAL, METHODS, called_now
from semseg_cli.tracking.tracked_run import TrackedRun, setting_of

CALLED = (*(method.command for method in METHODS), MANUAL)


def method_name(name: str) -> str:
    """The method that a user calls by its name of today or of before.

    Raises:
        UsageError: there is no such method.
    """
    if not is_method(name):
        raise UsageError(f"--method is {name!r}: choose one of {', '.join(CALLED)}")
    return called_now(name)


def is_method(name: str) -> bool:
    """Whether a user calls a method so."""
    return called_now(name) in CALLED


def has_ended(run: TrackedRun, *, named: bool) -> bool:
    """Whether a run has results to show; those that did not finish must be asked for by name."""
    return "target_std" in run.metrics and (named or run.status == "FINISHED")


def classes_asked(run: TrackedRun) -> frozenset[str]:
    """The classes that a run was made of, in small letters; none where it was of all."""
    names = run.params.get("class", "").split(", ")
    return frozenset(name.casefold() for name in names if name)


def kind(run: TrackedRun) -> tuple[Any, ...]:
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
        classes_asked(run),
        *(setting_of(run, name) for name in sorted(own)),
    )
