"""Where a sweep of heads can go on from: one file per run folder, replaced after every epoch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save as to_safetensors
from torch import Tensor

from semseg_cli.commands.train_head.sweep import Sweep
from semseg_cli.errors import FileError, SemsegError
from semseg_cli.models.sae.statistics import digest_of
from semseg_cli.models.weight_files import read_metadata, read_safetensors
from semseg_cli.readers import parse_json
from semseg_cli.runs.folder import SETTINGS_FILE, RunFolder

CHECKPOINT = ".checkpoint.safetensors"  # hidden files of a run are not uploaded
STATE = "state"  # its metadata: epoch, finalists, settings


def save_checkpoint(folder: RunFolder, sweep: Sweep, settings: Mapping[str, Any]) -> None:
    """Writes everything that decides how the training goes on, atomically."""
    finalists = [[(one.epoch, one.miou) for one in kept] for kept in sweep.finalists]
    state = {"epoch": sweep.epoch, "finalists": finalists, "settings": dict(settings)}
    tensors, text = sweep.to_tensors(), json.dumps(state)
    folder.write(CHECKPOINT, to_safetensors(tensors, {STATE: _signed(tensors, text)}))


def _signed(tensors: dict[str, Tensor], text: str) -> str:
    """The state behind a checksum of all that is kept."""
    return f"{digest_of(tensors, text)} {text}"


def load_checkpoint(folder: Path, sweep: Sweep, settings: Mapping[str, Any]) -> None:
    """Puts a sweep where an earlier one with these settings has stopped.

    Raises:
        SemsegError: there is no whole checkpoint, or it belongs to other settings or data.
    """
    state, tensors = _read(folder / CHECKPOINT)
    known = state["settings"]
    other = [name for name, value in settings.items() if known.get(name) != value]
    if other:
        raise SemsegError(
            f"{folder} was trained with another {' and '.join(other)}: take --config "
            f"{folder / SETTINGS_FILE} to go on as it began."
        )
    sweep.restore(state["epoch"], state["finalists"], tensors)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The state and the tensors that `save_checkpoint` wrote."""
    try:
        tensors = read_safetensors(path)
        signed = read_metadata(path).get(STATE, "")
        text = signed.partition(" ")[2]
        if signed.startswith("{"):
            raise FileError(f"{path} was written by another version.")
        if signed != _signed(tensors, text):
            raise FileError(f"{path} is damaged (its checksum is another).")
        return parse_json(text, str(path), "expected a training", is_strict=False), tensors
    except FileError as error:
        raise SemsegError(
            f"--resume {path.parent} holds no training to go on with: "
            f"{str(error).removesuffix('.')}; give it the folder of a `train-head` run that "
            "finished an epoch."
        ) from error
