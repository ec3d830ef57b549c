"""Lookups made before: a file, a run folder or a run of the store, and where they came from."""

from pathlib import Path
from typing import Any

from semseg_cli import tracking
from semseg_cli.files import expanded
from semseg_cli.runs.folder import LOOKUP_FILE, RUN_FILE, RunFolder
from semseg_cli.runs.lookup_csv import Reused, is_lookup_path, lookup_from_path
from semseg_cli.settings.output import Output
from semseg_cli.tracking.tracked_run import TrackedRun, from_folder


def read_reused(source: str, tracking_uri: str | None, dump_to: Path = Output.dump_to) -> Reused:
    """The lookup that a user names by a file, a run folder, or a run's id or name.

    Runs are those of the store and the folders in `dump_to`.

    Raises:
        SemsegError: it is none of them, or cannot be read.
    """
    if is_lookup_path(source):
        path = expanded(source)
        text = lookup_from_path(source)
        folder = path if path.is_dir() else path.parent
        is_of_run = (folder / RUN_FILE).is_file()
        if not is_of_run:
            return Reused(text, is_manual=True)
        run = from_folder(RunFolder(folder))
        return Reused(text, _dataset(run), run.tag("digest.sae"))
    run = tracking.find_lookup(tracking.resolve_uri(tracking_uri), source, dump_to)
    text = tracking.read_artifact_text(run, LOOKUP_FILE)
    return Reused(text, _dataset(run), run.tag("digest.sae"))


def _dataset(run: TrackedRun) -> dict[str, Any] | None:
    digest = run.tag("digest.lookup")
    if digest is None:
        return None
    root = run.params.get("imgs_root", "")
    return {
        "role": "lookup",
        "name": Path(root).name,
        "root": root,
        "split": run.params.get("lookup_split"),
        "digest": digest,
    }
