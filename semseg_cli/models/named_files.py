"""Whether the files that settings name are there, before torch loads: each read begins with this.

What is in them is found out by who reads them.
"""

import re
from pathlib import Path

from semseg_cli.errors import FileError, SemsegError
from semseg_cli.files import expanded
from semseg_cli.readers import open_file

ON_THE_HUB = "hf://"
CONFIG, OPEN_CLIP_CONFIG, ADAPTER = "config.json", "open_clip_config.json", "adapter_config.json"
OUTSIDE = ("/", "./", "../", "~")  # the beginning of a path, which no name of a hub has
VIT_FILES = (".json", ".safetensors", ".bin")
STATISTICS = ("act_mean", "act_norm", "sparsity", "top_values")
EXPECTED_STATISTIC = (
    "give a .safetensors or .json file with that entry, a .pt tensor, or a number for a scalar"
)
EXPECTED_STATISTICS = (
    "give a .safetensors or .json file of statistics, or a run folder that has one; or name "
    "single ones (--act-mean, ...)"
)


def require_sae(path: Path) -> None:
    """Refuses an SAE that is neither a folder nor a readable file.

    Raises:
        FileError: it is not.
    """
    if not path.is_dir():
        open_file(path, f"The SAE file {path}", "check --sae-ckpt").close()


def head_file(path: Path) -> Path:
    """The file of a head: of a folder, its `*_step{n}.pt` with the largest n.

    Raises:
        SemsegError: the folder has none, or cannot be read.
    """
    if not path.is_dir():
        return path
    try:
        found = [(re.search(r"_step(\d+)\.pt$", p.name), p) for p in path.iterdir()]
    except OSError as error:
        raise SemsegError(
            f"The folder {path} cannot be read ({error.strerror}): check --seg-ckpt."
        ) from error
    steps = {int(match[1]): p for match, p in found if match}
    if not steps:
        raise SemsegError(f"The folder {path} holds no *_step<n>.pt file: check --seg-ckpt.")
    return steps[max(steps)]


def require_head(path: Path) -> Path:
    """The file of a head, which can be opened.

    Raises:
        SemsegError: there is none.
    """
    path = head_file(path)
    open_file(path, f"The head {path}", "check --seg-ckpt").close()
    return path


def vit_folder(name: str, ckpt: str) -> Path | None:
    """The folder that a ViT's name stands for, None where it is one of the hub's; `ckpt` is what
    the user wrote.

    Raises:
        SemsegError: it is a path at which there is no folder of a model.
    """
    local = expanded(name)
    if local.is_dir():
        _check_vit(local)
        return local
    if local.exists() or name.startswith(OUTSIDE):
        raise SemsegError(
            f"The ViT folder {ckpt} does not exist or is no folder: check --vit-ckpt."
        )
    return None


def _check_vit(folder: Path) -> None:
    """Refuses a folder that has no config, a file that cannot be read, or an adapter."""
    names = {path.name for path in folder.iterdir()}
    if not names & {CONFIG, OPEN_CLIP_CONFIG}:
        raise SemsegError(
            f"The ViT folder {folder} has no config.json: give a folder in the Hugging Face "
            "layout (config.json, model.safetensors)."
        )
    if ADAPTER in names:
        raise SemsegError(
            f"The ViT folder {folder} holds an adapter ({ADAPTER}), which not every machine would "
            "apply: merge it into the weights (peft's merge_and_unload) and give the result."
        )
    for name in sorted(name for name in names if name.endswith(VIT_FILES)):
        open_file(folder / name, f"The ViT file {folder / name}", "check --vit-ckpt").close()


def require_statistics(path: Path, name: str | None = None) -> None:
    """Refuses a file of statistics that cannot be opened; with a name, of that statistic.

    Raises:
        FileError: it cannot.
    """
    expected = EXPECTED_STATISTICS if name is None else EXPECTED_STATISTIC
    try:
        open_file(path, str(path), expected).close()
    except FileError as error:
        raise (no_statistics(error) if name is None else no_statistic(name, error)) from error


def no_statistics(why: object) -> FileError:
    """The sentence for a file of several statistics that cannot be read."""
    return FileError(f"--stats: {why}")


def no_statistic(name: str, why: object) -> FileError:
    """The sentence for a statistic that cannot be read."""
    return FileError(f"The statistic {name} cannot be read: {why}")
