"""`hf://owner/repo/path`: files of the Hugging Face hub, from its cache where they are there."""

from pathlib import Path

from semseg_cli.errors import SemsegError, UsageError
from semseg_cli.models.sae import dictionary_learning, saelens, saev, sparsify

PREFIX = "hf://"
FOLDER_FILES = (
    saev.FILE,
    saelens.CONFIG,
    saelens.WEIGHTS_FILE,
    saelens.SPARSITY_FILE,
    dictionary_learning.CONFIG,
    dictionary_learning.WEIGHTS_FILE,
    sparsify.WEIGHTS_FILE,
    "sae.json",
    "weights.pt",
)
"""What is fetched of a folder: repositories often hold many autoencoders, and more."""


def fetch(path: str) -> Path:
    """A local path for one that may be on the hub; `HF_HUB_OFFLINE` and the cache are respected.

    Raises:
        UsageError: a hub path that names no repository.
        SemsegError: it cannot be fetched and is not in the cache.
    """
    if not path.startswith(PREFIX):
        return Path(path).expanduser()
    owner, _, rest = path.removeprefix(PREFIX).partition("/")
    name, _, inside = rest.partition("/")
    repository, _, revision = name.partition("@")
    if not owner or not repository:
        raise UsageError(
            f"{path} names no repository: give hf://owner/repo/file or a folder in it."
        )
    inside = inside.strip("/")
    found = _snapshot(path, f"{owner}/{repository}", revision or None, inside) / inside
    if not found.exists():
        raise SemsegError(
            f"{path} is neither in the cache nor on the hub under that name: check --sae-ckpt, and "
            "HF_HUB_OFFLINE."
        )
    return found


def _snapshot(path: str, repository: str, revision: str | None, inside: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(repository, revision=revision, allow_patterns=_patterns(inside))
        )
    except (
        Exception
    ) as error:  # the hub client, its HTTP library and the file system have their own
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SemsegError(
            f"{path} cannot be fetched ({first}): check the name, the network and HF_HUB_OFFLINE, "
            "or give a local path."
        ) from error


def _patterns(inside: str) -> list[str]:
    """The file itself with the JSON files beside it, or the known files of a folder."""
    if Path(inside).suffix in (".pt", ".pth", ".safetensors"):
        folder = str(Path(inside).parent)
        beside = "" if folder == "." else f"{folder}/"
        return [inside, *(f"{beside}{name}" for name in FOLDER_FILES if name.endswith(".json"))]
    return [f"{inside}/{name}" if inside else name for name in FOLDER_FILES]
