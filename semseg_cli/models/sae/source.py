"""What an SAE is stored in, a file or a folder, and reading tensors and JSON without unpickling."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from semseg_cli.errors import FileError, SemsegError
from semseg_cli.models.named_files import require_sae
from semseg_cli.models.torch_files import BadPickle, read_torch_file
from semseg_cli.models.weight_files import (
    as_weights,
    first_byte,
    read_config,
    read_torch,
    safetensors_keys,
)
from semseg_cli.readers import open_file, unreadable

TORCH_FILES = (".pt", ".pth", ".bin")
WEIGHT_FILES = (*TORCH_FILES, ".safetensors")
CONFIG_FILES = (".json", ".yaml", ".yml")


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
            with open_file(path, str(path), "") as file:
                return read_torch_file(file, numbers=False)
        except (BadPickle, FileError, OSError):
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
    file = f"The SAE file {path}"
    try:
        if path.is_dir():
            names = frozenset(child.name for child in path.iterdir() if not child.is_dir())
            return Source(path, path, names)
        require_sae(path)
        beside = {c.name for c in path.parent.iterdir() if c.suffix in CONFIG_FILES}
    except OSError as error:
        raise unreadable(file, error.strerror, "check --sae-ckpt") from error
    return Source(path, path.parent, frozenset({path.name, *beside}))


def listed(names: Any) -> str:
    """Names for a message, without control characters; a long list is cut."""
    names = sorted("".join(c if c.isprintable() else "?" for c in str(name)[:80]) for name in names)
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "") or "nothing"


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
    return [as_weights(path, name, state[name]) for name in names]


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
