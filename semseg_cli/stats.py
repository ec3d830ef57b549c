"""Statistics of an autoencoder on a dataset: input mean and norm, firing frequency, maxima."""

import hashlib
import json
import pickle
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from semseg_cli.data import Loader
from semseg_cli.errors import SemsegError
from semseg_cli.files import cannot_write, make_folder, write_atomic
from semseg_cli.progress import Progress, silent
from semseg_cli.sae import SparseAutoencoder
from semseg_cli.sae.saelens import frequencies
from semseg_cli.vit import Backbone

CHUNK_ROWS = 65536  # residuals read back at once
NAMES = ("act_mean", "act_norm", "sparsity", "top_values")


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


def save_stats(path: Path, stats: SaeStats) -> None:
    """Writes the statistics as one safetensors file, atomically.

    Raises:
        SemsegError: it cannot be written.
    """
    write_atomic(path, to_safetensors(stats.to_tensors()), "--cache-dir")


def load_stat(name: str, source: float | str) -> Tensor:
    """One statistic from a number or a file: safetensors or JSON with that key, or a .pt tensor.

    Raises:
        SemsegError: the file is missing, unreadable, or has no such entry.
    """
    try:
        value = torch.tensor(float(source))
    except ValueError:
        value = _read_file(name, Path(str(source)).expanduser())
    if not bool(torch.isfinite(value).all()):
        raise SemsegError(f"The statistic {name} in {source} holds NaN or infinite values.")
    return value


def _read_file(name: str, path: Path) -> Tensor:
    try:
        return _READERS.get(path.suffix, _read_pt)(path, name)
    except (
        OSError,
        SafetensorError,
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        KeyError,
        ValueError,
        TypeError,
    ) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise SemsegError(
            f"The statistic {name} cannot be read from {path} ({first}): give a .safetensors or "
            f".json file with the entry {name}, a .pt tensor, or a number for a scalar."
        ) from error


def _read_safetensors(path: Path, name: str) -> Tensor:
    with safe_open(path, "pt") as file:
        return file.get_tensor(name).float()


def _read_json(path: Path, name: str) -> Tensor:
    return torch.tensor(json.loads(path.read_text("utf-8"))[name], dtype=torch.float32)


def _read_pt(path: Path, name: str) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a cut file warns before it fails
        value = torch.load(path, map_location="cpu", weights_only=True)
    value = value[name] if isinstance(value, dict) else value
    return torch.as_tensor(value).float()


_READERS: dict[str, Callable[[Path, str], Tensor]] = {
    ".safetensors": _read_safetensors,
    ".json": _read_json,
}


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


def own_scaling(given: dict[str, Tensor], sae: SparseAutoencoder) -> dict[str, Tensor]:
    """The given statistics, with no input scaling where the autoencoder's format has its own."""
    if sae.needs_scaling:
        return dict(given)
    return {"act_mean": torch.zeros(sae.d_model), "act_norm": torch.tensor(1.0), **given}


def cached_stats(
    given: dict[str, Tensor],
    vit: Backbone,
    layer: int,
    sae: SparseAutoencoder,
    open_loader: Callable[[], Loader],
    cache_dir: Path,
    progress: Progress = silent,
) -> SaeStats:
    """The given statistics, completed by computed ones; those are cached by content.

    The images are opened only if something is missing.
    """
    given = own_scaling(given, sae)
    if all(name in given for name in NAMES):
        return _from_tensors(given)
    loader = open_loader()
    dataset = loader.dataset
    key = hashlib.blake2b(digest_size=16)
    dtype = next(vit.parameters()).dtype
    parts = (vit.digest, layer, dtype, vit.preprocessing, sae.digest, dataset.digest)
    key.update(repr(parts).encode())
    for name in sorted(given):
        key.update(name.encode() + given[name].numpy().tobytes())
    path = cache_dir / "stats" / f"{key.hexdigest()}.safetensors"
    if path.is_file():
        try:
            loaded = {name: load_stat(name, str(path)) for name in NAMES}
            return _from_tensors(check_stats(loaded, sae.d_model, sae.d_sae))
        except SemsegError:
            path.unlink(missing_ok=True)  # a damaged file is as good as none
    make_folder(path.parent, "--cache-dir")  # before anything is computed
    stats = compute_stats(vit, layer, sae, loader, given, cache_dir, progress)
    save_stats(path, stats)
    return stats


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error, "--cache-dir") from error


def _from_tensors(tensors: dict[str, Tensor]) -> SaeStats:
    return SaeStats(
        tensors["act_mean"],
        float(tensors["act_norm"]),
        tensors["sparsity"],
        tensors["top_values"],
    )


