"""The client of a store: opened quietly, with short patience, its failures as sentences."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from semseg_cli.errors import SemsegError, StoreError
from semseg_cli.progress import stage
from semseg_cli.tracking import sqlite_file, store_address

# MLflow's client would wait minutes for a dead server, print links, and report its use.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
_PROBE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "3"}
_SILENCE = ("failed with exception", "failed with timeout", "Max retries", "Connection ")
_OTHERWISE = "give another one with --tracking-uri, or leave tracking out with --no-track"


def probe(uri: str) -> None:
    """Raises a StoreError unless the store answers, or could be made or brought up to date where it
    is a SQLite file, which is left as it is.

    Takes at most a few seconds for a silent server.
    """
    path = store_address.sqlite_path(uri)
    if path is not None:
        sqlite_file.check_sqlite(path, write=True)
        return
    if not uri.startswith("http"):
        store_address.check_reachable(uri)
    with reporting(uri), _environment(_PROBE):
        open_client(uri, write=True).search_experiments(max_results=1)


def open_client(uri: str, *, write: bool) -> Any:
    """MLflow's client of a store.

    A SQLite store is made, or brought up to date, before it is opened for writing; for reading it
    is opened as it is, or not at all.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if any(host in uri for host in ("//localhost", "//127.0.0.1", "//[::1]")):
        _bypass_proxies()
    logging.getLogger("alembic").setLevel(logging.WARNING)
    path = store_address.sqlite_path(uri)
    with stage(f"Opening the tracking store {store_address.public(uri)}"):
        from mlflow.tracking.client import MlflowClient

        if path is not None:
            sqlite_file.prepare(path) if write else sqlite_file.require_current(path)
        return MlflowClient(uri, registry_uri=uri)


def _bypass_proxies() -> None:
    known = os.environ.get("NO_PROXY", os.environ.get("no_proxy", ""))
    if "127.0.0.1" not in known:
        value = ",".join(part for part in (known, "localhost,127.0.0.1,::1") if part)
        os.environ["NO_PROXY"] = os.environ["no_proxy"] = value


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


@contextmanager
def reporting(uri: str, advice: str | None = None) -> Iterator[None]:
    """Turns whatever a store raises into a StoreError of one sentence that ends in `advice`."""
    try:
        yield
    except SemsegError:
        raise
    except Exception as error:
        if not _is_of_store(error):
            raise
        what, usual = _sentence(store_address.public(uri), str(error) or type(error).__name__)
        raise StoreError(f"{what}: {advice or usual}.") from error


def _is_of_store(error: Exception) -> bool:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    # requests' exceptions are OSErrors.
    return isinstance(error, MlflowException | SQLAlchemyError | OSError)


def _sentence(uri: str, text: str) -> tuple[str, str]:
    """What failed, and what to try."""
    if any(sign in text for sign in _SILENCE):
        return f"Nothing answers at the tracking store {uri}", f"start the server, {_OTHERWISE}"
    if "out-of-date database schema" in text or "Can't locate revision" in text:
        return (
            f"The tracking store {uri} was made by another version of MLflow",
            f"back it up and run `mlflow db upgrade {uri}`, or {_OTHERWISE}",
        )
    if sqlite_file.is_locked(text):
        return sqlite_file.locked(uri), f"wait until that has ended and try again, or {_OTHERWISE}"
    first = text.strip().splitlines()[0][:300].rstrip(".")
    return f"The tracking store {uri} refuses ({first})", f"correct that, or {_OTHERWISE}"
