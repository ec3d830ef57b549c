"""What is tracked of a run folder: parameters, metrics, tags, files. No mlflow in here.

`tracking.py` sends it to a store and reads it back; `compare` reads it from either side.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from semseg_cli.readers import read_text
from semseg_cli.runs.class_rows import read_class_rows
from semseg_cli.runs.contents import (
    cautions_of,
    is_chosen_on_evaluation,
    metrics_of,
    params_of,
    text_of,
)
from semseg_cli.runs.folder import (
    CARD_FILE,
    CHANGES_FILE,
    CLASSES_FILE,
    DRAWS_FILE,
    JOURNAL_FILE,
    LOOKUP_FILE,
    PER_IMAGE_FILE,
    REPORT_FILE,
    RUN_FILE,
    SWEEP_FILE,
    RunFolder,
)
from semseg_cli.runs.lookup_csv import read_lookup_rows
from semseg_cli.runs.metrics import CLASSES, shown
from semseg_cli.runs.rows import parse_number, per_draw, read_rows
from semseg_cli.settings.methods import called_now
from semseg_cli.show.run_tables import (
    extremes_table,
    lookup_table,
    summary_table,
    sweep_table,
)
from semseg_cli.show.tables import render

TABLE = "class_results.json"
# These go below results/ in the store; every other file keeps its place in the folder.
RESULT_FILES = (CLASSES_FILE, PER_IMAGE_FILE, CHANGES_FILE, DRAWS_FILE)
MEASURES = tuple(metric.key for metric in shown(CLASSES, "plots"))
# The first columns of the table of classes in MLflow's UI; the others follow as they are.
FIRST = ("class_name", *MEASURES, "latent")
FINAL = ("FINISHED", "FAILED", "KILLED")


@dataclass(frozen=True, eq=False)
class TrackedRun:
    """A run as a store, or a run folder, has it; equal to itself alone.

    `source` is the address of the store, or the run folder itself; `artifacts` is where a store
    keeps the files of the run.
    """

    run_id: str
    name: str
    experiment: str
    status: str
    started: datetime
    source: str | Path
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    artifacts: str = ""

    def tag(self, name: str) -> str | None:
        """The value of one of our own tags, given without its prefix `semseg.`."""
        value = self.tags.get(f"semseg.{name}")
        return called_now(value) if value and name == "method" else value

    @property
    def short_id(self) -> str:
        """The end of its folder's name, which tells it from others; where no folder is known the
        beginning of the store's id."""
        return short(self.tag("folder") or self.run_id)


def short(name: str) -> str:
    """The end of a run folder's name, or the beginning of a store's id."""
    head, dash, end = name.rpartition("-")
    return end if dash and head else name[:8]


def identity_of(folder: RunFolder) -> TrackedRun:
    """What a run of a folder is found by, without its settings and results: only run.json is
    read."""
    meta = folder.meta
    return TrackedRun(
        run_id=meta["mlflow_run_id"] or folder.path.name,
        name=meta["run_name"],
        experiment=meta["experiment"],
        status=meta["status"],
        started=datetime.fromisoformat(meta["created"]),
        source=folder.path,
        tags={"semseg.folder": folder.path.name},
    )


def from_folder(folder: RunFolder) -> TrackedRun:
    """The run of a folder, as it is or would be tracked."""
    return replace(
        identity_of(folder),
        params=params_of(folder),
        metrics=metrics_of(folder),
        tags=tags_of(folder),
    )


def class_metrics_of(folder: RunFolder) -> dict[str, float]:
    """The ratios of each class of a run, as metrics `class/NAME/...`; none unless asked for."""
    if not folder.meta.get("class_metrics") or not (folder.path / REPORT_FILE).exists():
        return {}
    results = folder.report().class_results
    names = [safe_name(result.class_name) for result in results]
    unique = [
        name if name and names.count(name) == 1 else f"id{result.class_id}"
        for result, name in zip(results, names, strict=True)
    ]
    return {
        f"class/{name}/{measure}": float(value)
        for result, name in zip(results, unique, strict=True)
        for measure in MEASURES
        if (value := result.to_row()[measure]) is not None
    }


def safe_name(text: str) -> str:
    """A name as stores take it: letters, digits, `_`, `-` and `.` inside, joined by `_`."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("_.-")


def without_details(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics of the run as a whole: not those of classes or of the machine."""
    return {name: value for name, value in metrics.items() if "/" not in name}


