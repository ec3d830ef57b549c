"""Statistics of an autoencoder as numbers and files: read, checked, written."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save as to_safetensors
from torch import Tensor

from semseg_cli.errors import FileError, SemsegError
from semseg_cli.files import expanded, write_atomic
from semseg_cli.models.named_files import EXPECTED_STATISTIC as EXPECTED
from semseg_cli.models.named_files import (
    EXPECTED_STATISTICS,
    STATISTICS,
    no_statistic,
    no_statistics,
)
from semseg_cli.models.sae import SparseAutoencoder
from semseg_cli.models.sae.saelens import frequencies
from semseg_cli.models.weight_files import (
    bad_place,
    read_metadata,
    read_safetensors,
    read_torch,
    whole,
)
from semseg_cli.readers import open_file, read_json, unreadable

CHECKSUM, PLACE = "checksum", "place"
NAMES = STATISTICS


@dataclass(frozen=True)
class SaeStats:
    """Input mean [d] and norm, and per latent the firing frequency [S] (share of patches) and the
    maximum activation [S]."""

    act_mean: Float[Tensor, " d"]
    act_norm: float
    sparsity: Float[Tensor, " s"]
    top_values: Float[Tensor, " s"]

    def to_tensors(self) -> dict[str, Tensor]:
        """The four statistics by name, in float32."""
        act_norm = torch.tensor(self.act_norm, dtype=torch.float32)
        return {
            "act_mean": self.act_mean.float().cpu().contiguous(),
            "act_norm": act_norm,
            "sparsity": self.sparsity.float().cpu().contiguous(),
            "top_values": self.top_values.float().cpu().contiguous(),
        }


def stats_bytes(stats: SaeStats, layer: int, site: str) -> bytes:
    """The statistics as a safetensors file that says where in the ViT they are of."""
    # One entry: safetensors writes several in any order, and equal files should be equal.
    return to_safetensors(stats.to_tensors(), {PLACE: f"{site} {layer}"})


def place_in(source: float | str | None) -> tuple[int, str] | None:
    """The layer and site that a file of statistics says; None where it says none."""
    path = expanded(str(source))
    if source is None or path.suffix != ".safetensors":
        return None
    try:
        site, layer = read_metadata(path)[PLACE].split()
        return int(layer), site
    except (FileError, KeyError, ValueError):
        return None


def save_stats(path: Path, stats: SaeStats, identity: str = "") -> None:
    """Writes the statistics as one safetensors file, atomically, with a checksum.

    `identity` says whose statistics they are: a file in the place of another is not taken for it.

    Raises:
        SemsegError: it cannot be written.
    """
    tensors = stats.to_tensors()
    data = to_safetensors(tensors, {CHECKSUM: digest_of(tensors, identity)})
    write_atomic(path, data, "--cache-dir")


def read_stats(path: Path, identity: str) -> dict[str, Tensor]:
    """The statistics that `save_stats` wrote for this identity.

    Raises:
        FileError: the file is damaged, or of another identity.
    """
    tensors = read_safetensors(path)
    if read_metadata(path).get(CHECKSUM) != digest_of(tensors, identity):
        raise FileError(f"{path} is damaged (its checksum is another).")
    return tensors


def load_stat(name: str, source: float | str) -> Tensor:
    """One statistic from a number or a file: safetensors or JSON with that key, or a .pt tensor.

    Raises:
        FileError: the file is missing, unreadable, damaged, or has no such entry.
    """
    try:
        value = torch.tensor(float(source))
    except ValueError:
        value = _read_file(name, expanded(str(source)))
    if place := bad_place(value):
        raise FileError(
            f"The statistic {name} in {source} holds NaN or infinite values ({place}): make it "
            "anew with `semseg-cli stats`, or leave it out."
        )
    return value


def statistics_in(path: Path) -> list[str]:
    """Which of the statistics a file holds.

    Raises:
        FileError: it is missing or unreadable, or holds none of them.
    """
    try:
        found = _contents(path, EXPECTED_STATISTICS)
    except FileError as error:
        raise no_statistics(error) from error
    held = [name for name in NAMES if isinstance(found, dict) and name in found]
    if not held:
        raise FileError(
            f"--stats: {path} has none of {', '.join(NAMES)}: give a .safetensors or .json file "
            "with some of them, or name single ones (--act-mean, ...)."
        )
    return held


def _contents(path: Path, expected: str) -> Any:
    open_file(path, str(path), expected).close()
    if path.suffix == ".json":
        return _read_json(path, expected)
    return _read_safetensors(path) if path.suffix == ".safetensors" else read_torch(path)


def _read_file(name: str, path: Path) -> Tensor:
    try:
        value = _contents(path, EXPECTED)
        value = value[name] if isinstance(value, dict) else value
        tensor = torch.as_tensor(value)
        return whole(path, {name: tensor})[name].float()
    except KeyError as error:
        raise no_statistic(name, f"{path} has no such entry: {EXPECTED}.") from error
    except FileError as error:
        raise no_statistic(name, error) from error
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise no_statistic(name, f"{path} holds no numbers ({reason}): {EXPECTED}.") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    tensors = read_safetensors(path)
    told = read_metadata(path).get(CHECKSUM)
    if told and set(tensors) == set(NAMES) and told != digest_of(tensors):
        raise FileError(
            f"{path} is damaged (its checksum is another): make it anew with `semseg-cli stats`."
        )
    return tensors


def _read_json(path: Path, expected: str) -> dict[str, Any]:
    value = read_json(path, str(path), expected)
    if not isinstance(value, dict):
        raise unreadable(str(path), "it holds no object", expected)
    return value


def check_stats(given: dict[str, Tensor], d_model: int, d_sae: int) -> dict[str, Tensor]:
    """The given statistics in their shapes.

    Top values are reduced to their maximum, firing frequencies below 0 are SAELens' logarithms, a
    mean of 0 holds for every dimension.

    Raises:
        SemsegError: one has the wrong length, or the norm is not positive.
    """
    given = dict(given)
    if "top_values" in given and given["top_values"].ndim > 1:
        given["top_values"] = given["top_values"].flatten(1).amax(dim=1)
    if "sparsity" in given and bool((given["sparsity"] < 0).any()):
        given["sparsity"] = frequencies(given["sparsity"])
    if "act_mean" in given and given["act_mean"].ndim == 0 and not given["act_mean"]:
        given["act_mean"] = torch.zeros(d_model)
    if "act_norm" in given and (given["act_norm"].numel() != 1 or float(given["act_norm"]) <= 0):
        raise SemsegError("The statistic act_norm must be one number above 0: check --act-norm.")
    for name, length in (("act_mean", d_model), ("sparsity", d_sae), ("top_values", d_sae)):
        if name in given and tuple(given[name].shape) != (length,):
            raise SemsegError(
                f"The statistic {name} has shape {tuple(given[name].shape)}, expected ({length},): "
                f"check --{name.replace('_', '-')} against the SAE."
            )
    return given


def digest_of(given: dict[str, Tensor], identity: str = "") -> str:
    """A digest of the statistics that are given, and of whose they are."""
    digest = hashlib.blake2b(identity.encode(), digest_size=16)
    for name in sorted(given):
        value = given[name].detach().cpu()
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def own_scaling(given: dict[str, Tensor], sae: SparseAutoencoder) -> dict[str, Tensor]:
    """The given statistics, with no input scaling where the autoencoder's format has its own."""
    if sae.needs_scaling or sae.is_scaled_by_data:
        return dict(given)
    return {"act_mean": torch.zeros(sae.d_model), "act_norm": torch.tensor(1.0), **given}


def from_tensors(tensors: dict[str, Tensor]) -> SaeStats:
    """The statistics from their four tensors by name."""
    return SaeStats(
        tensors["act_mean"],
        float(tensors["act_norm"]),
        tensors["sparsity"],
        tensors["top_values"],
    )
