"""Where a sweep of heads can go on from: one file per run folder, replaced after every epoch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors

from semseg_cli.commands.train_head.sweep import Sweep
from semseg_cli.errors import SemsegError
from semseg_cli.runs.folder import SETTINGS_FILE, RunFolder

CHECKPOINT = ".checkpoint.safetensors"  # hidden files of a run are not uploaded
STATE = "state"  # its metadata: epoch, scores and settings, as JSON


def save_checkpoint(folder: RunFolder, sweep: Sweep, settings: Mapping[str, Any]) -> None:
    """Writes everything that decides how the training goes on, atomically."""
    finalists = [[(one.epoch, one.miou) for one in kept] for kept in sweep.finalists]
    state = {"epoch": sweep.epoch, "finalists": finalists, "settings": dict(settings)}
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
            epoch, finalists, known = (state[name] for name in ("epoch", "finalists", "settings"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise SemsegError(
            f"{folder} holds no training to go on with ({first}): give --resume the folder of a "
            "`train-head` run that finished an epoch."
        ) from error
    other = [name for name, value in settings.items() if known.get(name) != value]
    if other:
        raise SemsegError(
            f"{folder} was trained with another {' and '.join(other)}: take --config "
            f"{folder / SETTINGS_FILE} to go on as it began."
        )
    sweep.restore(epoch, finalists, tensors)
