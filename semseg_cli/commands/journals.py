"""The journals of runs of methods: what they are kept under, and who goes on with them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from semseg_cli import __version__
from semseg_cli.commands.recording import Planned
from semseg_cli.errors import SemsegError
from semseg_cli.experiment.session import Session
from semseg_cli.models.sae.statistics import digest_of
from semseg_cli.ranks.group import n_ranks
from semseg_cli.runs.folder import JOURNAL_FILE, RunFolder, run_folders
from semseg_cli.runs.journal import Identity, Journal
from semseg_cli.runs.lookup_csv import Reused
from semseg_cli.settings.entries import entries
from semseg_cli.settings.inputs import Compute
from semseg_cli.settings.toml_files import KNOWN

NO_RESULT = {entry.key for entry in entries(Compute)} - {"dtype"}  # settings that change none


def identity_of(
    session: Session,
    planned: Sequence[Planned],
    shared: Mapping[str, Any],
    reused: Mapping[str, Reused],
) -> dict[str, Any]:
    """All that the counts of these runs, made in one pass, depend on, by what to call it.

    Files are known by what is in them, wherever they lie.
    """
    every = [one.settings for one in planned]
    keys = {key for settings in every for key in settings} - NO_RESULT
    found: dict[str, Any] = {
        KNOWN[key].flag: [settings.get(key) for settings in every]
        for key in keys
        if not KNOWN[key].field.metadata.get("path")
    }
    found |= {f"the {name}": digest for name, digest in shared["digests"].items()}
    found |= {f"{one['role']} images": one["digest"] for one in shared["datasets"]}
    return {
        **found,
        "methods": [one.meta["method"] for one in planned],
        "SAE statistics": digest_of(session.given_stats),
        "the lookup": [one.text for one in reused.values()],
        "versions": [__version__, str(torch.__version__)],
        "--device": session.pipeline.device.type,
    }


def check_stopped(stopped: Sequence[RunFolder], identity: Identity) -> None:
    """Refuses to go on with runs that were begun with other inputs, or are still running."""
    if stopped:
        with Journal(stopped[0].path / JOURNAL_FILE, identity, is_new=False):
            pass


@contextmanager
def keeping(folders: Sequence[RunFolder], identity: Identity) -> Iterator[Journal | None]:
    """The journal of the runs in these folders, in the first of them; None for several ranks."""
    if n_ranks() > 1:
        yield None
        return
    path = folders[0].path / JOURNAL_FILE
    with Journal(path, identity, is_new=not path.exists()) as journal:
        yield journal


def stopped_runs(
    dump_to: Path, tag: str, key: str, names: Sequence[str], identity: Identity
) -> list[RunFolder]:
    """The newest runs of these names, tagged so, that were stopped and can go on; else none."""
    sweeps: dict[str, list[tuple[str, RunFolder]]] = {}
    for folder, meta in run_folders(dump_to):
        if meta["tags"].get(tag) == key and meta["kind"] == "intervention":
            sweeps.setdefault(meta["sweep_id"], []).append((meta["created"], folder))
    for of_sweep in sorted(sweeps.values(), key=lambda one: min(one)[0], reverse=True):
        folders = [folder for _, folder in sorted(of_sweep, key=lambda one: one[0])]
        metas = [folder.meta for folder in folders]
        if [meta["run_name"] for meta in metas] != list(names):
            continue
        if all(meta["status"] == "FINISHED" for meta in metas):
            continue
        try:
            check_stopped(folders, identity)
        except SemsegError:
            continue
        return folders
    return []
