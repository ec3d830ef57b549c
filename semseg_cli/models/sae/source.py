"""What an SAE is stored in, a file or a folder, and reading tensors and JSON without unpickling."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from semseg_cli.errors import SemsegError
from semseg_cli.models.torch_files import BadPickle, Name, Record, is_small, read_torch_file

TORCH_FILES = (".pt", ".pth", ".bin")
WEIGHT_FILES = (*TORCH_FILES, ".safetensors")
CONFIG_FILES = (".json", ".yaml", ".yml")
MOST_YAML = 2**20  # bytes of a config


@dataclass(frozen=True)
class Source:
    """The files of one SAE: a folder's, or a weights file with the configs beside it."""

    path: Path
    folder: Path
    names: frozenset[str]

    def file(self, name: str) -> Path:
        """The path of a file that the format cannot do without."""
        if name not in self.names:
            raise SemsegError(
                f"The SAE {self.path} lacks {name}; it has {listed(self.names)}: check --sae-ckpt "
                "and --sae-format."
            )
        return self.folder / name

    def matching(self, *suffixes: str) -> list[str]:
        """The names that end so, sorted."""
        return sorted(name for name in self.names if name.endswith(suffixes))

    def torch_file(self) -> Path | None:
        """The PyTorch file, where there is one: the path, or the only one in the folder."""
        if self.path != self.folder:
            return self.path if self.path.suffix in TORCH_FILES else None
        found = self.matching(*TORCH_FILES)
        return self.folder / found[0] if len(found) == 1 else None

    def peek(self) -> Any:
        """What the PyTorch file holds, without numbers; None where there is none to be read."""
        path = self.torch_file()
        if path is None or first_byte(path) == b"{":
            return None
        try:
            with path.open("rb") as file:
                return read_torch_file(file, numbers=False)
        except (BadPickle, OSError):
            return None

    def config(self) -> dict[str, Any]:
        """The one config, JSON or YAML, that lies beside the weights; empty where there is none."""
        names = self.matching(*CONFIG_FILES)
        own = [name for name in names if self.path.stem == Path(name).stem]
        found = own or names
        return read_config(self.folder / found[0]) if len(found) == 1 else {}

    def only(self, *suffixes: str) -> str:
        """The one name that ends so."""
        found = self.matching(*suffixes)
        if len(found) != 1:
            raise SemsegError(
                f"The SAE {self.path} needs one file {' or '.join(suffixes)}, it has "
                f"{listed(found)}: check --sae-ckpt and --sae-format."
            )
        return found[0]


def open_source(path: Path) -> Source:
    """What is at a path.

    Raises:
        SemsegError: nothing readable is there.
    """
    try:
        if path.is_dir():
            names = frozenset(child.name for child in path.iterdir() if child.is_file())
            return Source(path, path, names)
        with path.open("rb"):
            beside = {c.name for c in path.parent.iterdir() if c.suffix in CONFIG_FILES}
            return Source(path, path.parent, frozenset({path.name, *beside}))
    except OSError as error:
        raise SemsegError(
            f"The SAE file {path} cannot be read ({error.strerror}): check --sae-ckpt."
        ) from error


def first_byte(path: Path) -> bytes:
    """The first byte of a file; none where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(1)
    except OSError:
        return b""


def listed(names: Any) -> str:
    """Names for a message, without control characters; a long list is cut."""
    names = sorted("".join(c if c.isprintable() else "?" for c in str(name)[:80]) for name in names)
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "") or "nothing"


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


def take(path: Path, state: dict[str, Tensor], names: Sequence[str]) -> list[Tensor]:
    """The named tensors in float32.

    Raises:
        SemsegError: one is missing; the message lists those found.
    """
    missing = [name for name in names if name not in state]
    if missing:
        raise SemsegError(
            f"The SAE file {path} lacks {', '.join(missing)}; it holds {listed(state)}."
        )
    return [state[name].float() for name in names]


def keys_found(source: Source) -> str:
    """What the files of an unknown format hold, for its error message."""
    found = []
    for name in sorted(source.names):
        path = source.folder / name
        try:
            if name.endswith(".safetensors"):
                keys: Any = safetensors_keys(path)
            elif name.endswith(CONFIG_FILES):
                keys = read_config(path)
            elif name.endswith(WEIGHT_FILES):
                keys = read_torch(path)
            else:
                keys = None
        except SemsegError:
            keys = None
        known = isinstance(keys, dict | list) and keys
        found.append(f"{name} ({listed(map(str, keys))})" if known else name)
    return "; ".join(found) or "nothing"
