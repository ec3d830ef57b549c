"""Real MLflow stores for tests: SQLite files copied from a template, servers on loopback."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import ProxyHandler, build_opener

import uvicorn

from benchmarks.campaign.hand import Forked, Job, finish, settle
from semseg_cli import tracking
from semseg_cli.runs.folder import RunFolder
from semseg_cli.tracking import sqlite_making
from semseg_cli.tracking.ui_server import ENVIRONMENT

Snapshot = dict[str, Any]


@cache
def empty_store() -> bytes:
    """A database with MLflow's tables and nothing in them: making one takes seconds."""
    with TemporaryDirectory() as folder:
        sqlite_making.prepare(Path(folder, "template.db"))
        return Path(folder, "template.db").read_bytes()


def new_store(folder: Path) -> str:
    """The address of a new, empty store."""
    (folder / "mlflow.db").write_bytes(empty_store())
    return f"sqlite:///{folder}/mlflow.db"


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def server(folder: Path, port: int, backend: str | None = None) -> Iterator[str]:
    """The address of a running MLflow server that keeps artifacts in `folder`, and its runs too
    where no database is given.

    It is what `mlflow server` starts, forked from a process that has loaded it.
    """
    if backend is None and not (folder / "server.db").exists():
        (folder / "server.db").write_bytes(empty_store())
    given = {
        **ENVIRONMENT,
        "_MLFLOW_SERVER_FILE_STORE": backend or f"sqlite:///{folder}/server.db",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(folder / "artifacts"),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
    }  # fmt: skip
    process = Forked(serve, Job((str(port),), str(folder), {**os.environ, **given}))
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        finish(process)


def serve(job: Job) -> None:
    """Turns this process into a server."""
    (port,) = settle(job)
    uvicorn.run("mlflow.server.fastapi_app:app", host="127.0.0.1", port=int(port))


def _wait_for(url: str, process: Forked) -> None:
    direct = build_opener(ProxyHandler({}))
    while process.wait(0.05) is None:
        try:
            with direct.open(url, timeout=5):
                return
        except OSError:
            continue
    raise AssertionError("the server has ended")


def client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(uri)


def snapshot(folder: RunFolder) -> Snapshot:
    """What the store says of a folder's run, without what differs by chance."""
    meta = folder.meta
    api = client(meta["tracking_uri"])
    run = api.get_run(meta["mlflow_run_id"])
    return {
        "name": run.info.run_name,
        "status": run.info.status,
        "start": run.info.start_time,
        "end": run.info.end_time,
        "params": run.data.params,
        "metrics": run.data.metrics,
        "tags": run.data.tags,
        "inputs": sorted(
            (one.dataset.name, one.dataset.digest, sorted((t.key, t.value) for t in one.tags))
            for one in run.inputs.dataset_inputs
        ),
        "artifacts": sorted(
            file.path for at in ("", "results") for file in api.list_artifacts(run.info.run_id, at)
        ),
    }


def stored(uri: str, folder: RunFolder) -> RunFolder:
    """The folder, after its run was started and logged in the store."""
    tracking.start(uri, [folder])
    tracking.log_folder(folder)
    return folder
