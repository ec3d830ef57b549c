"""The run that a store has of a folder already, whether or not the folder says so."""

from typing import Any

from semseg_cli.runs.folder import RunFolder
from semseg_cli.tracking import store_address
from semseg_cli.tracking.read import pages
from semseg_cli.tracking.tracked_run import milliseconds


def noted(client: Any, uri: str, folder: RunFolder) -> str | None:
    """The id that the folder notes of its run in this store; None where it has none there."""
    meta = folder.meta
    is_same = store_address.public(meta["tracking_uri"] or "") == uri
    run_id: str | None = meta["mlflow_run_id"] if is_same else None
    return run_id if run_id is not None and _is_active(client, run_id) else None


def _is_active(client: Any, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False


def left_behind(client: Any, experiment_id: str, folder: RunFolder) -> str | None:
    """The id of the run that a killed process made of the folder and could not note in it.

    It still runs, as far as the store knows, since the folder's run began and under its name.
    """
    meta = folder.meta
    sweep = str(meta.get("sweep_id") or "")
    if not sweep.isalnum():
        return None
    asked = f"tags.`semseg.sweep_id` = '{sweep}' and attributes.status = 'RUNNING'"
    wanted = (meta["run_name"], milliseconds(meta["created"]))
    for run in pages(client.search_runs, [experiment_id], asked):
        if run.info is not None and (run.info.run_name, run.info.start_time) == wanted:
            return str(run.info.run_id)
    return None
