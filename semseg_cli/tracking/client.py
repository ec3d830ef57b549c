"""The client of a store: opened quietly, with short patience, its failures as sentences."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from semseg_cli.errors import SemsegError, StoreError
from semseg_cli.progress import importing, stage
from semseg_cli.tracking import failures, sqlite_file, sqlite_making, store_address
from semseg_cli.tracking.patience import OutOfPatience, Patience

T = TypeVar("T")
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
_MAKING = 0x736D7365  # a number of ours, for the lock of who makes a database's tables
_QUICK = ("postgresql", "postgres", "mysql")  # whose drivers know `connect_timeout`
_DRIVERS = {"psycopg2": "'semseg-cli[postgres]'", "psycopg": "'semseg-cli[postgres]'",
            "MySQLdb": "mysqlclient", "pymysql": "pymysql", "pyodbc": "pyodbc"}  # fmt: skip
_FILES = ("log_artifact", "download_artifacts", "list_artifacts")
_patience: dict[str, Patience] = {}  # by store, since it was opened


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
    _patience[uri] = Patience()
    with reporting(uri), _environment(_PROBE):
        client = open_client(uri, write=True)
        known = client.search_experiments(max_results=1) or [
            client.get_experiment_by_name("Default")  # a real store may have none
        ]
        if known[0] is not None and not known[0].experiment_id:
            raise not_mlflow(uri)


def not_mlflow(uri: str) -> StoreError:
    """The failure of a server whose answers are JSON, but say nothing."""
    return StoreError(
        f"The tracking store {uri} answers with empty JSON, as no MLflow server does: "
        f"{failures.OTHERWISE}."
    )


def open_client(uri: str, *, write: bool, patience: Patience | None = None) -> Any:
    """MLflow's client of a store. A SQLite store is made, or brought up to date, before it is
    opened for writing; for reading it is opened as it is, or not at all.

    Its calls share the patience that is given, else that of the store since it was probed.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if any(host in uri for host in ("//localhost", "//127.0.0.1", "//[::1]")):
        _bypass_proxies()
    logging.getLogger("alembic").setLevel(logging.WARNING)
    path = store_address.sqlite_path(uri)
    patience = patience or _patience.setdefault(uri, Patience())
    with stage(f"Opening the tracking store {store_address.public(uri)}"):
        if path is not None:
            sqlite_making.prepare(path) if write else sqlite_file.require_current(path)
            return Patient(_told(lambda: _client(uri)), patience, _FILES)
        make = _client if uri.startswith("http") else _client_of_database
        return Patient(_told(lambda: patience.wait_for(lambda: make(uri))), patience)


def _client(uri: str) -> Any:
    with importing():
        from mlflow.tracking.client import MlflowClient
    address = store_address.for_mlflow(uri)
    return MlflowClient(address, registry_uri=address)


def _client_of_database(uri: str) -> Any:
    """The client of a database, connected to once before: MLflow would try for minutes, and not say
    why. Of several that find an empty one of PostgreSQL, one makes the tables at a time."""
    from sqlalchemy import create_engine, text

    quick = {"connect_timeout": 5} if uri.startswith(_QUICK) else {}
    engine = create_engine(store_address.for_mlflow(uri), connect_args=quick)
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":  # until this connection ends
                connection.execute(text(f"SELECT pg_advisory_lock({_MAKING})"))
            return _client(uri)
    finally:
        engine.dispose()


class Patient:
    """MLflow's client, whose calls end, and whose errors are known to be of the store.

    `waits` names the calls that are waited for no longer than `patience`; by default all are.
    """

    def __init__(self, client: Any, patience: Patience, waits: Sequence[str] | None = None) -> None:
        self._client, self._patience, self._waits = client, patience, waits

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._waits is not None and name not in self._waits:
                return _told(lambda: method(*args, **kwargs))
            return _told(lambda: self._patience.wait_for(lambda: method(*args, **kwargs)))

        return call

    def try_artifacts(self, location: str, uri: str) -> None:
        """Raises unless the artifact store of a location can be opened and listed."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        def look() -> None:
            get_artifact_repository(location, uri).list_artifacts("no-such-folder")

        self._patience.wait_for(look)


class _Raised(Exception):
    """Whatever MLflow raised that is none of its own errors."""


def _told(call: Callable[[], T]) -> T:
    try:
        return call()
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    except Exception as error:
        if _is_of_store(error):
            raise
        raise _Raised(f"{type(error).__name__}: {error}") from error


def _missing(error: ModuleNotFoundError) -> StoreError:
    package = _DRIVERS.get(error.name or "", error.name or "what is missing")
    return StoreError(
        f"The tracking store needs the Python module {error.name}, which is not installed: run "
        f"`pip install {package}`, or {failures.OTHERWISE}."
    )


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
    except SemsegError as error:
        if advice is None or advice in str(error):
            raise
        raise StoreError(f"{str(error).rstrip('.')}; {advice}.") from error
    except Exception as error:
        if not _is_of_store(error):
            raise
        what, usual = failures.sentence(store_address.public(uri), error)
        raise StoreError(f"{what}: {advice or usual}.") from error


def _is_of_store(error: Exception) -> bool:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    # requests' exceptions are OSErrors.
    kinds = (MlflowException, SQLAlchemyError, OSError, OutOfPatience, _Raised, SemsegError)
    return isinstance(error, kinds)
