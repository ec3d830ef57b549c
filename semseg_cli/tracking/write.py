"""Runs into a store: started, filled from their folders, ended."""

import getpass
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from semseg_cli.errors import SemsegError, StoreError
from semseg_cli.runs.folder import SETTINGS_FILE, RunFolder
from semseg_cli.settings.command_line import command_line
from semseg_cli.tracking import store_address
from semseg_cli.tracking.client import not_mlflow, open_client, probe, reporting
from semseg_cli.tracking.experiments import experiment_id_of, telling_of_artifacts
from semseg_cli.tracking.known_runs import left_behind, noted
from semseg_cli.tracking.patience import Patience
from semseg_cli.tracking.sending import MAX_TAG, send, tag
from semseg_cli.tracking.tracked_run import (
    FINAL,
    files_of,
    is_inside,
    milliseconds,
    tags_of,
)

log = logging.getLogger("semseg_cli")


def start(uri: str, folders: Sequence[RunFolder]) -> None:
    """Makes one MLflow run per folder and notes it in the folder's run.json.

    Under `mlflow run` the first folder takes the run that MLflow made (MLFLOW_RUN_ID, consumed
    here), and the others join its experiment.

    Raises:
        StoreError: the store refuses, or the experiment was deleted in it.
    """
    with reporting(uri):
        client = open_client(uri, write=True)
        given = os.environ.pop("MLFLOW_RUN_ID", None)
        attached = _attach(client, uri, given, folders[0]) if given else None
        for folder in folders[1:] if given else folders:
            experiment_id = attached or folder.meta.get("mlflow_experiment_id")
            _create(client, uri, folder, experiment_id, tries_artifacts=folder is folders[0])


def restart(uri: str, folders: Sequence[RunFolder]) -> None:
    """Sets the MLflow runs of stopped folders running again; one that the store lacks is made.

    Raises:
        StoreError: the store refuses.
    """
    with reporting(uri):
        client = open_client(uri, write=True)
        for folder in folders:
            run_id = noted(client, uri, folder)
            if run_id is None:
                _take_or_create(client, uri, folder)
                continue
            client.update_run(run_id, status="RUNNING")
            if "semseg.reason" in client.get_run(run_id).data.tags:
                client.delete_tag(run_id, "semseg.reason")
            folder.update(uploaded=False)


def log_folder(folder: RunFolder, patience: Patience | None = None) -> None:
    """Stores everything that a run folder holds, ends its MLflow run, and marks it uploaded.

    Works for runs that failed half-way, and can be repeated after a failure. The store is waited
    for as long as `patience` lasts; by default as its files need.

    Raises:
        StoreError: the store did not take it; the folder is as it was and can be uploaded later.
    """
    meta = folder.meta
    uri, run_id = meta["tracking_uri"], meta["mlflow_run_id"]
    if meta["status"] not in FINAL:
        ended = datetime.fromtimestamp(_last_change(folder), UTC).isoformat(timespec="milliseconds")
        folder.update(status="KILLED", reason="The process ended without saying how.", ended=ended)
    command = command_line("upload", folder.path)
    later = f"{folder.path} is kept whole, store it later with `{command}`"
    if run_id is None:
        raise StoreError(f"No run was started in a tracking store: {later}.")
    with reporting(uri, later):
        client = open_client(uri, write=True, patience=patience or patience_for([folder]))
        with _ending(client, run_id, folder):
            send(client, folder)
    folder.update(uploaded=True)


def patience_for(folders: Sequence[RunFolder]) -> Patience:
    """How long to wait for a store that is sent these folders."""
    return Patience(sum(path.stat().st_size for one in folders for path, _ in files_of(one)))


def upload(folder: RunFolder, uri: str | None = None) -> None:
    """Stores a run whose logging failed or never began: continues its MLflow run or makes one.

    The store is `uri`, else the one of the folder, else the default one. Start and end times are
    those of the folder.
    """
    meta = folder.meta
    if whose := folder.whose:
        raise SemsegError(
            f"The run in {folder.path} is still going on ({whose}): upload it when it has ended."
        )
    _require_inside(folder)
    target = store_address.resolve_uri(uri or meta["tracking_uri"])
    probe(target)
    with reporting(target):
        client = open_client(target, write=True)
        if noted(client, target, folder) is None:
            _take_or_create(client, target, folder)
    log_folder(folder)


