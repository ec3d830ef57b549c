"""What run.json says of a run, and whether it does."""

from datetime import datetime
from pathlib import Path
from typing import Any

from semseg_cli.errors import VersionError
from semseg_cli.readers import read_json, unreadable
from semseg_cli.runs.field_types import holds, shortened
from semseg_cli.runs.report import SCHEMA_VERSION
from semseg_cli.settings.methods import called_now

EXPECTED = "that is no run folder, give one below --dump-to"
# Entries that every run has, and what they hold; a run may have more.
FORM: dict[str, Any] = {
    "run_name": str,
    "experiment": str,
    "command": str,
    "method": str,
    "status": str,
    "created": str,
    "tags": dict[str, str],
    "datasets": list[dict[str, Any]],
}
MAY_LACK: dict[str, Any] = {
    "ended": str | None,
    "reason": str | None,
    "tracking_uri": str | None,
    "mlflow_run_id": str | None,
    "mlflow_experiment_id": str | None,
    "git_commit": str | None,
    "protocol": str | None,
    "sweep_id": str | None,
    "kind": str | None,
    "scale": float | int | None,
    "digests": dict[str, str] | None,
    "notes": list[str] | None,
    "uploaded": bool | None,
    "class_metrics": bool | None,
    "system_metrics": bool | None,
}
OF_DATASET = ("role", "name", "root", "split", "digest")


def read_run_json(path: Path) -> dict[str, Any]:
    """The entries of a run.json.

    Raises:
        FileError: it is none, or of another schema version.
    """
    meta = read_json(path, str(path), EXPECTED)
    if not isinstance(meta, dict):
        raise unreadable(str(path), "it holds no object", EXPECTED)
    if meta.get("schema_version") != SCHEMA_VERSION:
        raise VersionError(
            f"{path.parent} has schema version {shortened(meta.get('schema_version'))}, this "
            f"version of semseg-cli reads {SCHEMA_VERSION}: use the version that wrote it."
        )
    if wrong := _wrong(meta):
        raise unreadable(str(path), wrong, "expected what a run of semseg-cli wrote")
    return {**meta, "method": called_now(meta["method"])}


def _wrong(meta: dict[str, Any]) -> str:
    """What is wrong with the entries; nothing where they are in order."""
    for name, kind in (FORM | MAY_LACK).items():
        if name not in meta and name in FORM:
            return f"it lacks {name}"
        if not holds(meta.get(name), kind if name in meta else Any):
            return f"{name} is {shortened(meta[name])}"
    for one in meta["datasets"]:
        for name in OF_DATASET:
            if not isinstance(one.get(name), str):
                return f"a dataset has the {name} {shortened(one.get(name))}"
    for name in ("created", "ended"):
        try:
            datetime.fromisoformat(meta.get(name) or meta["created"])
        except ValueError:
            return f"{name} is {shortened(meta[name])}, no time"
    return ""
