"""Statistics of an autoencoder on a dataset: input mean and norm, firing frequency, maxima."""

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float64
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor

from semseg_cli.errors import SemsegError
from semseg_cli.files import cannot_write, make_folder
from semseg_cli.models.residuals import Residuals
from semseg_cli.models.sae import SparseAutoencoder
from semseg_cli.models.sae.scaling import norm_of, norm_terms
from semseg_cli.models.sae.statistics import (
    NAMES,
    SaeStats,
    check_stats,
    from_tensors,
    own_scaling,
    read_stats,
    save_stats,
)
from semseg_cli.models.vit import Backbone
from semseg_cli.progress import Progress, silent
from semseg_cli.ranks.collectives import all_max, all_sum
from semseg_cli.ranks.group import from_lead, is_lead

log = logging.getLogger("semseg_cli")
CHUNK_ROWS = 65536  # residuals read back at once


def cached_stats(
    given: dict[str, Tensor],
    sae: SparseAutoencoder,
    open_residuals: Callable[[], Residuals],
    cache_dir: Path,
    progress: Progress = silent,
    named: Collection[str] = (),
) -> SaeStats:
    """The given statistics, completed by computed ones; those are cached by content.

    The images are opened only if something is missing. `named` are those of the given ones that the
    user named: only they are told as given.
    """
    given = own_scaling(given, sae)
    if all(name in given for name in NAMES):
        return from_tensors(given)
    residuals = open_residuals()
    vit, dataset = residuals.vit, residuals.loader.dataset
    key = hashlib.blake2b(digest_size=16)
    of_vit = (vit.digest, residuals.layer, residuals.site, vit.dtype, vit.preprocessing)
    key.update(repr((*of_vit, sae.digest, dataset.digest)).encode())
    for name in sorted(given):
        key.update(name.encode() + given[name].numpy().tobytes())
    identity = key.hexdigest()
    path = cache_dir / "stats" / f"{identity}.safetensors"
    if known := from_lead("kept statistics", lambda: _known(path, identity, sae)):
        return from_tensors(from_safetensors(known))
    if named:
        log.info(
            "Of the statistics %s are given; %s are computed, once, on the %d %s images.",
            ", ".join(named), ", ".join(name for name in NAMES if name not in given),
            *(len(dataset), dataset.split),
        )  # fmt: skip
    stats = compute_stats(residuals, sae, given, cache_dir, progress)
    if is_lead():
        save_stats(path, stats, identity)
    return stats


def _known(path: Path, identity: str, sae: SparseAutoencoder) -> bytes:
    """The cached statistics; nothing where there are none."""
    if path.exists():
        try:
            return to_safetensors(check_stats(read_stats(path, identity), sae.d_model, sae.d_sae))
        except SemsegError as error:
            log.warning("The statistics in %s are computed anew: %s", path, error)
            with suppress(OSError):
                path.unlink(missing_ok=True)
    make_folder(path.parent, "--cache-dir")  # before anything is computed
    return b""


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error, "--cache-dir") from error


def compute_stats(
    residuals: Residuals,
    sae: SparseAutoencoder,
    given: dict[str, Tensor] | None = None,
    scratch: Path | None = None,
    progress: Progress = silent,
) -> SaeStats:
    """All four statistics over every patch of the residuals' images; given ones are kept.

    `act_norm` is the mean L2 norm of x - mean (or the root of the mean square, as the autoencoder
    was trained), divided by sqrt(d). It needs the mean first and the
    frequencies need both. The ViT runs once: where no cache keeps the residuals, a temporary file
    does.
    """
    given = own_scaling(given or {}, sae)
    is_once = "act_mean" in given and "act_norm" in given
    with _patches(residuals, scratch, progress, keep=not is_once) as chunks:
        if "act_mean" not in given:
            given["act_mean"] = _mean(chunks(), residuals.vit).float()
        if "act_norm" not in given:
            given["act_norm"] = _norm(chunks(), given["act_mean"], sae.norm_kind)
        device = sae.W_enc.device
        sae.scaled(given["act_mean"].to(device), float(given["act_norm"]))
        if not ("sparsity" in given and "top_values" in given):
            frequency, maximum = _firing(chunks(), sae)
            given.setdefault("sparsity", frequency)
            given.setdefault("top_values", maximum)
    return from_tensors(given)


Chunks = Iterator[Float[Tensor, "n d"]]


@contextmanager
def _patches(
    residuals: Residuals, scratch: Path | None, progress: Progress, *, keep: bool
) -> Iterator[Callable[[], Chunks]]:
    """A function that yields the patch residuals [n, d] in chunks, as often as it is called."""
    vit, n_images = residuals.vit, len(residuals.loader.positions)

    def compute() -> Chunks:
        advance = progress("statistics", n_images)
        for batch, tokens_bnd in residuals:
            yield vit.patches(tokens_bnd).reshape(-1, vit.d_model).float()
            advance(len(batch))

    if not keep or residuals.is_kept:
        yield compute
        return
    n_rows = n_images * vit.n_patches_per_img
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    folder = scratch or Path(tempfile.gettempdir())
    check_space(folder, n_rows * vit.d_model * 4)
    with _writing(folder), tempfile.TemporaryFile(dir=folder) as file:
        for rows in compute():
            file.write(rows.cpu().numpy().tobytes())

        def again() -> Chunks:
            advance = progress("statistics, once more", n_rows, "patches")
            file.seek(0)
            while data := file.read(CHUNK_ROWS * vit.d_model * 4):
                rows = np.frombuffer(bytearray(data), np.float32).reshape(-1, vit.d_model)
                yield torch.from_numpy(rows).to(vit.device)
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


def _mean(chunks: Chunks, vit: Backbone) -> Float64[Tensor, " d"]:
    total = torch.zeros(vit.d_model, dtype=torch.float64)
    n_rows = torch.zeros((), dtype=torch.int64)
    for rows in chunks:
        total += rows.double().sum(dim=0).cpu()
        n_rows += len(rows)
    all_sum(total, n_rows)
    return total / n_rows


def _norm(chunks: Chunks, act_mean: Tensor, kind: str) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    n_rows = torch.zeros((), dtype=torch.int64)
    for rows in chunks:
        total += norm_terms(rows - act_mean.to(rows), kind).sum().cpu()
        n_rows += len(rows)
    all_sum(total, n_rows)
    return norm_of(total / n_rows, kind, len(act_mean))


@torch.inference_mode()
def _firing(chunks: Chunks, sae: SparseAutoencoder) -> tuple[Tensor, Tensor]:
    """Share of patches on which each latent is active (f > 0), and its maximum (0 if none)."""
    n_active = torch.zeros(sae.d_sae, dtype=torch.int64, device=sae.W_enc.device)
    maximum = torch.zeros(sae.d_sae, device=sae.W_enc.device)
    n_rows = torch.zeros((), dtype=torch.int64)
    for rows in chunks:
        for part in rows.split(sae.chunk_rows):
            f = sae.encode(sae.scale(part))
            n_active += (f > 0).sum(dim=0)
            maximum = torch.maximum(maximum, f.amax(dim=0))
        n_rows += len(rows)
    all_sum(n_active, n_rows)
    all_max(maximum)
    return (n_active.double() / n_rows).float().cpu(), maximum.cpu()