def _require_inside(folder: RunFolder) -> None:
    """Raises a SemsegError where a file of the run, which is read for what it says, lies elsewhere;
    other links out of the folder are left out, with a warning."""
    links = (path for path in folder.path.rglob("*") if not is_inside(folder, path))
    for path in links:
        if path.parent == folder.path and path.suffix in (".json", ".toml", ".csv", ".parquet"):
            raise SemsegError(
                f"{path} is a link to {path.resolve()}, outside of the run's folder: put the file "
                "itself there, or remove the link."
            )
        log.warning("%s leads out of the run's folder and is left out.", path)


def run_link(folder: RunFolder) -> str | None:
    """The page of the folder's run on its tracking server; None for stores without one."""
    meta = folder.meta
    uri, run_id = meta["tracking_uri"] or "", meta["mlflow_run_id"]
    if not uri.startswith("http") or run_id is None:
        return None
    return f"{store_address.public(uri)}/#/experiments/{meta['mlflow_experiment_id']}/runs/{run_id}"


def _try_artifacts(client: Any, run: Any, experiment: str, folder: RunFolder) -> None:
    """Stores the settings of the run, which are known: what cannot be stored is told in time."""
    settings = folder.path / SETTINGS_FILE
    if settings.exists():
        with telling_of_artifacts(experiment, run.info.artifact_uri):
            client.log_artifact(run.info.run_id, str(settings))


def _attach(client: Any, uri: str, run_id: str, folder: RunFolder) -> str:
    run = client.get_run(run_id)
    experiment_id = run.info.experiment_id
    name = client.get_experiment(experiment_id).name
    tag(client, run_id, tags_of(folder))
    try:
        _try_artifacts(client, run, name, folder)
    finally:
        _note(folder, uri, run_id, experiment_id, name)
    return str(experiment_id)


def _take_or_create(client: Any, uri: str, folder: RunFolder) -> None:
    """Takes the run that a killed process left of this folder, else makes one."""
    meta = folder.meta
    name, root = meta["experiment"], meta.get("artifact_root")
    experiment_id = experiment_id_of(client, uri, name, root)
    run_id = left_behind(client, experiment_id, folder)
    if run_id is None:
        _create(client, uri, folder, experiment_id)
    else:
        _note(folder, uri, run_id, experiment_id, name)


def _create(
    client: Any,
    uri: str,
    folder: RunFolder,
    experiment_id: str | None,
    *,
    tries_artifacts: bool = False,
) -> None:
    meta = folder.meta
    if experiment_id is None:
        experiment_id = experiment_id_of(client, uri, meta["experiment"], meta.get("artifact_root"))
    source = {
        "mlflow.source.name": f"semseg-cli {meta['command']}",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": meta["git_commit"],
        "mlflow.user": _user(),
    }
    tags = {**tags_of(folder), **{name: value for name, value in source.items() if value}}
    run = client.create_run(
        experiment_id,
        start_time=milliseconds(meta["created"]),
        tags={name: value[:MAX_TAG] for name, value in tags.items()},
        run_name=meta["run_name"],
    )
    if not run.info.run_id:
        raise not_mlflow(uri)
    name = client.get_experiment(experiment_id).name
    try:
        if tries_artifacts:
            _try_artifacts(client, run, name, folder)
    finally:  # a noted run is one that takes files, or that is ended by the failure
        _note_made(client, uri, folder, run.info.run_id, experiment_id, name)


def _note_made(
    client: Any, uri: str, folder: RunFolder, run_id: str, experiment_id: str, experiment: str
) -> None:
    try:
        _note(folder, uri, run_id, experiment_id, experiment)
    except SemsegError:  # a full disk: nobody else would end it
        client.set_terminated(run_id, "FAILED")
        raise


def _note(folder: RunFolder, uri: str, run_id: str, experiment_id: str, experiment: str) -> None:
    folder.update(
        tracking_uri=uri,
        mlflow_run_id=run_id,
        mlflow_experiment_id=experiment_id,
        experiment=experiment,
        uploaded=False,
    )


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return None  # an account without a name, as in some containers


@contextmanager
def _ending(client: Any, run_id: str, folder: RunFolder) -> Iterator[None]:
    """Ends the MLflow run as the folder's has ended, also where not everything could be sent."""
    meta = folder.meta
    ended = milliseconds(meta["ended"] or meta["created"])
    try:
        yield
    except BaseException:  # a signal too
        with suppress(Exception):  # the first failure says more
            client.set_terminated(run_id, meta["status"], ended)
        raise
    client.set_terminated(run_id, meta["status"], ended)


def _last_change(folder: RunFolder) -> float:
    """When a file of the folder was last written, in seconds: how long its run lived at least."""
    return max(path.stat().st_mtime for path in folder.path.iterdir())
