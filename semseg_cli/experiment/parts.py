"""The parts that settings name, each loaded and checked; put together in one place."""

import logging
from collections.abc import Callable
from dataclasses import replace

import torch

from semseg_cli.data.loader import Loader
from semseg_cli.engine.sae_statistics import cached_stats
from semseg_cli.errors import SemsegError
from semseg_cli.experiment.named_inputs import MEASURED
from semseg_cli.experiment.place import find_place, stat_sources
from semseg_cli.files import cache_folder
from semseg_cli.models import sae as saes
from semseg_cli.models.cache_folders import residuals_folder
from semseg_cli.models.head import SegmentationHead, load_head
from semseg_cli.models.head_download import fetch_head, is_address
from semseg_cli.models.memory_budget import make_budget
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.models.residual_cache import ResidualCache
from semseg_cli.models.sae import SparseAutoencoder
from semseg_cli.models.sae.statistics import check_stats, load_stat, own_scaling
from semseg_cli.models.vit import Backbone, load_vit
from semseg_cli.progress import Progress, silent, stage
from semseg_cli.ranks import group as ranks
from semseg_cli.settings.inputs import Setup, TrainSetup

log = logging.getLogger("semseg_cli")


def find_device(name: str) -> torch.device:
    """The device to use.

    Raises:
        SemsegError: CUDA is asked for and absent.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise SemsegError(
            "CUDA is not available: check the driver and that torch is a CUDA build, or use "
            "--device cpu."
        )
    if name == "cuda" and ranks.n_ranks() > 1:
        return _own_gpu()
    return torch.device(name)


def _own_gpu() -> torch.device:
    """This rank's GPU, from now on the current one."""
    n_gpus, n_local = torch.cuda.device_count(), ranks.n_local_ranks()
    if n_local > n_gpus:
        raise SemsegError(
            f"This machine has {n_gpus} GPUs for {n_local} ranks: take torchrun --nproc-per-node "
            f"{n_gpus}, or --device cpu."
        )
    device = torch.device("cuda", ranks.local_rank())
    torch.cuda.set_device(device)
    return device


def read_backbone(setup: Setup | TrainSetup, device: torch.device) -> Backbone:
    """The ViT that the settings name, whatever they expect of it."""
    dtype = getattr(torch, setup.dtype)
    with stage(f"Loading the ViT {setup.vit_ckpt}"):
        vit = load_vit(str(setup.vit_ckpt), setup.vit_family, device, dtype, setup.image_hw)
    vit.budget = make_budget(setup.memory_budget, device)
    return vit


def load_backbone(setup: Setup | TrainSetup, device: torch.device) -> Backbone:
    """The ViT that the settings name, checked against what they expect of it."""
    vit = read_backbone(setup, device)
    check_expectations(setup, vit)
    return vit


def check_expectations(setup: Setup | TrainSetup, vit: Backbone) -> None:
    """Refuses a model other than the user said it would be."""
    expected = {
        "n_patches_per_img": (setup.n_patches_per_img, vit.n_patches_per_img),
        "patch_size_px": (setup.patch_size_px, vit.patch_size_px),
        "cls_token": (setup.cls_token, vit.n_prefix_tokens > 0),
    }
    for name, (wanted, found) in expected.items():
        if wanted is not None and wanted != found:
            raise SemsegError(
                f"{name} is {wanted}, the ViT has {found}: correct --{name.replace('_', '-')} or "
                "leave it out."
            )


def read_sae(setup: Setup, device: torch.device) -> SparseAutoencoder:
    """The autoencoder that the settings name; whether it centres its input may be undecided."""
    path, centring = str(setup.sae_ckpt), setup.sae_centre_input
    with stage(f"Loading the SAE {path}"):
        sae = saes.load_undecided(path, device, setup.sae_format, centring)
    sae.budget = make_budget(setup.memory_budget, device)
    return sae


def read_head(setup: Setup, device: torch.device) -> SegmentationHead:
    """The head that the settings name."""
    path = str(setup.seg_ckpt)
    with stage(f"Loading the head {path}"):
        if is_address(path):
            path = str(fetch_head(path, cache_folder(setup.cache_dir)))
        return load_head(path, setup.background).to(device)


def load_stats(setup: Setup, sae: SparseAutoencoder) -> dict[str, torch.Tensor]:
    """The statistics that the settings name, checked against the autoencoder."""
    given = {name: load_stat(name, source) for name, source in stat_sources(setup).items()}
    sae.is_scaled_by_data = MEASURED in (setup.act_mean, setup.act_norm)
    return own_scaling(check_stats(given, sae.d_model, sae.d_sae), sae)


def residual_cache(setup: Setup | TrainSetup) -> ResidualCache | None:
    """Where the settings keep residuals; None if they do not."""
    if setup.no_cache:
        return None
    folder = residuals_folder(cache_folder(setup.cache_dir))
    return ResidualCache(folder, int(setup.cache_limit * 2**30), str(setup.vit_ckpt))


def assemble(
    setup: Setup, vit: Backbone, sae: SparseAutoencoder, head: SegmentationHead | None = None
) -> Pipeline:
    """The parts as one, where the ViT is, with the cache of the settings.

    They are split where these say, else where the autoencoder's files do.

    Raises:
        SemsegError: they do not fit each other, or the autoencoder is of CLS tokens alone.
    """
    place = find_place(setup, sae, vit)
    sae, cache = sae.to(vit.device), residual_cache(setup)
    sae.budget = vit.budget
    head = head.to(vit.device) if head is not None else None
    return Pipeline(vit=vit, layer=place.layer, site=place.site, sae=sae, head=head, cache=cache)


def completed(
    setup: Setup,
    pipeline: Pipeline,
    given: dict[str, torch.Tensor],
    open_loader: Callable[[], Loader],
    progress: Progress = silent,
) -> Pipeline:
    """The pipeline with all statistics, and with the input scaling that they say.

    What is not given is read from the cache, else computed on the loader's images, which are
    opened only then.
    """
    stats = cached_stats(
        given,
        pipeline.sae,
        lambda: pipeline.residuals(open_loader()),
        cache_folder(setup.cache_dir),
        progress,
        list(stat_sources(setup)),
    )
    pipeline.sae.scaled(stats.act_mean, stats.act_norm)
    return replace(pipeline, stats=stats)
