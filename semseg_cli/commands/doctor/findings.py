"""What checks found: as a table, kept, and found again by later runs."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from semseg_cli import __version__
from semseg_cli.errors import FileError
from semseg_cli.files import cache_folder, make_folder, write_atomic
from semseg_cli.readers import MOST_TEXT, read_bytes
from semseg_cli.runs.folder import FINDINGS_FILE, RunFolder, now
from semseg_cli.show.tables import Column, Table

Status = Literal["pass", "warn", "fail", "skipped"]
ROWS_TOLD = ("fail", "warn")
COLUMNS = (
    Column("check", "check", "text"),
    Column("status", "result", "text"),
    Column("found", "found", "text", elastic=True),
)
# Beside the digests of the parts, the settings that decide what the checks see.
DECIDING = (
    "imgs_root", "imgs_split", "lookup_split", "data_format", "background", "label_threshold",
    "vit_layer", "vit_site", "image_size", "dtype", "stats", "act_mean", "act_norm", "sparsity",
)  # fmt: skip


class NotApplicableError(Exception):
    """A check cannot be made; says what it would need."""


@dataclass(frozen=True)
class Finding:
    """What a check found, in a few words; where something is wrong, a sentence on what to try."""

    status: Status
    found: str
    advice: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    check: str = ""


def is_fit(findings: Sequence[Finding]) -> bool:
    """Whether no check failed."""
    return all(finding.status != "fail" for finding in findings)


def to_table(findings: Sequence[Finding], notes: Sequence[str] = ()) -> Table:
    """A row per check, and below it a sentence for each that failed or warns."""
    keys = ("check", "status", "found", "advice")
    rows = tuple({key: getattr(finding, key) for key in keys} for finding in findings)
    told = [f for status in ROWS_TOLD for f in findings if f.status == status]
    counts = {s: sum(f.status == s for f in findings) for s in ("pass", "warn", "fail", "skipped")}
    title = "Doctor: " + ", ".join(f"{n} {status}" for status, n in counts.items() if n)
    said = [f"{finding.status}: {finding.check}. {finding.advice}" for finding in told]
    return Table(title, COLUMNS, rows, notes=(*notes, *said))


def save_findings(
    findings: Sequence[Finding], digests: Mapping[str, str], settings: Mapping[str, Any]
) -> None:
    """Keeps the findings in the cache folder, for runs with these parts and settings.

    Raises:
        SemsegError: the cache folder cannot be written.
    """
    whole = {
        "version": __version__,
        "created": now(),
        "is_fit": is_fit(findings),
        "digests": dict(digests),
        "settings": _deciding(settings),
        "checks": [asdict(finding) for finding in findings],
    }
    data = json.dumps(whole, indent=2, ensure_ascii=False, default=str).encode()
    path = _path_of(digests, settings)
    make_folder(path.parent, "--cache-dir")
    write_atomic(path, data, "--cache-dir")


def copy_findings(
    folder: RunFolder, digests: Mapping[str, str], settings: Mapping[str, Any]
) -> None:
    """Stores with a run what `doctor` last found on exactly its parts and deciding settings."""
    path = _path_of(digests, settings)
    with suppress(FileError):
        folder.write(FINDINGS_FILE, read_bytes(path, str(path), "", MOST_TEXT))


def _path_of(digests: Mapping[str, str], settings: Mapping[str, Any]) -> Path:
    """Where findings on these parts with these settings are kept."""
    key = repr((sorted(digests.items()), _deciding(settings)))
    name = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
    return cache_folder(settings.get("cache_dir")) / "doctor" / f"{name}.json"


def _deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: settings[key] for key in DECIDING if key in settings}
