"""A run that was stopped, found by what a user calls it, and its settings as a command's own."""

import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semseg_cli.errors import SemsegError, UsageError
from semseg_cli.settings.base import default_of
from semseg_cli.settings.options import SettingsCommand
from semseg_cli.settings.toml_files import KNOWN

if TYPE_CHECKING:
    from semseg_cli.runs.folder import RunFolder


class ResumableCommand(SettingsCommand):
    """A command of which `--resume` gives the settings, where no other source is named."""

    def _defaults(self, given: dict[str, Any]) -> dict[str, Any]:
        named = {name: given.get(name) or _variable(name) for name in ("resume", "dump_to")}
        wanted = named["resume"]
        if not wanted or any(given.get(name) or _variable(name) for name in ("config", "preset")):
            return super()._defaults(given)
        from semseg_cli.runs.folder import SETTINGS_FILE

        folders = find_stopped(wanted, Path(named["dump_to"] or default_of(KNOWN["dump_to"].field)))
        paths = [folder.path / SETTINGS_FILE for folder in folders]
        values = super()._defaults({**given, "config": str(paths[0])})
        values |= _tracking(folders[0].meta)
        if "scale" in values:
            values["scale"] = [str(scale) for path in paths for scale in _scales(path)]
        return values


def _tracking(meta: dict[str, Any]) -> dict[str, Any]:
    """A run goes on in the store that it began in."""
    uri = meta["tracking_uri"]
    return {"no_track": True} if uri is None else {"tracking_uri": uri}


def _variable(name: str) -> str | None:
    return os.environ.get(f"SEMSEG_{name.upper()}")


def _scales(path: Path) -> list[float]:
    return list(tomllib.loads(path.read_text("utf-8"))["scale"])


def find_stopped(wanted: str, dump_to: Path) -> "list[RunFolder]":
    """The folders of the command that a run belongs to, one per scale, in their order.

    `wanted` is the folder of one, or where that lies in `dump_to` its name or end (`1a2b`), the
    run's id or name.

    Raises:
        UsageError: they are finished.
        SemsegError: there is no such run.
    """
    from semseg_cli.runs.folder import RUN_FILE, RunFolder

    is_path = (Path(wanted) / RUN_FILE).is_file()
    folder = RunFolder(Path(wanted)) if is_path else _named(wanted, dump_to)
    sweep = folder.meta["sweep_id"]
    near = _known(folder.path.absolute().parent)
    of_command = [one for one, meta in near if meta["sweep_id"] == sweep]
    if all(one.meta["status"] == "FINISHED" for one in of_command):
        raise UsageError(
            f"The run {folder.path} is finished, nothing of it is left to do: leave --resume out "
            "to run it again."
        )
    return sorted(of_command, key=lambda one: str(one.meta["created"]))


def _known(dump_to: Path) -> "list[tuple[RunFolder, dict[str, Any]]]":
    """The runs of interventions in a folder, newest first, and what run.json says of them."""
    from semseg_cli.runs.folder import run_folders

    found = [one for one in run_folders(dump_to) if one[1]["kind"] == "intervention"]
    return sorted(found, key=lambda one: str(one[1]["created"]), reverse=True)


def _named(wanted: str, dump_to: Path) -> "RunFolder":
    """The run that `pick` finds among those in a folder; those that are not finished first."""
    from semseg_cli.runs.folder import RunFolder
    from semseg_cli.tracking.named_run import NoSuchRunError, pick
    from semseg_cli.tracking.tracked_run import identity_of

    runs = [identity_of(folder) for folder, _ in _known(dump_to)]
    left = [run for run in runs if run.status != "FINISHED"]
    try:
        return RunFolder(Path(pick(wanted, left, runs).source))
    except NoSuchRunError as error:
        raise SemsegError(f"--resume finds nothing in {dump_to}. {error}") from error