def compute_stats(
    vit: Backbone,
    layer: int,
    sae: SparseAutoencoder,
    loader: Loader,
    given: dict[str, Tensor] | None = None,
    scratch: Path | None = None,
    progress: Progress = silent,
) -> SaeStats:
    """All four statistics over every patch of the loader's images; given ones are kept.

    `act_norm` is the mean L2 norm of x - mean, divided by sqrt(d). It needs the mean first and the
    frequencies need both, so residuals are kept in a temporary file where either is missing: the
    ViT runs once.
    """
    given = own_scaling(given or {}, sae)
    with _residuals(vit, layer, loader, scratch, progress, not _has_scaling(given)) as chunks:
        if "act_mean" not in given:
            given["act_mean"] = _mean(chunks()).float()
        if "act_norm" not in given:
            given["act_norm"] = _norm(chunks(), given["act_mean"])
        device = sae.W_enc.device
        sae.scaled(given["act_mean"].to(device), float(given["act_norm"]))
        if not ("sparsity" in given and "top_values" in given):
            frequency, maximum = _firing(chunks(), sae)
            given.setdefault("sparsity", frequency)
            given.setdefault("top_values", maximum)
    return _from_tensors(given)


def _has_scaling(given: dict[str, Tensor]) -> bool:
    return "act_mean" in given and "act_norm" in given


Chunks = Iterator[Float[Tensor, "n d"]]


@contextmanager
def _residuals(
    vit: Backbone, layer: int, loader: Loader, scratch: Path | None, progress: Progress, keep: bool
) -> Iterator[Callable[[], Chunks]]:
    """A function that yields the patch residuals [n, d] in chunks, as often as it is called."""

    def compute() -> Chunks:
        advance = progress("statistics", len(loader.dataset))
        for batch in loader:
            tokens = vit.prefix(batch.images_bchw, layer)
            yield tokens[:, vit.n_prefix_tokens :].reshape(-1, vit.d_model).float()
            advance(len(batch))

    if not keep:
        yield compute
        return
    n_rows = len(loader.dataset) * vit.n_patches_per_img
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    folder = scratch or Path(tempfile.gettempdir())
    check_space(folder, n_rows * vit.d_model * 4)
    with _writing(folder), tempfile.TemporaryFile(dir=folder) as file:
        for rows in compute():
            file.write(rows.cpu().numpy().tobytes())
        device = next(vit.parameters()).device

        def again() -> Chunks:
            advance = progress("statistics, once more", n_rows)
            file.seek(0)
            while data := file.read(CHUNK_ROWS * vit.d_model * 4):
                rows = np.frombuffer(bytearray(data), np.float32).reshape(-1, vit.d_model)
                yield torch.from_numpy(rows).to(device)
                advance(len(rows))

        yield again


def check_space(folder: Path, n_bytes: int) -> None:
    """Refuses to begin writing what the disk cannot hold."""
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise SemsegError(
            f"{folder} has {free / 2**30:.1f} GiB free, {n_bytes / 2**30:.1f} GiB are needed: free "
            "some space, give another --cache-dir, or fewer --lookup-images."
        )


def _mean(chunks: Chunks) -> Float64[Tensor, " d"]:
    total, n_rows = torch.zeros(()), 0
    for rows in chunks:
        total = total + rows.double().sum(dim=0)
        n_rows += len(rows)
    return (total / n_rows).cpu()


def _norm(chunks: Chunks, act_mean: Tensor) -> Tensor:
    total, n_rows = 0.0, 0
    for rows in chunks:
        total += float((rows - act_mean.to(rows)).norm(dim=1).double().sum())
        n_rows += len(rows)
    return torch.tensor(total / n_rows / len(act_mean) ** 0.5)


@torch.inference_mode()
def _firing(chunks: Chunks, sae: SparseAutoencoder) -> tuple[Tensor, Tensor]:
    """Share of patches on which each latent is active (f > 0), and its maximum (0 if none)."""
    n_active = torch.zeros(sae.d_sae, dtype=torch.int64, device=sae.W_enc.device)
    maximum = torch.zeros(sae.d_sae, device=sae.W_enc.device)
    n_rows = 0
    for rows in chunks:
        for part in rows.split(sae.chunk_rows):
            f = sae.encode(sae.scale(part))
            n_active += (f > 0).sum(dim=0)
            maximum = torch.maximum(maximum, f.amax(dim=0))
        n_rows += len(rows)
    return (n_active.double() / n_rows).float().cpu(), maximum.cpu()
