"""`hf://owner/repo/path`: files of the Hugging Face hub, from its cache where they are there."""

import posixpath
from collections.abc import Sequence
from pathlib import Path

from semseg_cli.errors import SemsegError, UsageError
from semseg_cli.files import expanded
from semseg_cli.models.named_files import ON_THE_HUB

WEIGHT_SUFFIXES = (".pt", ".pth", ".safetensors")
CONFIG_SUFFIXES = (".json", ".yaml", ".yml")


def fetch(path: str, files: Sequence[str]) -> Path:
    """A local path for one that may be on the hub; `HF_HUB_OFFLINE` and the cache are respected.

    Args:
        path: local, or `hf://owner/repo/path`.
        files: what is fetched of a folder, as paths in it; of a file, the configs among them.

    Raises:
        UsageError: a hub path that names no repository.
        SemsegError: it cannot be fetched and is not in the cache.
    """
    if not path.startswith(ON_THE_HUB):
        return expanded(path)
    owner, _, rest = path.removeprefix(ON_THE_HUB).partition("/")
    name, _, inside = rest.partition("/")
    repository, _, revision = name.partition("@")
    if not owner or not repository:
        raise UsageError(
            f"{path} names no repository: give hf://owner/repo/file or a folder in it."
        )
    inside = inside.strip("/")
    patterns = _patterns(inside, files)
    found = _snapshot(path, f"{owner}/{repository}", revision or None, patterns) / inside
    if not found.exists():
        raise SemsegError(
            f"{path} is neither in the cache nor on the hub under that name: check --sae-ckpt, and "
            "HF_HUB_OFFLINE."
        )
    return found


def _snapshot(path: str, repository: str, revision: str | None, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except (
        Exception
    ) as error:  # the hub client, its HTTP library and the file system have their own
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SemsegError(
            f"{path} cannot be fetched ({first}): check the name, the network and HF_HUB_OFFLINE, "
            "or give a local path."
        ) from error


def _patterns(inside: str, files: Sequence[str]) -> list[str]:
    """The file itself with the configs beside it, or the known files of a folder."""
    if Path(inside).suffix in WEIGHT_SUFFIXES:
        folder = posixpath.dirname(inside)
        configs = [name for name in files if name.endswith(CONFIG_SUFFIXES)]
        return [inside, *_joined(folder, configs)]
    return _joined(inside, files)


def _joined(folder: str, names: Sequence[str]) -> list[str]:
    """The names as paths in the repository; those above its root are left out."""
    paths = [posixpath.normpath(posixpath.join(folder, name)) for name in names]
    return [path for path in paths if not path.startswith("..")]
