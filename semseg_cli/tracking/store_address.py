"""Where runs are tracked: addresses of MLflow stores. No mlflow in here."""

import os
import shlex
import socket
from pathlib import Path
from urllib.parse import unquote, urlsplit

from semseg_cli.errors import StoreError

PROBE_SECONDS = 3.0
_DATABASES = ("postgresql", "mysql", "mssql")


def resolve_uri(option: str | None) -> str:
    """The store to use: the option, else MLFLOW_TRACKING_URI, else mlflow.db in this folder.

    SQLite addresses come back with an absolute path, so that they mean the same from any folder.

    Raises:
        StoreError: a plain folder, or an address that no kind of store has.
    """
    uri = (option or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db").strip()
    scheme = uri.partition(":")[0].lower()
    if scheme == "sqlite":
        return _absolute_sqlite(uri)
    if scheme in ("http", "https", "databricks") or scheme.split("+")[0] in _DATABASES:
        return uri.rstrip("/") if scheme != "databricks" else uri
    if scheme == "file" or "://" not in uri:
        path = Path(urlsplit(uri).path if scheme == "file" else uri).absolute()
        database = path if path.suffix in (".db", ".sqlite") else path.parent / "mlflow.db"
        raise StoreError(
            f"The tracking store {uri!r} is a plain path, and MLflow no longer keeps runs in "
            f"folders: give a database such as --tracking-uri sqlite:///{database}."
        )
    raise StoreError(
        f"The tracking store {uri!r} is of no kind that MLflow knows: give sqlite:///PATH.db or "
        "the http(s):// address of a tracking server."
    )


def _absolute_sqlite(uri: str) -> str:
    body, mark, query = uri.partition("?")
    path = body.partition("sqlite:///")[2]
    if not path or ":memory:" in path:
        raise StoreError(
            f"The tracking store {uri!r} names no file: give sqlite:/// and the path of a "
            "database, such as sqlite:///mlflow.db."
        )
    return f"sqlite:///{Path(path).absolute()}{mark}{query}"


def sqlite_path(uri: str) -> Path | None:
    """The database file of a SQLite store; None for every other store."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(uri.removeprefix("sqlite:///").partition("?")[0])


def artifact_location(uri: str, experiment: str) -> str | None:
    """Where a new experiment of a SQLite store keeps artifacts: a folder beside the database.

    MLflow's own default is relative to the folder of whoever creates the experiment. None for
    other stores: a server decides for itself.
    """
    path = sqlite_path(uri)
    if path is None:
        return None
    slug = "".join(c if c.isalnum() or c in "-_." else "-" for c in experiment).strip(".")
    return (path.parent / "mlartifacts" / (slug or "experiment")).as_uri()


def local_path(artifact_uri: str) -> Path | None:
    """The folder of artifacts that lie on this machine; None for those that have to be fetched."""
    parts = urlsplit(artifact_uri)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path))
    return Path(artifact_uri) if artifact_uri and not parts.scheme else None


def store_option(uri: str) -> list[str]:
    """The words by which a command typed in this folder opens a store.

    None are needed where the command would open it anyway.
    """
    return [] if _is_default(uri) else ["--tracking-uri", public(uri)]


def _is_default(uri: str) -> bool:
    try:
        return resolve_uri(None) == uri
    except StoreError:  # MLFLOW_TRACKING_URI is no store: without the option nothing opens
        return False


def ui_command(uri: str) -> str:
    """What to type to see the runs of a store in MLflow's UI, from this working directory."""
    return shlex.join(["semseg-cli", "ui", *store_option(uri)])


def check_reachable(uri: str) -> None:
    """Raises a StoreError unless something listens at the host and port of a network address."""
    parts = urlsplit(uri)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    if parts.hostname is None or port is None:
        return
    try:
        socket.create_connection((parts.hostname, port), timeout=PROBE_SECONDS).close()
    except OSError as error:
        raise StoreError(
            f"Nothing answers at the tracking store {public(uri)} ({error}): start the server, "
            "or give another one with --tracking-uri (runs can go without: --no-track)."
        ) from error


def public(uri: str) -> str:
    """The address without user name, password and query; other texts stay as they are."""
    if "://" not in uri or uri.startswith("sqlite:"):
        return uri
    head, equals, address = uri.rpartition("=") if uri.startswith("--") else ("", "", uri)
    parts = urlsplit(address)
    netloc = parts.netloc.rpartition("@")[2]
    return head + equals + parts._replace(netloc=netloc, query="").geturl()
