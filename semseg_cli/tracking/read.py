"""Runs out of a store: found, and their artifacts read. Nothing in here makes a store or a run."""

import tempfile
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from semseg_cli.errors import SemsegError, StoreError
from semseg_cli.tracking import sqlite_file, sqlite_runs, store_address
from semseg_cli.tracking.client import open_client, probe, reporting
from semseg_cli.tracking.named_run import BELOW, NoSuchRunError, find_named, folder_of
from semseg_cli.tracking.tracked_run import (
    RESULT_FILES,
    TrackedRun,
    from_folder,
    from_milliseconds,
    without_details,
)

NO_RUNS = "make one with `semseg-cli auto-feat`"


def find_runs(
    uri: str, experiments: Sequence[str] = (), filter_string: str = "", kind: str = "intervention"
) -> list[TrackedRun]:
    """The tracked runs of a kind, newest first, of these experiments (else of all).

    Never makes a store, and writes nothing.

    Raises:
        SemsegError: the store, or an experiment, does not exist.
        StoreError: the store cannot be read, or does not understand the filter.
    """
    check_exists(uri)
    path = store_address.sqlite_path(uri)
    if path is not None and not sqlite_file.has_schema(path):
        return []
    found = None
    if path is not None and not filter_string:
        found = sqlite_runs.read_runs(uri, path, kind)
    if found is None:
        return _ask_mlflow(uri, experiments, filter_string, kind)
    names, runs = found
    _check_known(names, experiments)
    return [run for run in runs if not experiments or run.experiment in experiments]


def _ask_mlflow(
    uri: str, experiments: Sequence[str], filter_string: str, kind: str
) -> list[TrackedRun]:
    whole = " and ".join(p for p in (f"tags.semseg.kind = '{kind}'", filter_string) if p)
    with reporting(uri):
        client = open_client(uri, write=False)
        names = {e.experiment_id: e.name for e in pages(client.search_experiments)}
        _check_known(set(names.values()), experiments)
        chosen = [id for id, name in names.items() if not experiments or name in experiments]
        runs = pages(client.search_runs, chosen, whole) if chosen else []
        return [_tracked(uri, run, names) for run in runs]


def check_exists(uri: str) -> None:
    """Raises a SemsegError unless there is a store; makes none.

    Raises:
        StoreError: the store is there but cannot be read, or does not answer.
    """
    path = store_address.sqlite_path(uri)
    if path is None:
        probe(uri)
    elif not path.exists():
        raise SemsegError(f"There is no tracking store {path} and so no run: {NO_RUNS}.")
    else:
        sqlite_file.check_sqlite(path, write=False)


def find_run(uri: str, wanted: str, kind: str = "intervention") -> TrackedRun:
    """One run by its folder, id, unambiguous beginning of an id, or name."""
    if (folder := folder_of(wanted)) is not None:
        return from_folder(folder)
    return find_named(wanted, find_runs(uri, kind=kind))


def read_artifact(run: TrackedRun, path: str) -> bytes:
    """An artifact of a run, from its store or its folder.

    Raises:
        StoreError: the run has no such artifact, or it cannot be fetched.
    """
    try:
        if isinstance(run.source, Path):
            local = path.removeprefix("results/")
            return (run.source / (local if local in RESULT_FILES else path)).read_bytes()
        if (folder := store_address.local_path(run.artifacts)) is not None:
            return (folder / path).read_bytes()
        with reporting(run.source), tempfile.TemporaryDirectory() as scratch:
            client = open_client(run.source, write=False)
            return Path(client.download_artifacts(run.run_id, path, scratch)).read_bytes()
    except (OSError, StoreError) as error:
        raise StoreError(f"{path} of run {run.name} cannot be read ({error}).") from error


def read_artifact_text(run: TrackedRun, path: str) -> str:
    """A text artifact of a run, as in `read_artifact`."""
    try:
        return read_artifact(run, path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise StoreError(f"{path} of run {run.name} cannot be read ({error}).") from error


def find_lookup(uri: str, wanted: str, below: Path = BELOW) -> TrackedRun:
    """The run with a lookup that `wanted` names, as in `find_run`; `below` has run folders."""
    path = store_address.sqlite_path(uri)
    runs: list[TrackedRun] = []
    if path is None or path.exists():
        runs = [run for kind in ("lookup", "intervention") for run in find_runs(uri, kind=kind)]
    runs.sort(key=lambda run: run.started, reverse=True)
    try:
        return find_named(wanted, runs, below)
    except NoSuchRunError as error:
        if path is None or path.exists():
            raise
        raise SemsegError(
            f"{wanted!r} is neither a file nor a run folder below {below} nor a run of the "
            f"tracking store {path}, which does not exist: make a lookup with `semseg-cli lookup`."
        ) from error


def pages(search: Any, *arguments: Any) -> list[Any]:
    found: list[Any] = []
    token = None
    while True:
        page = search(*arguments, max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def _check_known(names: Set[str], experiments: Sequence[str]) -> None:
    for wanted in experiments:
        if wanted not in names:
            known = ", ".join(sorted(names))
            raise SemsegError(
                f"There is no experiment {wanted!r} in the tracking store (there are: {known}): "
                f"give one with --experiment, or {NO_RUNS}."
            )


def _tracked(uri: str, run: Any, names: Mapping[str, str]) -> TrackedRun:
    if run.info is None or not run.info.run_id or not run.info.start_time:
        raise StoreError(f"The tracking store {uri} answers with what is not an MLflow run.")
    return TrackedRun(
        run_id=run.info.run_id,
        name=run.info.run_name,
        experiment=names.get(run.info.experiment_id, run.info.experiment_id),
        status=run.info.status,
        started=from_milliseconds(run.info.start_time),
        source=uri,
        params=run.data.params,
        metrics=without_details(run.data.metrics),
        tags=run.data.tags,
        artifacts=run.info.artifact_uri,
    )
