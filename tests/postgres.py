"""A real PostgreSQL for tests: a folder and a port of its own, run by an unprivileged user."""

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import pytest
from mlflow_store import free_port

from semseg_cli.tracking.store_address import for_mlflow, resolve_uri

USER, PASSWORD = "semseg", "s3cret/w@rd:?"  # every sign that has a meaning in an address


class Postgres:
    """A server that can be stopped and started again; every store is a database of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._as_user = _nobody(folder)
        self._numbers = count()
        (folder / "password").write_text(PASSWORD)
        self._run(
            "initdb", "--pgdata=data", f"--username={USER}", "--pwfile=password", "--no-sync",
            "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale",
        )  # fmt: skip
        self.port = free_port()
        self.start()

    def start(self) -> None:
        """Returns when the server takes connections."""
        command = [
            _program("postgres"), "-D", "data", "-p", str(self.port), "-h", "127.0.0.1",
            "-k", str(self._folder), "-F",
        ]  # fmt: skip
        with (self._folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **self._as_user)
        for _ in range(600):
            assert self._process.poll() is None, (self._folder / "log.txt").read_text()
            if self._takes_connections():
                return
            time.sleep(0.05)
        raise AssertionError("PostgreSQL has not started")

    def stop(self) -> None:
        """Ends the server and its connections, as a restart of its machine would."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(60)

    def new_store(self, *, whole: bool = True) -> str:
        """The address of an empty store; of an empty database where it is not `whole`."""
        name = f"store{next(self._numbers)}"
        self._ask("postgres", f"CREATE DATABASE {name}")
        if whole:
            _make_tables(self.address(name))
        return self.address(name)

    def address(self, database: str) -> str:
        return f"postgresql://{USER}:{quote(PASSWORD, '')}@127.0.0.1:{self.port}/{database}"

    def texts(self, store: str) -> str:
        """All that a store keeps, as SQL."""
        return self._run("pg_dump", store, "--data-only").stdout

    def _takes_connections(self) -> bool:
        import psycopg2

        try:
            psycopg2.connect(self.address("postgres")).close()
        except psycopg2.OperationalError:
            return False
        return True

    def _ask(self, database: str, text: str) -> None:
        import psycopg2

        connection = psycopg2.connect(self.address(database))
        connection.autocommit = True
        connection.cursor().execute(text)
        connection.close()

    def _run(self, name: str, *args: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [_program(name), *args], capture_output=True, text=True, check=True, **self._as_user
        )


def _nobody(folder: Path) -> dict[str, Any]:
    """How to run a program in a folder: PostgreSQL refuses to be run by root."""
    if os.getuid():
        return {"cwd": folder}
    user = pwd.getpwnam("nobody")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return {"cwd": folder, "user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _make_tables(address: str) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(for_mlflow(resolve_uri(address)), "mlruns").engine.dispose()


def _program(name: str) -> str:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else shutil.which(name) or ""


@contextmanager
def running() -> Iterator[Postgres]:
    """A server that ends with the block; where it cannot be had the test is skipped."""
    if not _program("initdb"):
        pytest.skip("needs the programs of a PostgreSQL server")
    if find_spec("psycopg2") is None:
        pytest.skip("needs psycopg2: pip install 'semseg-cli[postgres]'")
    # Not below pytest's own folder: that is private, and too deep for a socket.
    with TemporaryDirectory(prefix="pg-", dir="/tmp") as folder:
        server = Postgres(Path(folder))
        try:
            yield server
        finally:
            server.stop()