def tags_of(folder: RunFolder) -> dict[str, str]:
    """Our tags of a run, and the user's."""
    meta = folder.meta
    own: dict[str, Any] = {name: meta.get(name) for name in ("schema_version", "kind", "method")}
    own |= {name: meta.get(name) for name in ("protocol", "sweep_id", "command", "reason")}
    own |= {"folder": folder.path.name}
    own |= {f"digest.{name}": digest for name, digest in (meta.get("digests") or {}).items()}
    own |= {f"digest.{one['role']}": one["digest"] for one in meta["datasets"]}
    own["doubts"] = " ".join(meta.get("doubts") or []) or None  # of the parts: see doctor.md
    own["latents_on_evaluation"] = text_of(is_chosen_on_evaluation(folder))
    if (folder.path / REPORT_FILE).exists():
        own["pooled_telling"] = text_of(folder.report().is_pooled_telling)
    kept = {f"semseg.{name}": str(value) for name, value in own.items() if value is not None}
    return {**meta["tags"], **kept}


def is_inside(folder: RunFolder, path: Path) -> bool:
    """Whether a file of a run's folder lies in it: a link may lead out of it."""
    return path.resolve().is_relative_to(folder.path.resolve())


def files_of(folder: RunFolder) -> list[tuple[Path, str]]:
    """The files of a run to store, each with the folder of the store that it goes to."""
    found = (path for path in sorted(folder.path.rglob("*")) if path.is_file())
    found = (path for path in found if is_inside(folder, path))
    placed = ((path, path.relative_to(folder.path)) for path in found)
    return [
        (path, "results" if str(at) in RESULT_FILES else at.parent.as_posix().removeprefix("."))
        for path, at in placed
        if str(at) not in (RUN_FILE, JOURNAL_FILE)
        and not any(part.startswith(".") for part in at.parts)
    ]


def table_for_ui(folder: RunFolder) -> str | None:
    """The rows of class_results.csv as MLflow's UI compares them; None where there are none.

    The UI groups by the first column, compares the next, and shows every digit it is given.
    """
    rows = read_class_rows(folder.path / CLASSES_FILE)
    if not rows:
        return None
    columns = sorted(rows[0], key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    data = [[_rounded(row[name]) for name in columns] for row in rows]
    return json.dumps({"columns": columns, "data": data})


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


def setting_of(run: TrackedRun, name: str) -> int | float | str | None:
    """A parameter of a run, as a number where it is one: `mlflow run` logs "-2" for our "-2.0"."""
    return _number(run.params.get(name, ""))


_number = lru_cache(maxsize=4096)(parse_number)  # many runs have the same few settings


def describe(folder: RunFolder) -> str:
    """A run in Markdown: how it was made, its summary and most telling classes or latents."""
    meta = folder.meta
    parts = [f"`semseg-cli {meta['command']}`, run folder `{folder.path}`"]
    if (folder.path / REPORT_FILE).exists():
        report = folder.report()
        summary = summary_table({meta["run_name"]: report}, "", cautions_of(folder))
        parts.append(render(summary, "markdown"))
        rows = per_draw(read_class_rows(folder.path / CLASSES_FILE), report.n_draws)
        parts.append(render(extremes_table(rows, report.min_patches), "markdown") if rows else "")
    elif (folder.path / CARD_FILE).exists():
        parts.append(read_text(folder.path / CARD_FILE, CARD_FILE, "expected the card of a run"))
    elif latents := read_lookup_rows(folder.path / LOOKUP_FILE):
        parts.append(render(lookup_table(latents[:100]), "markdown"))
    elif heads := read_rows(folder.path / SWEEP_FILE):
        parts.append(render(sweep_table(heads), "markdown"))
    if meta["reason"]:
        parts.append(f"{meta['status']}: {meta['reason']}")
    return "\n\n".join(part.strip() for part in parts if part)


def milliseconds(iso: str) -> int:
    """An ISO time as MLflow counts it."""
    return int(datetime.fromisoformat(iso).timestamp() * 1000)


def from_milliseconds(time: int) -> datetime:
    """A time of MLflow."""
    return datetime.fromtimestamp(time / 1000, UTC)
