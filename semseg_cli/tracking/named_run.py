"""The run that a user names: by its folder, that folder's name or its end, its id, or its name."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from semseg_cli.errors import SemsegError
from semseg_cli.files import expanded
from semseg_cli.runs.folder import RUN_FILE, RunFolder, run_folders
from semseg_cli.settings.output import Places
from semseg_cli.tracking.tracked_run import TrackedRun, from_folder, short

BELOW = Path(Places.dump_to)
MOST = 5  # candidates in a sentence


class NoSuchRunError(SemsegError):
    """No run has that name, id or folder."""


def folder_of(wanted: str, below: Path = BELOW) -> RunFolder | None:
    """The run folder of that path, or of that name below the folder of runs."""
    for path in (expanded(wanted), below / wanted):
        if wanted and (path / RUN_FILE).is_file():
            return RunFolder(path)
    return None


def find_named(wanted: str, pool: Sequence[TrackedRun], below: Path = BELOW) -> TrackedRun:
    """The run that `wanted` names: a folder, else one of the pool, else one kept only in a folder.

    Raises:
        SemsegError: no run fits, or several do; they, or close names, are listed.
    """
    if (folder := folder_of(wanted, below)) is not None:
        return from_folder(folder)
    try:
        return pick(pool, wanted)
    except NoSuchRunError:
        local = [from_folder(one) for one in folders_below(below) if _is_called(one, wanted)]
        if not local:
            raise
        return pick(local, wanted)


def find_folder(wanted: str, below: Path = BELOW) -> RunFolder:
    """The run folder that `wanted` names, as in `find_named`, without asking any store."""
    source = find_named(wanted, (), below).source
    assert isinstance(source, Path), "a run that is found without a store has a folder"
    return RunFolder(source)


def folders_below(below: Path = BELOW) -> list[RunFolder]:
    """The run folders below a folder, newest first; those of other versions are passed over."""
    found = [(meta["created"], folder.path.name, folder) for folder, meta in run_folders(below)]
    return [folder for *_, folder in sorted(found, key=lambda one: one[:2], reverse=True)]


def _is_called(folder: RunFolder, wanted: str) -> bool:
    meta, name = folder.meta, folder.path.name
    run_id = meta["mlflow_run_id"] or name
    return wanted == meta["run_name"] or _fits(wanted, run_id, meta["run_name"], short(name))


def pick(runs: Sequence[TrackedRun], wanted: str) -> TrackedRun:
    """The run of that id, of that name (before all those that finished), whose id begins so, or
    that tables tell from others of its name by that end of its folder's name.

    Raises:
        SemsegError: no run, or more than one, fits; they, or close names, are listed.
    """
    exact = [run for run in runs if wanted == run.run_id]
    if exact:
        return exact[0]
    named = [run for run in runs if run.name == wanted]
    named = [run for run in named if run.status == "FINISHED"] or named
    if len(named) == 1:
        return named[0]
    if named:
        raise SemsegError(
            f"{len(named)} runs are called {wanted!r} ({_listed(named)}): give an id or a folder."
        )
    fitting = [run for run in runs if _fits(wanted, run.run_id, run.name, run.short_id)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise SemsegError(
            f"{wanted!r} stands for {len(fitting)} runs ({_listed(fitting)}): give more."
        )
    close = difflib.get_close_matches(wanted, list(dict.fromkeys(run.name for run in runs)))
    hint = f"did you mean {', '.join(close)}?" if close else "`semseg-cli compare` lists the runs."
    raise NoSuchRunError(f"No run has the id, name or folder {wanted!r}: {hint}")


def _fits(wanted: str, run_id: str, name: str, end: str) -> bool:
    """Whether the id begins so, or that ends the folder's name, alone or as tables show it."""
    said, run_id = wanted.lower(), run_id.lower()
    whole = [f"{name} ({one})".lower() for one in (end, run_id)]
    return bool(said) and (run_id.startswith(said) or said in (end.lower(), *whole))


def _listed(runs: Sequence[TrackedRun]) -> str:
    told = [f"{run.run_id[:12]} {run.name} of {_when(run)}" for run in runs[:MOST]]
    return ", ".join([*told, *(["..."] if len(runs) > MOST else [])])


def _when(run: TrackedRun) -> str:
    return run.started.astimezone().strftime("%Y-%m-%d %H:%M")
