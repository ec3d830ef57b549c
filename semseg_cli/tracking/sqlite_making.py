"""The database file of a SQLite store: made, brought up to date. It is whole or absent.

What is made is made elsewhere and put in its place at once, by a link to a new file or within one
transaction of an old one: a process that is killed meanwhile leaves no half of it.
"""

import logging
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

from semseg_cli.errors import StoreError
from semseg_cli.progress import passing
from semseg_cli.tracking.sqlite_file import (
    BUSY_SECONDS,
    OTHERWISE,
    Contents,
    connect,
    locked,
    look,
    of_another_version,
    require_known,
    telling,
)

LOCK_SECONDS = 60.0  # for another process that makes the store
_BUSY = (5, 6)  # SQLite's codes
_COUNTER = slice(24, 28)  # of a database's header: it changes with every change
log = logging.getLogger("semseg_cli")


def prepare(path: Path) -> None:
    """Makes the store where it is new. An older one is brought up to date: a warning says so, and
    a copy is kept beside it.

    Raises:
        StoreError: it cannot be made, or is of a version that the MLflow installed here lacks.
    """
    if look(path).is_current:
        return
    with telling(path), _alone(path):
        found = look(path)
        if not found.tables:
            _make(path)
        elif not found.is_current:
            require_known(path, found)
            _renew(path, found)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Holds the lock beside the database: one process at a time makes it."""
    from filelock import FileLock, Timeout

    lock = path.with_name(f"{path.name}.lock")
    try:
        with FileLock(lock, timeout=LOCK_SECONDS):
            yield
    except Timeout as error:
        raise StoreError(
            f"The tracking store {path} has been locked for {LOCK_SECONDS:g} s by another "
            f"process: wait for it, or remove {lock} if none is running."
        ) from error
    except OSError as error:
        raise StoreError(
            f"The tracking store {path} cannot be made ({error.strerror or error}): {OTHERWISE}."
        ) from error


def _make(path: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch, "made.db")
        _fill(made, path)
        aside = path.with_name(f".{path.name}.part")
        aside.unlink(missing_ok=True)
        try:
            _copy(made, aside)
            try:
                os.link(aside, path)
            except FileExistsError:  # an empty file, which another process may have open
                _copy(made, path)
            except OSError:  # a file system without links
                aside.rename(path)
        finally:
            aside.unlink(missing_ok=True)


def _renew(path: Path, found: Contents) -> None:
    """Brings a store up to date; one that holds nothing and cannot be is made anew."""
    kept = path.with_name(f"{path.name}.{time.strftime('%Y%m%d-%H%M%S')}.bak")
    log.warning(
        "The tracking store %s was made by another version of MLflow, or not to its end: it is "
        "brought up to date, and its copy kept as %s.", path, kept,
    )  # fmt: skip
    counter = path.read_bytes()[_COUNTER]
    with tempfile.TemporaryDirectory() as scratch:
        aside = path.with_name(f".{path.name}.part")
        aside.unlink(missing_ok=True)
        _copy(path, aside)
        aside.rename(kept)
        made = Path(scratch, "made.db")
        try:
            _copy(kept, made)
            _upgrade(made)
        except Exception as error:
            if found.is_used:
                raise of_another_version(path) from error
            made = Path(scratch, "anew.db")
        _fill(made, path)
        if path.read_bytes()[_COUNTER] != counter:
            raise StoreError(f"{locked(path)}: end that, and try again, or {OTHERWISE}.")
        _copy(made, path)


def _fill(made: Path, path: Path) -> None:
    """Makes MLflow's tables in a database that will lie at `path`."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with _quiet(), _unsafe():
        store = SqlAlchemyStore(f"sqlite:///{made}", (path.parent / "mlartifacts").as_uri())
        store.engine.dispose()


def _upgrade(made: Path) -> None:
    from mlflow.store.db import utils

    with _quiet(), _unsafe():
        engine = utils.create_sqlalchemy_engine(f"sqlite:///{made}")
        try:
            utils._upgrade_db(engine)  # what `mlflow db upgrade` does
        finally:
            engine.dispose()


def _quiet() -> AbstractContextManager[None]:
    """MLflow's and alembic's own words are about tables that nobody has asked for."""
    return passing(logging.ERROR, "alembic", "mlflow.store.db.utils")


@contextmanager
def _unsafe() -> Iterator[None]:
    """Databases do not wait for the disk at each of a hundred steps: what is made is copied."""
    from sqlalchemy import Engine, event

    def relax(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", relax)
    try:
        yield
    finally:
        event.remove(Engine, "connect", relax)


def _copy(source: Path, target: Path) -> None:
    """Copies a database, in one transaction of the target."""
    deadline = time.monotonic() + BUSY_SECONDS

    def wait(status: int, _left: int, _total: int) -> None:
        if status in _BUSY and time.monotonic() > deadline:
            raise sqlite3.OperationalError("database is locked")

    with closing(connect(source)) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other, progress=wait)
