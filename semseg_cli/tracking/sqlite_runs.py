"""Runs read straight from the tables of a SQLite store, without the seconds that MLflow loads.

Whatever looks unlike the tables known here is left to MLflow, which also says what is wrong.
"""

import math
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from semseg_cli.tracking.sqlite_file import connect
from semseg_cli.tracking.tracked_run import TrackedRun, from_milliseconds, without_details

_EXPERIMENTS = """
SELECT experiment_id, name, workspace FROM experiments WHERE lifecycle_stage = 'active'
"""
_RUNS = """
SELECT run_uuid, name, experiment_id, status, start_time, artifact_uri FROM runs
WHERE lifecycle_stage = 'active'
  AND run_uuid IN (SELECT run_uuid FROM tags WHERE key = 'semseg.kind' AND value = ?)
ORDER BY start_time DESC, run_uuid
"""
_PARAMS = "SELECT key, value FROM params WHERE run_uuid = ?"
_TAGS = "SELECT key, value FROM tags WHERE run_uuid = ?"
_METRICS = "SELECT key, value, is_nan FROM latest_metrics WHERE run_uuid = ?"


def read_runs(uri: str, path: Path, kind: str) -> tuple[set[str], list[TrackedRun]] | None:
    """The names of the experiments, and the runs of a kind, newest first; None: ask MLflow."""
    if "MLFLOW_ENABLE_WORKSPACES" in os.environ:  # then another class of MLflow reads
        return None
    try:
        with closing(connect(path)) as store:
            store.execute("BEGIN")  # all that follows sees one state of the store
            experiments = store.execute(_EXPERIMENTS).fetchall()
            if any(workspace != "default" for _, _, workspace in experiments):
                return None
            names = {id: name for id, name, _ in experiments}
            rows = [row for row in store.execute(_RUNS, (kind,)).fetchall() if row[2] in names]
            return set(names.values()), [_tracked(store, uri, row, names[row[2]]) for row in rows]
    except sqlite3.Error:
        return None


def _tracked(store: sqlite3.Connection, uri: str, row: tuple[Any, ...], name: str) -> TrackedRun:
    run_id, run_name, _, status, started, artifacts = row
    tags = dict(store.execute(_TAGS, (run_id,)))
    metrics = {
        key: math.nan if is_nan else value
        for key, value, is_nan in store.execute(_METRICS, (run_id,))
    }
    return TrackedRun(
        run_id=run_id,
        name=run_name or tags.get("mlflow.runName", ""),
        experiment=name,
        status=status,
        started=from_milliseconds(started),
        source=uri,
        params=dict(store.execute(_PARAMS, (run_id,))),
        metrics=without_details(metrics),
        tags=tags,
        artifacts=artifacts,
    )
