"""One folder per run: everything a run leaves behind, on disk before anything is tracked.

`run.json` says what the folder is and how the run ended; the other files are its results. Tracking
reads the folder and nothing else, so a run that was never uploaded can be uploaded later.
"""

import json
import re
import secrets
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from semseg_cli.errors import SemsegError
from semseg_cli.files import cannot_write, make_folder, write_atomic
from semseg_cli.readers import read_json
from semseg_cli.runs import alive
from semseg_cli.runs.report import SCHEMA_VERSION, Report
from semseg_cli.runs.report_json import report_of
from semseg_cli.runs.run_json import read_run_json

# The files of a run; which of them there are depends on the command and its options.
RUN_FILE = "run.json"
SETTINGS_FILE = "settings.toml"
LOG_FILE = "log.txt"
REPORT_FILE = "report.json"
CLASSES_FILE = "class_results.csv"
PER_IMAGE_FILE = "per_image.parquet"
CHANGES_FILE = "change_matrix.parquet"
DRAWS_FILE = "draws.csv"
JOURNAL_FILE = "counts.journal"  # what a run has counted so far; gone when it is finished
LOOKUP_FILE = "lookup.csv"
GROUPS_FILE = "groups.csv"  # each class's smallest group of latents
TOP_IMAGES_FILE = "top_images.csv"  # on which images each class's latent is most active
STATS_FILE = "stats.safetensors"
STATS_MADE_FILE = "stats.json"  # how the statistics were made, and what they say
SPLICE_FILE = "splice.csv"  # per class, what the SAE's reconstruction does to the network
HEAD_FILE = "head.pt"
HEAD_TENSORS_FILE = "head.safetensors"
SWEEP_FILE = "sweep.csv"
HEAD_CLASSES_FILE = "classes.csv"
METRICS_FILE = "metrics.json"  # name -> number, of runs that make something
FINDINGS_FILE = "doctor.json"
CALIBRATION_FILE = "calibration.csv"
NULLS_FILE = "nulls.parquet"  # what every null did to every class
MATCHED_FILE = "matched_per_image.parquet"  # what matched peers did together, image by image
DICTIONARIES_FILE = "dictionaries.csv"  # one row per autoencoder
RANKED_FILE = "dictionaries.json"  # the same with what is said of it
SUITE_FILE = "suite.csv"  # one row per run
CARD_FILE = "card.md"
SUITE_PAGE_FILE = "suite.html"
PAGE_FILE = "report.html"

_MOST_OF_A_REASON = 1000  # characters, on a full disk


def now() -> str:
    """The time in ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def git_commit() -> str | None:
    """Commit of the repository around the working directory; None outside of one."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


@dataclass(frozen=True)
class RunFolder:
    """A run's folder. `meta` is what `run.json` says now."""

    path: Path

    @property
    def meta(self) -> dict[str, Any]:
        """The contents of run.json.

        Raises:
            FileError: the folder holds no run, or one of another schema version.
        """
        return read_run_json(self.path / RUN_FILE)

    def update(self, **changes: Any) -> None:
        """Changes entries of run.json, atomically."""
        self.write_json(RUN_FILE, {**self.meta, **changes})

    def mark(self, status: str, reason: str | None) -> None:
        """Says in run.json how the run has ended: for that there is room on a full disk, too.

        Raises:
            SemsegError: it cannot be written.
        """
        meta = {**self.meta, "status": status, "reason": reason, "ended": now()}
        try:
            self.write_json(RUN_FILE, meta)
        except SemsegError:
            short = {**meta, "reason": reason and reason[:_MOST_OF_A_REASON]}
            if not alive.write_last(self.path, RUN_FILE, _json(short)):
                raise
        alive.end(self.path)

    def go_on(self) -> None:
        """Says that a stopped run is running again.

        Raises:
            SemsegError: it cannot be written.
        """
        meta = {**self.meta, "status": "RUNNING", "reason": None, "ended": None}
        try:
            alive.begin(self.path, len(_json(meta)))
            self.write_json(RUN_FILE, meta)
        except (OSError, SemsegError) as error:
            alive.end(self.path)
            if isinstance(error, SemsegError):
                raise
            raise cannot_write(self.path, error, "--dump-to") from error

    @property
    def whose(self) -> str:
        """The process that is running it, in words; nothing where it has ended."""
        return alive.who_runs(self.path)

    def write(self, name: str, data: bytes) -> None:
        """Writes one file of the run, atomically."""
        write_atomic(self.path / name, data)

    def write_json(self, name: str, data: Any) -> None:
        """Writes one JSON file of the run, atomically."""
        self.write(name, _json(data))

    def remove(self, name: str) -> None:
        """Removes one file of the run, where it is."""
        with suppress(OSError):
            (self.path / name).unlink()

    def read_json(self, name: str) -> Any:
        """One JSON file of the run."""
        path = self.path / name
        return read_json(path, str(path), "expected what a run of semseg-cli wrote")

    def report(self) -> Report:
        """The run's report."""
        return report_of(self.read_json(REPORT_FILE), str(self.path / REPORT_FILE))


def run_folders(below: Path) -> list[tuple[RunFolder, dict[str, Any]]]:
    """The runs in a folder, by the names of their folders, and what run.json says of each.

    What another version wrote, or nobody of ours, is passed over.
    """
    found = []
    for path in sorted(below.glob(f"*/{RUN_FILE}")):
        folder = RunFolder(path.parent)
        with suppress(SemsegError):
            found.append((folder, folder.meta))
    return found


def _json(data: Any) -> bytes:
    return json.dumps(data, indent=2, ensure_ascii=False).encode()


def make_run_folder(dump_to: Path, meta: Mapping[str, Any]) -> RunFolder:
    """A new folder below `dump_to` with a run.json whose status is RUNNING.

    Raises:
        SemsegError: `dump_to` cannot be written.
    """
    slug = re.sub(r"[^A-Za-z0-9.+-]+", "-", str(meta["run_name"])).strip("-.")[:60]
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    path = dump_to / f"{stamp}-{slug or 'run'}-{secrets.token_hex(2)}"
    whole = {
        "schema_version": SCHEMA_VERSION,
        **meta,
        "git_commit": git_commit(),
        "created": now(),
        "ended": None,
        "status": "RUNNING",
        "reason": None,
        "tracking_uri": None,
        "mlflow_run_id": None,
        "uploaded": False,
    }
    make_folder(path)
    try:
        alive.begin(path, len(_json(whole)))
        RunFolder(path).write_json(RUN_FILE, whole)
    except BaseException as error:
        alive.end(path)
        shutil.rmtree(path, ignore_errors=True)  # nothing has begun in it
        if isinstance(error, OSError):
            raise cannot_write(path, error, "--dump-to") from error
        raise
    return RunFolder(path)
