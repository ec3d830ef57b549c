"""The run that a user names: by its folder, that folder's name or its end, its id, or its name."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from semseg_cli.errors import SemsegError
from semseg_cli.files import expanded
from semseg_cli.runs.folder import RUN_FILE, RunFolder, run_folders
from semseg_cli.settings.output import Places
from semseg_cli.tracking.tracked_run import TrackedRun, from_folder, identity_of

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
    if (run := _called(pool, wanted)) is not None:
        return run
    local = [identity_of(one) for one in folders_below(below)]
    run = pick(wanted, pool, local)
    return from_folder(RunFolder(Path(run.source))) if run in local else run


def find_folder(wanted: str, below: Path = BELOW) -> RunFolder:
    """The run folder that `wanted` names, as in `find_named`, without asking any store."""
    source = find_named(wanted, (), below).source
    assert isinstance(source, Path), "a run that is found without a store has a folder"
    return RunFolder(source)


def folders_below(below: Path = BELOW) -> list[RunFolder]:
    """The run folders below a folder, newest first; those of other versions are passed over."""
    found = [(meta["created"], folder.path.name, folder) for folder, meta in run_folders(below)]
    return [folder for *_, folder in sorted(found, key=lambda one: one[:2], reverse=True)]


def pick(wanted: str, *groups: Sequence[TrackedRun]) -> TrackedRun:
    """The run of that id or folder, of that name (before all those that finished), or that tables
    tell from others of its name by that end of its folder's name; else the one whose id begins so.
    Of several groups of runs the first that has one.

    Raises:
        NoSuchRunError: no run fits; close names are listed.
        SemsegError: more than one fits; they are listed.
    """
    for find in (_called, _beginning):
        for runs in groups:
            if (run := find(runs, wanted)) is not None:
                return run
    names = dict.fromkeys(run.name for runs in groups for run in runs)
    close = difflib.get_close_matches(wanted, list(names))
    hint = f"did you mean {', '.join(close)}?" if close else "`semseg-cli compare` lists the runs."
    raise NoSuchRunError(f"No run has the id, name or folder {wanted!r}: {hint}")


def _called(runs: Sequence[TrackedRun], wanted: str) -> TrackedRun | None:
    """The run that is called so in full."""
    for run in runs:
        if wanted in (run.run_id, run.tag("folder")):
            return run
    named = [run for run in runs if run.name == wanted]
    named = [run for run in named if run.status == "FINISHED"] or named
    if len(named) > 1:
        raise SemsegError(
            f"{len(named)} runs are called {wanted!r} ({_listed(named)}): give what is in "
            "brackets behind one, an id or a folder."
        )
    ending = [run for run in runs if wanted.lower() in _ends(run)]
    return _only(named or ending, wanted)


def _ends(run: TrackedRun) -> tuple[str, ...]:
    """What tables show of a run beside others of its name, alone and behind its name."""
    end, run_id = run.short_id.lower(), run.run_id.lower()
    return end, f"{run.name.lower()} ({end})", f"{run.name.lower()} ({run_id})"


def _beginning(runs: Sequence[TrackedRun], wanted: str) -> TrackedRun | None:
    """The run whose id begins so."""
    return _only([run for run in runs if _begins(run.run_id, wanted)], wanted)


def _begins(run_id: str, wanted: str) -> bool:
    return bool(wanted) and run_id.lower().startswith(wanted.lower())


def _only(fitting: Sequence[TrackedRun], wanted: str) -> TrackedRun | None:
    if len(fitting) > 1:
        raise SemsegError(
            f"{wanted!r} stands for {len(fitting)} runs ({_listed(fitting)}): give more."
        )
    return fitting[0] if fitting else None


def _listed(runs: Sequence[TrackedRun]) -> str:
    """The runs by what names one alone: the end of the folder where no other has it, else the
    id."""
    ends = [run.short_id for run in runs]
    told = [
        f"{run.name} ({run.short_id if ends.count(run.short_id) == 1 else run.run_id}) of "
        f"{_when(run)}"
        for run in runs[:MOST]
    ]
    return ", ".join([*told, *(["..."] if len(runs) > MOST else [])])


def _when(run: TrackedRun) -> str:
    return run.started.astimezone().strftime("%Y-%m-%d %H:%M")
