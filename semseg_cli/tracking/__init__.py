"""Runs in an MLflow store: started, filled from their folders, found again.

The only package that imports mlflow, and only when a store is opened. Stores are reached through
`MlflowClient`, never through MLflow's global state; runs of a SQLite store are found without it.
"""

from semseg_cli.tracking.client import probe
from semseg_cli.tracking.experiments import check_experiment
from semseg_cli.tracking.named_run import find_folder, find_named, folder_of, folders_below
from semseg_cli.tracking.read import (
    find_lookup,
    find_run,
    find_runs,
    read_artifact,
    read_artifact_text,
)
from semseg_cli.tracking.saved_view import runs_page
from semseg_cli.tracking.store_address import resolve_uri, ui_command
from semseg_cli.tracking.system_metrics import system_metrics
from semseg_cli.tracking.tracked_run import TrackedRun
from semseg_cli.tracking.write import log_folder, patience_for, restart, run_link, start, upload

__all__ = [
    "TrackedRun",
    "check_experiment",
    "find_folder",
    "find_lookup",
    "find_named",
    "find_run",
    "find_runs",
    "folder_of",
    "folders_below",
    "log_folder",
    "patience_for",
    "probe",
    "read_artifact",
    "read_artifact_text",
    "resolve_uri",
    "restart",
    "run_link",
    "runs_page",
    "start",
    "system_metrics",
    "ui_command",
    "upload",
]
