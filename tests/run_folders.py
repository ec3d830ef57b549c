"""Run folders as a command leaves them, with made-up results."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from semseg_cli.runs.folder import RunFolder, make_run_folder, now
from semseg_cli.runs.per_image import COUNTED
from semseg_cli.runs.report import ClassResults, Report
from semseg_cli.runs.rows import csv_text

SETTINGS = """\
vit_layer = 11
imgs_root = "/data/ade"
imgs_split = "validation"
lookup_split = "training"
protocol = "class"
min_patches = 50
seed = 42
batch_size = 32
experiment = "semseg"
"""


def make_report(command: str = "auto-feat", scale: float = -2.0, changed: int = 90) -> Report:
    """Two classes: of sand's 100 patches `changed` change, of sea's 60 half as many percent."""
    sand = ClassResults(1, "sand", 100, changed, 300, 12, {2: changed} if changed else {})
    sea = ClassResults(2, "sea [b t d]", 60, 30, 340, 17, {1: 30})
    return Report(
        command, [sand, sea], scale, n_images=4, n_patches=400, edit_norm=12.5,
        min_patches=50, shared_edit=command == "rand-vec",
    )  # fmt: skip


def make_folder(
    root: Path,
    command: str = "auto-feat",
    scale: float = -2.0,
    changed: int = 90,
    status: str | None = "FINISHED",
    settings: str = "",
    **meta: Any,
) -> RunFolder:
    """A folder with every file of a run; without a report where the status is not FINISHED."""
    folder = make_run_folder(root, _meta(command, scale) | meta)
    if status is None:
        return folder
    method = f"scale = [{scale}]\n{settings or 'select = '}" + ("" if settings else '"f1"\n')
    (folder.path / "settings.toml").write_text(SETTINGS + method)
    (folder.path / "log.txt").write_text("looked at 4 images\n")
    if status == "FINISHED":
        fill(folder, make_report(command, scale, changed))
    folder.update(status=status, ended=now())
    return folder


def fill(folder: RunFolder, report: Report) -> None:
    (folder.path / "report.json").write_text(json.dumps(report.to_dict()))
    rows = [{**r.to_row(), "latent": 7 + r.class_id} for r in report.class_results]
    _write(folder.path / "class_results.csv", rows)
    (folder.path / "per_image.parquet").write_bytes(per_image(report))
    (folder.path / "change_matrix.parquet").write_bytes(b"PAR1")
    latents = [
        {"class_id": r.class_id, "class_name": r.class_name, "rank": 1, "latent": 7 + r.class_id,
         "chosen": 1, "threshold": 0.3, "threshold_share": 0.1, "f1": 0.9,
         "precision": 0.95, "recall": 0.85, "iou": 0.8, "n_patches": 100, "frequency": 0.001,
         "maximum": 5.5}
        for r in report.class_results
    ]  # fmt: skip
    _write(folder.path / "lookup.csv", latents)


def per_image(report: Report) -> bytes:
    """Counts per image that add up to the report's: patches spread evenly, changes come first."""
    images = [f"image_{number}" for number in range(report.n_images)]
    columns: dict[str, list[Any]] = {name: [] for name in ("image", "class_id", *COUNTED)}
    for result in report.class_results:
        orig = _even(result.n_orig_patches, len(images))
        other = _even(result.n_other_patches, len(images))
        columns["image"] += images
        columns["class_id"] += [result.class_id] * len(images)
        columns["n_orig_patches"] += orig
        columns["n_changed_patches"] += _first(result.n_changed_patches, orig)
        columns["n_other_patches"] += other
        columns["n_other_changed"] += _first(result.n_other_changed, other)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue().to_pybytes())


def write_draws(folder: RunFolder, counts_dc4: np.ndarray, class_ids: Sequence[int]) -> None:
    """draws.csv with these counts of every draw and class; class 0 is pooled."""
    rows = [
        {"draw": draw, "class_id": class_id, **dict(zip(COUNTED, counts.tolist(), strict=True))}
        for draw, by_class in enumerate(counts_dc4)
        for class_id, counts in zip(class_ids, by_class, strict=True)
    ]
    _write(folder.path / "draws.csv", rows)


def _even(total: int, n: int) -> list[int]:
    return [total // n + (i < total % n) for i in range(n)]


def _first(total: int, room: list[int]) -> list[int]:
    filled = []
    for most in room:
        filled.append(min(total, most))
        total -= filled[-1]
    return filled


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(csv_text(rows))


def _meta(command: str, scale: float) -> dict[str, Any]:
    split = {"name": "ade", "root": "/data/ade", "n_images": 4}
    return {
        "kind": "intervention",
        "command": command,
        "method": command,
        "protocol": "class",
        "scale": scale,
        "run_name": f"{command} x{scale:g}",
        "experiment": "semseg",
        "sweep_id": "5eed",
        "tags": {"author": "me"},
        "datasets": [
            {**split, "role": "evaluation", "split": "validation", "digest": "e" * 64},
            {**split, "role": "lookup", "split": "training", "digest": "f" * 64},
        ],
        "digests": {"sae": "5ae", "vit": "717", "head": "4ead"},
    }
