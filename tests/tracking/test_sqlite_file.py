"""SQLite stores: whole or absent, healed like SQLite does, changed by writing commands alone."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import mlflow_store as stores
import pytest

from semseg_cli.errors import StoreError
from semseg_cli.tracking import sqlite_file, sqlite_making
from semseg_cli.tracking.experiments import check_experiment

# Spills pages of an open transaction into the database and dies: the journal is hot.
_DIES = """
import os, sqlite3, sys
store = sqlite3.connect(sys.argv[1], isolation_level=None)
store.execute("PRAGMA cache_size = 5")
store.execute("BEGIN")
store.execute("CREATE TABLE spilled (x)")
store.executemany("INSERT INTO spilled VALUES (?)", [("x" * 900,)] * 400)
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    stores.new_store(tmp_path)
    return tmp_path / "mlflow.db"


def set_version(path: Path, version: str) -> None:
    with closing(sqlite3.connect(path)) as store:
        store.execute("UPDATE alembic_version SET version_num = ?", (version,))
        store.commit()


def test_a_hot_journal_is_rolled_back(path: Path) -> None:
    died = subprocess.run([sys.executable, "-c", _DIES, str(path)], check=False)
    assert died.returncode == -signal.SIGKILL
    assert path.with_name("mlflow.db-journal").stat().st_size > 0
    found = sqlite_file.look(path)
    assert found.is_current
    assert "spilled" not in found.tables


def test_a_store_whose_making_fails_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(made: Path, _path: Path) -> None:
        made.write_bytes(stores.empty_store()[:5000])
        raise KeyboardInterrupt

    stores.empty_store()
    monkeypatch.setattr(sqlite_making, "_fill", fail)
    with pytest.raises(KeyboardInterrupt):
        sqlite_making.prepare(tmp_path / "m.db")
    assert [one.name for one in tmp_path.iterdir()] == ["m.db.lock"]


def test_reading_leaves_a_store_of_another_version_as_it_is(path: Path) -> None:
    set_version(path, min(sqlite_file._versions()[0] - {sqlite_file._versions()[1] or ""}))
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"another version of MLflow.*mlflow db upgrade"):
        sqlite_file.require_current(path)
    assert path.read_bytes() == before


def test_writing_keeps_a_copy_and_says_so(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with closing(sqlite3.connect(path)) as store:
        store.execute("DROP TABLE alembic_version")
    before = path.read_bytes()
    sqlite_making.prepare(path)
    assert sqlite_file.look(path).is_current
    (kept,) = path.parent.glob("mlflow.db.*.bak")
    assert not sqlite_file.look(kept).is_current
    assert len(kept.read_bytes()) == len(before)
    assert str(kept) in caplog.text


def test_a_store_of_a_newer_version_is_left_alone(path: Path) -> None:
    set_version(path, "fff000fff000")
    before = path.read_bytes()
    for refuse in (sqlite_making.prepare, lambda at: sqlite_file.check_sqlite(at, write=True)):
        with pytest.raises(StoreError, match="another version of MLflow"):
            refuse(path)
    assert path.read_bytes() == before
    assert not list(path.parent.glob("*.bak"))


@pytest.mark.parametrize("kind", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_locked_store_is_told_as_such(
    kind: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.0)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(f"BEGIN {kind}")
        with pytest.raises(StoreError, match="held locked by another process"):
            sqlite_file.check_sqlite(path, write=True)
    sqlite_file.check_sqlite(path, write=True)


def test_nothing_is_made_by_asking(tmp_path: Path) -> None:
    sqlite_file.check_sqlite(tmp_path / "m.db", write=True)
    assert os.listdir(tmp_path) == []


def test_trying_where_artifacts_would_go_leaves_nothing(tmp_path: Path) -> None:
    for root in (None, str(tmp_path / "a" / "b")):
        check_experiment(f"sqlite:///{tmp_path}/m.db", "new", root=root)
        assert list(tmp_path.iterdir()) == []
