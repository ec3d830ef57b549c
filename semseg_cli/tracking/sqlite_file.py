"""The database file of a SQLite store, as it is: what it holds, whether it can be used."""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from semseg_cli.errors import StoreError

BUSY_SECONDS = 20.0  # for another process that writes into it
OTHERWISE = "give another store with --tracking-uri, or leave tracking out with --no-track"
_DEFAULT = "SELECT 1 FROM experiments WHERE name != 'Default' LIMIT 1"
_RUNS = "SELECT 1 FROM runs LIMIT 1"


@dataclass(frozen=True)
class Contents:
    """What a database holds: its tables, the version of their form, and whether anything is in
    them."""

    tables: frozenset[str] = frozenset()
    version: str | None = None
    is_used: bool = False

    @property
    def is_current(self) -> bool:
        """Whether the MLflow that is installed reads and writes it as it is."""
        newest = _versions()[1]
        return bool(self.tables) and newest in (None, self.version)


def connect(path: Path) -> sqlite3.Connection:
    """The database, to be read: what a killed process left half written is rolled back first."""
    mode = "rw"
    if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        mode = "ro&immutable=1" if _is_at_rest(path) else "ro"
    return sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, timeout=BUSY_SECONDS)


def _is_at_rest(path: Path) -> bool:
    """Whether it keeps a log beside it that is not there now: SQLite would want to make one."""
    with path.open("rb") as file:
        has_log = file.read(20)[18:19] == b"\x02"
    return has_log and not path.with_name(f"{path.name}-wal").exists()


def look(path: Path) -> Contents:
    """What the database holds; nothing where there is no file.

    Raises:
        StoreError: it is no database, or another process holds it locked.
    """
    if not path.exists():
        return Contents()
    with telling(path), closing(connect(path)) as store:
        names = store.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        tables = frozenset(name for (name,) in names)
        version = None
        if "alembic_version" in tables:
            rows = store.execute("SELECT version_num FROM alembic_version").fetchall()
            version = rows[0][0] if rows else None
        used = ("runs" in tables and store.execute(_RUNS).fetchone()) or (
            "experiments" in tables and store.execute(_DEFAULT).fetchone()
        )
        return Contents(tables, version, bool(used))


def has_schema(path: Path) -> bool:
    """Whether the database file exists and holds tables."""
    return bool(look(path).tables)


def check_sqlite(path: Path, *, write: bool) -> None:
    """Raises a StoreError unless `path` is an MLflow database, or one could be made there.

    To be written it must also be of a version that the MLflow installed here knows, and free.
    """
    if not path.parent.is_dir():
        raise StoreError(
            f"The folder {path.parent} of the tracking store does not exist: "
            "make it, or give another store with --tracking-uri."
        )
    found = look(path)
    if found.tables and not found.tables & {"alembic_version", "experiments"}:
        raise StoreError(
            f"{path} is a database but no MLflow store: give another file with --tracking-uri."
        )
    if not write:
        return
    for needed in (path.parent, path):
        if needed.exists() and not os.access(needed, os.W_OK):
            raise StoreError(
                f"The tracking store {path} cannot be written ({needed} is read-only): {OTHERWISE}."
            )
    if found.tables:
        require_known(path, found)
        _require_free(path)


def require_current(path: Path) -> None:
    """Raises a StoreError where MLflow would change the form of the store by opening it."""
    found = look(path)
    if not found.is_current:
        raise of_another_version(path)


@cache
def _versions() -> tuple[frozenset[str], str | None]:
    """The versions of tables that the MLflow installed here knows, and the newest of them."""
    spec = find_spec("mlflow")
    places = list(spec.submodule_search_locations or ()) if spec else []
    texts = [
        file.read_text("utf-8")
        for place in places
        for file in Path(place, "store/db_migrations/versions").glob("*.py")
    ]
    known, older = (
        {found for text in texts for found in re.findall(rf'^{name} = ["\'](\w+)', text, re.M)}
        for name in ("revision", "down_revision")
    )
    newest = known - older
    return frozenset(known), newest.pop() if len(newest) == 1 else None


def require_known(path: Path, found: Contents) -> None:
    known, newest = _versions()
    if newest is not None and found.version is not None and found.version not in known:
        raise of_another_version(path)


def of_another_version(path: Path) -> StoreError:
    return StoreError(
        f"The tracking store {path} was made by another version of MLflow, or not to its end: "
        f"back it up and run `mlflow db upgrade sqlite:///{path}`, or {OTHERWISE}."
    )


def _require_free(path: Path) -> None:
    with telling(path), closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as store:
        store.isolation_level = None
        store.execute("BEGIN IMMEDIATE")
        store.execute("ROLLBACK")


def is_locked(text: str) -> bool:
    """Whether the words of a failure say that another process holds the database."""
    return "database is locked" in text or "database table is locked" in text


def locked(path: Path | str) -> str:
    """What is said of a store that another process holds."""
    return f"The tracking store {path} is held locked by another process"


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """Turns what SQLite raises into a sentence."""
    try:
        yield
    except sqlite3.Error as error:
        if is_locked(str(error)):
            raise StoreError(
                f"{locked(path)}: wait until that has ended and try again, or {OTHERWISE}."
            ) from error
        if isinstance(error, sqlite3.OperationalError) and "full" in str(error):
            raise StoreError(
                f"The tracking store {path} cannot be written ({error}): free some space, or "
                f"{OTHERWISE}."
            ) from error
        raise StoreError(
            f"The tracking store {path} is no readable SQLite database ({error}): "
            "give another file with --tracking-uri."
        ) from error
