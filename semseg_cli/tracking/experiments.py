"""The experiment that runs go to, and where its artifacts lie: looked at before anything runs."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from semseg_cli.errors import StoreError, UsageError
from semseg_cli.tracking import failures, sqlite_file, store_address
from semseg_cli.tracking.client import Patient, open_client, reporting
from semseg_cli.tracking.credentials import scrubbed
from semseg_cli.tracking.saved_view import experiment_tags


def check_experiment(
    uri: str, name: str, experiment_id: str | None = None, root: str | None = None
) -> str | None:
    """Where artifacts go, in a sentence, where that is not plain from the store; tries it.

    Asks for the run of MLFLOW_RUN_ID, else the experiment of this id, else of this name. An
    experiment that does not exist is not made.

    Raises:
        StoreError: the experiment was deleted or is not there, or its artifacts cannot be stored.
        UsageError: `root` is not where the experiment keeps its artifacts.
    """
    path = store_address.sqlite_path(uri)
    if path is not None and not sqlite_file.has_schema(path):
        return _check_new(uri, name, root)
    with reporting(uri):
        client = open_client(uri, write=True)
        experiment = _experiment_of(client, uri, name, experiment_id)
        if experiment is None:
            return _check_new(uri, name, root)
        _require_active(experiment, uri)
        location = experiment.artifact_location or ""
        wanted = store_address.artifact_location(uri, experiment.name, root) if root else location
        if (wanted or location).rstrip("/") != location.rstrip("/"):
            raise UsageError(
                f"--artifact-root {scrubbed(str(root))}: the experiment {experiment.name!r} exists "
                f"and keeps its artifacts in {location}; leave the option out, or give another "
                "--experiment."
            )
        _try(client, uri, experiment.name, location)
        return _where(uri, experiment.name, location)


def _check_new(uri: str, name: str, root: str | None) -> str | None:
    """Of an experiment that does not exist yet."""
    location = store_address.artifact_location(uri, name, root)
    if location is not None and (folder := store_address.local_path(location)) is not None:
        with telling_of_artifacts(name, location):
            _try_folder(folder)
    if location is None and not uri.startswith("http"):
        location = f"{Path.cwd() / 'mlruns'}"  # MLflow's own place for a database
    return _where(uri, name, location) if location is not None else None


def _experiment_of(client: Any, uri: str, name: str, experiment_id: str | None) -> Any:
    run_id = os.environ.get("MLFLOW_RUN_ID")
    if run_id:
        run = client.get_run(run_id)
        if run.info.lifecycle_stage != "active" or "semseg.kind" in run.data.tags:
            is_ours = "semseg.kind" in run.data.tags
            said = "holds a run of semseg-cli already" if is_ours else "was deleted"
            raise StoreError(
                f"The run {run_id} that MLFLOW_RUN_ID names {said}: unset that variable."
            )
        return client.get_experiment(run.info.experiment_id)
    if experiment_id is not None:
        return client.get_experiment(experiment_id)
    return client.get_experiment_by_name(name)


def _require_active(experiment: Any, uri: str) -> None:
    if experiment.lifecycle_stage == "deleted":
        raise StoreError(
            f"The experiment {experiment.name!r} was deleted in the tracking store "
            f"{store_address.public(uri)}: restore it with "
            f"`mlflow experiments restore -x {experiment.experiment_id}` "
            "(MLFLOW_TRACKING_URI set to the store), or give another one with --experiment."
        )


def _where(uri: str, name: str, location: str) -> str | None:
    """A sentence for a store that others use, and whose files lie on this machine."""
    folder = store_address.local_path(location)
    if store_address.sqlite_path(uri) is not None or folder is None:
        return None
    return (
        f"Artifacts of the experiment {name!r} go to {folder} on this machine; another "
        "--experiment with --artifact-root keeps them where others find them."
    )


def _try(client: Patient, uri: str, name: str, location: str) -> None:
    """Raises a StoreError where artifacts could not be stored; leaves nothing behind."""
    with telling_of_artifacts(name, location):
        folder = store_address.local_path(location)
        if folder is not None:
            _try_folder(folder)
        elif location:
            client.try_artifacts(location, store_address.for_mlflow(uri))


def _try_folder(folder: Path) -> None:
    """Raises an OSError where files cannot be stored; folders that were not there go again."""
    new = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    finally:
        for one in new:
            with suppress(OSError):  # another run has come to use it
                one.rmdir()


@contextmanager
def telling_of_artifacts(name: str, location: str) -> Iterator[None]:
    """Turns what goes wrong with artifacts into a sentence that says where they would lie."""
    try:
        yield
    except Exception as error:
        said = failures.of_artifacts(error)
        raise StoreError(
            f"Artifacts of the experiment {name!r} cannot be stored in {scrubbed(location)} "
            f"({said}): correct that, give an --experiment that keeps them elsewhere (a new one "
            "with --artifact-root), or leave tracking out with --no-track."
        ) from error


def experiment_id_of(client: Any, uri: str, name: str, root: str | None = None) -> str:
    """The id of the experiment of a name, made where there is none.

    Raises:
        StoreError: it was deleted.
    """
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            location = store_address.artifact_location(uri, name, root)
            return str(client.create_experiment(name, location, experiment_tags()))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = client.get_experiment_by_name(name)  # another process was quicker
    _require_active(experiment, uri)
    return str(experiment.experiment_id)
