"""python -m benchmarks many: `compare` over a store of many runs.

Two runs of the small planted world are tracked, a latent's and its control's, and their rows in the
store are copied at several scales; artifacts are those of the first. Processor seconds of the whole
command, and of one that only starts.
"""

import argparse
import contextlib
import io
import os
import sqlite3
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.planted.plan import TINY, make_plan
from benchmarks.planted.world import write_world
from semseg_cli.cli import run

AT_MOST = 5.0
COPIED = ("runs", "params", "tags", "latest_metrics")
SIDES = {
    "--help": ("compare", "--help"),
    "the newest of each kind": ("compare", "--columns", "scale"),
    "all, with intervals": ("compare", "--last", "{n}"),
}


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser("python -m benchmarks many", description=__doc__)
    made.add_argument("--runs", type=int, default=1000)
    made.add_argument("--kinds", type=int, default=20, help="scales among the runs")
    return made


def many(arguments: Sequence[str]) -> bool:
    """Measures and prints; whether the newest of each kind take at most 5 s."""
    given = parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = make_store(folder)
        copy_runs(store, given.runs, given.kinds)
        found = {
            side: spent([one.format(n=given.runs) for one in args], folder).seconds
            for side, args in SIDES.items()
        }
    for side, seconds in found.items():
        print(f"{side}: {seconds:.2f} processor seconds for {given.runs} runs")
    return found["the newest of each kind"] <= AT_MOST


def make_store(folder: Path) -> Path:
    """A SQLite store with a run and its control."""
    world = write_world(folder / "world", make_plan(1, TINY))
    world.write_settings()
    store = folder / "mlflow.db"
    shared = ["--config", str(world.folder / "planted.toml"), "--no-plots", "--quiet"]
    shared += ["--tracking-uri", f"sqlite:///{store}", "--dump-to", str(folder / "runs")]
    for method in ("auto-feat", "rand-feat"):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            sys.argv = ["semseg-cli", method, *shared]
            run()
    return store


def copy_runs(store: Path, n_runs: int, n_kinds: int) -> None:
    """Copies the runs of a store until it has so many, at so many scales."""
    with closing(sqlite3.connect(store)) as db:
        first = [row[0] for row in db.execute("SELECT run_uuid FROM runs ORDER BY start_time")]
        for number in range(n_runs - len(first)):
            old, new = first[number % len(first)], uuid.uuid4().hex
            for table in COPIED:
                names = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
                values = ", ".join("?" if name == "run_uuid" else name for name in names)
                line = f"INSERT INTO {table} ({', '.join(names)}) SELECT {values} FROM {table}"
                db.execute(f"{line} WHERE run_uuid = ?", (new, old))
            scale = -1.0 - number // len(first) % n_kinds
            change = "SET value = ? WHERE run_uuid = ? AND key = 'scale'"
            db.execute(f"UPDATE params {change}", (str(scale), new))
            db.execute(f"UPDATE latest_metrics {change}", (scale, new))
            db.execute("UPDATE runs SET name = ? WHERE run_uuid = ?", (f"run {number}", new))
        db.commit()


@dataclass(frozen=True)
class Spent:
    """Processor seconds and peak memory of a command."""

    seconds: float
    mib: float


def spent(arguments: Sequence[str], folder: Path) -> Spent:
    """What a command takes.

    Raises:
        RuntimeError: it failed.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "semseg_cli", *arguments], cwd=folder, env=environment,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"`semseg-cli {' '.join(arguments)}` failed")
    return Spent(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
