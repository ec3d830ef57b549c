"""Files read without unpickling: tensors of safetensors and PyTorch, settings of JSON and YAML."""

import io
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from semseg_cli.errors import SemsegError
from semseg_cli.models.torch_files import BadPickle, Name, Record, is_small, read_torch_file

MOST_YAML = 2**20  # bytes of a config


def first_byte(path: Path) -> bytes:
    """The first byte of a file; none where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(1)
    except OSError:
        return b""


def read_header(path: Path, data: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON object in the first line of a file, and the bytes after that line."""
    line, _, rest = data.partition(b"\n")
    try:
        header = json.loads(line)
    except ValueError as error:
        raise SemsegError(
            f"{path} does not begin with a JSON header line: the file is of another format or cut."
        ) from error
    if not isinstance(header, dict):
        raise SemsegError(f"The first line of {path} is no JSON object: the file is bad.")
    return header, rest


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise SemsegError(
            f"{path} is no readable JSON ({error}): the file is bad or cut."
        ) from error
    if not isinstance(value, dict):
        raise SemsegError(f"{path} holds no JSON object: the file is bad.")
    return value


def read_config(path: Path) -> dict[str, Any]:
    """The object in a JSON or YAML file; of YAML, plain values only."""
    if path.suffix == ".json":
        return read_json(path)
    import yaml

    try:
        with path.open(encoding="utf-8") as file:
            value = yaml.safe_load(file.read(MOST_YAML))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise SemsegError(f"{path} is no readable YAML: the file is bad or cut.") from error
    if not isinstance(value, dict) or not is_small(value):
        raise SemsegError(f"{path} holds no YAML mapping, or one too large: the file is bad.")
    return value


def read_torch(path: Path, data: bytes | None = None) -> Any:
    """What a PyTorch file holds: tensors, plain values, and `Record`s of other objects.

    Args:
        path: the file, also for messages.
        data: its bytes, where they are not all of the file.

    Raises:
        SemsegError: the file is cut, damaged, or no PyTorch file.
    """
    try:
        with path.open("rb") if data is None else io.BytesIO(data) as file:
            return read_torch_file(file)
    except BadPickle as error:
        raise SemsegError(
            f"{path} holds no readable tensors ({error}): it is cut, or no PyTorch file."
        ) from error
    except OSError as error:
        raise SemsegError(f"{path} cannot be read ({error.strerror}).") from error


def as_state(path: Path, found: Any) -> dict[str, Tensor]:
    """A value that was read from a PyTorch file, as a state dict.

    Raises:
        SemsegError: it is none.
    """
    if isinstance(found, Record | Name):
        kind = found.kind if isinstance(found, Record) else found.text
        raise SemsegError(
            f"{path} holds a pickled {kind}, not a state dict of tensors; nothing in it was run."
        )
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in found.items()
    ):
        raise SemsegError(
            f"{path} holds something other than a plain state dict of tensors: write it with "
            "torch.save(model.state_dict(), FILE)."
        )
    return found


def read_state(path: Path, data: bytes | None = None) -> dict[str, Tensor]:
    """The state dict in a PyTorch file."""
    return as_state(path, read_torch(path, data))


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise SemsegError(
            f"{path} holds no readable tensors ({error}): it is cut, or no safetensors file."
        ) from error


def safetensors_keys(path: Path) -> list[str]:
    """The names of the tensors in a safetensors file; none where it is bad."""
    try:
        with safe_open(path, "pt") as file:
            return sorted(file.keys())
    except (OSError, SafetensorError):
        return []
