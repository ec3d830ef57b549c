"""Where runs are tracked: addresses of MLflow stores. No mlflow in here."""

import os
import re
import socket
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from semseg_cli.errors import StoreError
from semseg_cli.files import expanded
from semseg_cli.settings.command_line import command_line
from semseg_cli.tracking.credentials import keep, public, whole

PROBE_SECONDS = 3.0
DATABASES = ("postgresql", "postgres", "mysql", "mssql")


def resolve_uri(option: str | None) -> str:
    """The store to use: the option, else MLFLOW_TRACKING_URI, else mlflow.db in this folder.

    Addresses come back without user name and password, which stay in memory; those of SQLite with
    an absolute path, so that they mean the same from any folder.

    Raises:
        StoreError: a plain folder, or an address that no kind of store has.
    """
    usual = (os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db").strip()
    keep(usual.rstrip("/"))  # a run folder names its store without the password
    uri = (option or usual).strip()
    scheme = uri.partition(":")[0].lower()
    if scheme == "sqlite":
        return _absolute_sqlite(uri)
    if scheme in ("http", "https", "databricks") or scheme.split("+")[0] in DATABASES:
        return _of_network(uri.rstrip("/")) if scheme != "databricks" else uri
    shown = public(uri)
    if scheme != "file" and re.match(r"(localhost|[\w.-]+:\d+|\[[\da-fA-F:]+\])(:|/|$)|.*@", uri):
        raise StoreError(
            f"The tracking store {shown!r} says no scheme: give --tracking-uri http://{shown}."
        )
    if scheme == "file" or "://" not in uri:
        path = Path(urlsplit(uri).path if scheme == "file" else uri).absolute()
        database = path if path.suffix in (".db", ".sqlite") else path.parent / "mlflow.db"
        raise StoreError(
            f"The tracking store {shown!r} is a plain path, and MLflow no longer keeps runs in "
            f"folders: give a database such as --tracking-uri sqlite:///{database}."
        )
    raise StoreError(
        f"The tracking store {shown!r} is of no kind that MLflow knows: give sqlite:///PATH.db or "
        "the http(s):// address of a tracking server."
    )


def _of_network(uri: str) -> str:
    """The public address, of a host and a port that can be asked."""
    scheme, _, rest = uri.partition("://")
    try:
        parts = urlsplit(uri)
        is_whole = parts.port != 0 and bool(parts.hostname if scheme.startswith("http") else rest)
        is_whole &= "@" not in rest.removeprefix(parts.netloc)
    except ValueError:  # what stands for the port is no number, or a [ has no ]
        is_whole = False
    if not is_whole:
        raise StoreError(
            f"The tracking store {scheme}://{rest.rpartition('@')[2]} is no address: give "
            "http://HOST:PORT, with signs such as / # ? @ of a password written %2F %23 %3F %40."
        )
    return keep(uri)


def _absolute_sqlite(uri: str) -> str:
    body, mark, query = uri.partition("?")
    path = unquote(body.partition("sqlite:///")[2])
    if not path or ":memory:" in path:
        raise StoreError(
            f"The tracking store {uri!r} names no file: give sqlite:/// and the path of a "
            "database, such as sqlite:///mlflow.db."
        )
    if mark and not re.fullmatch(r"\w+=[^/&]*(&\w+=[^/&]*)*", query):
        raise StoreError(
            f"The tracking store {uri!r} has a ? in its path, at which such an address ends: "
            "write it %3F."
        )
    file = str(Path(path).absolute()).replace("%", "%25").replace("?", "%3F")
    return f"sqlite:///{file}{mark}{query}"


def for_mlflow(uri: str) -> str:
    """The address of a store as MLflow opens it: with its password and the driver that is there."""
    path = sqlite_path(uri)
    if path is not None:
        return _as_sqlalchemy_reads(uri, path)
    address = whole(uri)
    scheme, mark, rest = address.partition("://")
    if scheme in ("postgres", "postgresql"):  # SQLAlchemy 2.1 means psycopg by it, 2.0 psycopg2
        found = [name for name in ("psycopg2", "psycopg") if find_spec(name) is not None]
        return f"postgresql+{found[0]}{mark}{rest}" if found else f"postgresql{mark}{rest}"
    return address


def _as_sqlalchemy_reads(uri: str, path: Path) -> str:
    """The address of exactly this file: some versions of SQLAlchemy decode %20, some do not."""
    if "%" not in uri:
        return uri
    from sqlalchemy import make_url

    _, mark, query = uri.partition("?")
    return uri if make_url(uri).database == str(path) else f"sqlite:///{path}{mark}{query}"


def sqlite_path(uri: str) -> Path | None:
    """The database file of a SQLite store; None for every other store."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(unquote(uri.removeprefix("sqlite:///").partition("?")[0]))


def artifact_location(uri: str, experiment: str, root: str | None = None) -> str | None:
    """Where a new experiment keeps artifacts: below `root`, else beside a SQLite database.

    MLflow's own default is relative to the folder of whoever creates the experiment. None where
    the store decides for itself.
    """
    path = sqlite_path(uri)
    if root is None and path is None:
        return None
    slug = "".join(c if c.isalnum() or c in "-_." else "-" for c in experiment).strip(".")
    name = slug or "experiment"
    if root is not None and "://" in root:
        return f"{root.rstrip('/')}/{name}"
    folder = expanded(root) if root is not None else path.parent / "mlartifacts"  # type: ignore[union-attr]
    return (folder.absolute() / name).as_uri()


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
    return command_line("ui", *store_option(uri))


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
