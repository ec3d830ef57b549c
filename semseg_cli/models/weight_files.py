"""Files read without unpickling: tensors of safetensors and PyTorch, settings of JSON and YAML."""

import io
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from semseg_cli.errors import FileError, SemsegError
from semseg_cli.models.torch_files import BadPickle, Name, Record, is_small, read_torch_file
from semseg_cli.readers import (
    open_file,
    parse_json,
    read_bytes,
    read_json,
    text_of,
    unreadable,
)

HEADER = "the file is of another format or cut"
CONFIG = "the file is bad or cut"
MOST_YAML = 2**20  # bytes of a config


def first_byte(path: Path) -> bytes:
    """The first byte of a file; none where it cannot be read."""
    try:
        with open_file(path, str(path), "") as file:
            return file.read(1)
    except (FileError, OSError):
        return b""


def read_header(path: Path, data: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON object in the first line of a file, and the bytes after that line."""
    line, _, rest = data.partition(b"\n")
    header = parse_json(line, f"The first line of {path}", HEADER, is_strict=False)
    if not isinstance(header, dict):
        raise unreadable(f"The first line of {path}", "it is no JSON object", HEADER)
    return header, rest


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file of another program, which may hold NaN and odd numbers."""
    value = read_json(path, str(path), CONFIG, is_strict=False)
    if not isinstance(value, dict):
        raise unreadable(str(path), "it is no JSON object", CONFIG)
    return value


def read_config(path: Path) -> dict[str, Any]:
    """The object in a JSON or YAML file; of YAML, plain values only."""
    if path.suffix == ".json":
        return read_object(path)
    import yaml

    text = text_of(read_bytes(path, str(path), CONFIG, MOST_YAML), str(path), CONFIG)
    try:
        value = yaml.safe_load(text)
    except (ValueError, TypeError, yaml.YAMLError, RecursionError) as error:
        raise unreadable(str(path), "it is no YAML, or cut", CONFIG) from error
    if not isinstance(value, dict) or not is_small(value):
        raise unreadable(str(path), "it is no YAML mapping, or too large a one", CONFIG)
    return value


def read_torch(path: Path, data: bytes | None = None) -> Any:
    """What a PyTorch file holds: tensors, plain values, and `Record`s of other objects.

    Args:
        path: the file, also for messages.
        data: its bytes, where they are not all of the file.

    Raises:
        FileError: the file is cut, damaged, or no PyTorch file.
    """
    try:
        with open_file(path, str(path), "") if data is None else io.BytesIO(data) as file:
            return read_torch_file(file)
    except BadPickle as error:
        raise FileError(
            f"{path} holds no readable tensors ({error}): it is cut, or no PyTorch file."
        ) from error
    except OSError as error:
        raise unreadable(str(path), error.strerror or error, "expected tensors") from error


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
    return whole(path, found)


def read_state(path: Path, data: bytes | None = None) -> dict[str, Tensor]:
    """The state dict in a PyTorch file."""
    return as_state(path, read_torch(path, data))


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file."""
    open_file(path, str(path), "expected a safetensors file").close()
    try:
        return whole(path, load_file(path))
    except (OSError, SafetensorError, ValueError, RuntimeError, KeyError) as error:
        raise FileError(
            f"{path} holds no readable tensors ({error}): it is cut, or no safetensors file."
        ) from error


def safetensors_keys(path: Path) -> list[str]:
    """The names of the tensors in a safetensors file; none where it is bad."""
    try:
        open_file(path, str(path), "").close()
        with safe_open(path, "pt") as file:
            return sorted(file.keys())
    except (FileError, OSError, SafetensorError):
        return []


def read_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says beside its tensors.

    Raises:
        FileError: it cannot be read, or is no safetensors file.
    """
    open_file(path, str(path), "expected a safetensors file").close()
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise FileError(f"{path} is cut, or no safetensors file ({error}).") from error


def whole(path: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same state, all of it plain tensors.

    Raises:
        FileError: a tensor is sparse, quantised, nested, complex or without numbers.
    """
    for name, tensor in state.items():
        if reason := _odd(tensor):
            raise FileError(f"{path}: {name} is {reason}, expected a plain tensor of numbers.")
    return state


def _odd(tensor: Tensor) -> str:
    """What keeps a tensor from being plain numbers; nothing where it is."""
    kinds = {
        "nested": tensor.is_nested,
        "sparse": tensor.layout != torch.strided,
        "quantised": tensor.is_quantized,
        "without numbers (on the meta device)": tensor.is_meta,
        "complex": tensor.is_complex(),
    }
    return next((kind for kind, is_so in kinds.items() if is_so), "")


def as_weights(path: Path, name: str, tensor: Tensor) -> Tensor:
    """A tensor of weights in float32, all of them finite.

    Raises:
        FileError: it holds whole numbers or truth values, or NaN or infinite ones; the sentence
            names it, and the place.
    """
    if not tensor.is_floating_point() and tensor.numel() > 1:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise FileError(f"{path}: {name} holds {kind} numbers, expected floating-point weights.")
    numbers = tensor.float()
    if place := bad_place(numbers):
        raise FileError(f"{path}: {name} holds NaN or infinite weights ({place}): the file is bad.")
    return numbers


def bad_place(tensor: Tensor) -> str:
    """Where a tensor is first not finite, and how often; nothing where it is finite."""
    bad = ~torch.isfinite(tensor)
    n_bad = int(bad.sum())
    if not n_bad:
        return ""
    first = int(bad.reshape(-1).int().argmax())
    place = [int(i) for i in torch.unravel_index(torch.tensor(first), tensor.shape)]
    return f"{n_bad} of {tensor.numel()}, the first at {place}"
