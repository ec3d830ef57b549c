"""The `compare` command: which tracked runs to set side by side.

No torch, and no mlflow until a store is opened.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from semseg_cli import tracking
from semseg_cli.comparison import comparison, setting_of
from semseg_cli.config import METHODS, Output, Settings, option
from semseg_cli.errors import SemsegError, UsageError
from semseg_cli.runs import RunFolder
from semseg_cli.store import public
from semseg_cli.tables import SUFFIXES, Table
from semseg_cli.tracked import TrackedRun, from_folder, pick

Format = Literal["auto", "table", "csv", "json", "markdown", "latex"]
COMMANDS = {method.name: method.command for method in METHODS}


@dataclass(frozen=True, kw_only=True)
class Compare(Settings):
    """Which runs to compare, and how to print them."""

    panel: ClassVar[str] = "Comparison"

    experiment: tuple[str, ...] = option(
        (Output.experiment,), "Experiment to take runs from (repeatable)."
    )
    method: tuple[str, ...] = option((), "Only runs of this method (repeatable): auto-feat, ...")
    filter: str = option("", "Only runs that fit, in MLflow's syntax: metrics.other_change < 0.1")
    last: int | None = option(
        None, "The newest N finished runs, instead of the newest of each kind.", ge=1
    )
    format: Format = option("auto", "Form of the table; auto goes by the suffix of --output.")
    output: Path | None = option(None, "Write to this file instead of the terminal.")
    tracking_uri: str | None = option(
        None, "MLflow store; else MLFLOW_TRACKING_URI, else mlflow.db in this folder."
    )

    @property
    def output_format(self) -> str:
        """The form to print: the one asked for, else that of the file's suffix, else a table."""
        by_suffix = SUFFIXES.get(self.output.suffix.lower(), "table") if self.output else "table"
        return by_suffix if self.format == "auto" else self.format


def compare(settings: Compare, wanted: Sequence[str] = ()) -> Table:
    """One row per run: those that `wanted` names, else the newest finished one of each kind.

    A kind is a method with its own settings and the protocol. Rows go by falling selectivity,
    named runs stay in their order.

    Raises:
        UsageError: an unknown method.
        SemsegError: no such run, or no finished one.
    """
    methods = [_method_name(name) for name in settings.method]
    uri = tracking.resolve_uri(settings.tracking_uri) if _needs_store(wanted) else ""
    if wanted:
        found = _named(uri, wanted)
    else:
        found = tracking.find_runs(uri, settings.experiment, settings.filter)
    found = [run for run in found if not methods or run.tag("method") in methods]
    finished = [run for run in found if is_shown(run, named=bool(wanted))]
    shown = finished if wanted else _newest(finished, settings.last)
    if not shown:
        raise _nothing(settings, found, uri)
    return comparison(shown, [run for run in found if run not in finished])


def _method_name(name: str) -> str:
    by_command = {command: method for method, command in COMMANDS.items()}
    if name not in by_command and name not in COMMANDS:
        raise UsageError(f"method is {name!r}: choose one of {', '.join(by_command)}")
    return by_command.get(name, name)


def _needs_store(wanted: Sequence[str]) -> bool:
    return not wanted or any(not _is_folder(one) for one in wanted)


def _is_folder(one: str) -> bool:
    return (Path(one) / "run.json").is_file()


def _named(uri: str, wanted: Sequence[str]) -> list[TrackedRun]:
    tracked = tracking.find_runs(uri) if uri else []
    runs = [
        from_folder(RunFolder(Path(one))) if _is_folder(one) else pick(tracked, one)
        for one in wanted
    ]
    return list({run.run_id: run for run in runs}.values())


def is_shown(run: TrackedRun, *, named: bool) -> bool:
    """Whether a run has results to show; those that did not finish must be asked for by name."""
    return "selectivity" in run.metrics and (named or run.status == "FINISHED")


def _newest(runs: Sequence[TrackedRun], last: int | None) -> list[TrackedRun]:
    by_kind: dict[Any, TrackedRun] = {}
    for run in runs:  # newest first
        by_kind.setdefault(run.run_id if last else kind(run), run)
    kept = list(by_kind.values())[:last]
    return sorted(kept, key=lambda run: -run.metrics["selectivity"])


def kind(run: TrackedRun) -> tuple[int | float | str | None, ...]:
    """What two runs must share for the newer one to stand for both."""
    own = {f.name for method in METHODS for f in fields(method)} - {"lookup"}
    return (
        run.tag("method"),
        run.tag("protocol"),
        *(setting_of(run, name) for name in sorted(own)),
    )


def _nothing(settings: Compare, found: Sequence[TrackedRun], uri: str) -> SemsegError:
    where = " or ".join(repr(name) for name in settings.experiment) or "any"
    if found:
        states = ", ".join(f"{run.name}: {run.status}" for run in found[:5])
        return SemsegError(
            f"None of these runs has finished with results ({states}): wait for one, or make one "
            "with `semseg-cli auto-feat`."
        )
    return SemsegError(
        f"There is no run to compare in experiment {where} of {public(uri)}: make one with "
        "`semseg-cli auto-feat`."
    )
