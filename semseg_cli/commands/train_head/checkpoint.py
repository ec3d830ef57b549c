"""Where a sweep of heads can go on from: one file per run folder, replaced after every epoch."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors

from semseg_cli.commands.train_head.sweep import Sweep
from semseg_cli.engine.segmentation import Segmentation
from semseg_cli.errors import SemsegError
from semseg_cli.runs.folder import SETTINGS_FILE, RunFolder

CHECKPOINT = ".checkpoint.safetensors"  # hidden files of a run are not uploaded
STATE = "state"  # its metadata: epoch, scores and settings, as JSON


def save_checkpoint(folder: RunFolder, sweep: Sweep, settings: Mapping[str, Any]) -> None:
    """Writes everything that decides how the training goes on, atomically."""
    scores = [b and {"epoch": b.epoch, "score": asdict(b.score)} for b in sweep.best]
    state = {"epoch": sweep.epoch, "scores": scores, "settings": dict(settings)}
    data = to_safetensors(sweep.to_tensors(), {STATE: json.dumps(state)})
    folder.write(CHECKPOINT, data)


def load_checkpoint(folder: Path, sweep: Sweep, settings: Mapping[str, Any]) -> None:
    """Puts a new sweep where the run of that folder was after its last epoch.

    Raises:
        SemsegError: there is no whole checkpoint, or it belongs to other settings or data.
    """
    path = folder / CHECKPOINT
    try:
        with safe_open(path, "pt") as file:
            state = json.loads(file.metadata()[STATE])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise SemsegError(
            f"{folder} holds no training to go on with ({first}): give --resume the folder of a "
            "`train-head` run that finished an epoch."
        ) from error
    known = state["settings"]
    other = [name for name, value in settings.items() if known.get(name) != value]
    if other:
        raise SemsegError(
            f"{folder} was trained with another {' and '.join(other)}: take --config "
            f"{folder / SETTINGS_FILE} to go on as it began."
        )
    sweep.restore(state["epoch"], [_score(one) for one in state["scores"]], tensors)


def _score(kept: Mapping[str, Any] | None) -> tuple[int, Segmentation] | None:
    if kept is None:
        return None
    score = kept["score"]
    ious = {int(class_id): iou for class_id, iou in score["ious"].items()}
    return kept["epoch"], Segmentation(ious, tuple(score["absent"]), score["accuracy"])
