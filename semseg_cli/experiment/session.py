"""From settings to loaded, mutually checked parts: the cheap checks first, the heavy files last."""

import difflib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from semseg_cli import __version__
from semseg_cli.data.dataset import Dataset, Loader, check_layout, open_dataset
from semseg_cli.demo.world import ensure_world, world_folder
from semseg_cli.engine.sae_statistics import cached_stats
from semseg_cli.errors import SemsegError, UsageError
from semseg_cli.files import cache_folder
from semseg_cli.models import sae as saes
from semseg_cli.models.cache_folders import activations_folder
from semseg_cli.models.head import load_head
from semseg_cli.models.memory_budget import make_budget
from semseg_cli.models.pipeline import Encoder, Pipeline
from semseg_cli.models.residual_cache import ActivationCache
from semseg_cli.models.sae import SparseAutoencoder
from semseg_cli.models.sae.statistics import NAMES, check_stats, digest_of, load_stat, own_scaling
from semseg_cli.models.vit import Backbone, load_vit
from semseg_cli.progress import Progress, silent
from semseg_cli.ranks import group as ranks
from semseg_cli.ranks.collectives import try_out
from semseg_cli.settings.inputs import Setup, TrainSetup
from semseg_cli.settings.toml_files import INPUTS

log = logging.getLogger("semseg_cli")
CENTRING_IMAGES = 8


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


@dataclass
class Session:
    """The loaded parts of an experiment. A split is opened when something needs it.

    `encoder` is a whole `Pipeline` where there is a head; choosing by F1 needs none.
    """

    setup: Setup
    encoder: Encoder
    given_stats: dict[str, torch.Tensor]
    progress: Progress = silent

    @property
    def pipeline(self) -> Pipeline:
        """The frozen parts with the head."""
        assert isinstance(self.encoder, Pipeline), "a head is used without being loaded"
        return self.encoder

    @cached_property
    def dataset(self) -> Dataset:
        """The images that interventions are evaluated on."""
        return self._open(self.setup.imgs.split, self.setup.images)

    @cached_property
    def lookup_dataset(self) -> Dataset:
        """The images that statistics and latents come from."""
        return self._open(self.setup.lookup_split, self.setup.lookup_images)

    def _open(self, split: str, n_images: int | None) -> Dataset:
        head = self.encoder.head if isinstance(self.encoder, Pipeline) else None
        n_classes = head.n_classes if head else None
        vit = self.encoder.vit
        dataset = open_split(self.setup, vit, split, n_images, self.progress, n_classes=n_classes)
        if head and len(dataset.class_names) != head.n_classes:
            raise SemsegError(
                f"The head knows {head.n_classes} classes (and null), the dataset "
                f"{len(dataset.class_names)}: check --seg-ckpt against --imgs-root."
            )
        if ranks.is_joined():
            dataset.share_contents()
        return dataset

    def classes_of(self, dataset: Dataset) -> list[int]:
        """The ids of the classes to intervene on: those of the settings, else all.

        Raises:
            UsageError: a class is not in the dataset.
        """
        names = dataset.class_names
        wanted = {find_class(one, names) for one in self.setup.classes}
        return sorted(wanted) or list(range(1, len(names) + 1))

    @property
    def is_missing_stats(self) -> bool:
        """Whether SAE statistics have to be computed, or read from the cache."""
        return not all(name in self.given_stats for name in NAMES)

    def loader(self, dataset: Dataset, n_latents: int = 0) -> Loader:
        """Batches of this rank's images of a dataset, loaded as the settings say.

        `n_latents` latents are held.
        """
        return make_loader(self.setup, dataset, self.encoder.vit, n_latents)

    @torch.inference_mode()
    def decide_centring(self) -> None:
        """Takes the SAE's encoding rule that reconstructs a few lookup images better, and says so.

        For files that do not tell whether they subtract `b_dec` from their input.
        """
        encoder, given = self.encoder, self.given_stats
        n_images = min(CENTRING_IMAGES, self.setup.lookup_images or CENTRING_IMAGES)
        loader = Loader(self._open(self.setup.lookup_split, n_images), self.setup.batch_size)
        parts = [encoder.patches(tokens_bnd) for _, tokens_bnd in encoder.residuals(loader)]
        x_nd = torch.cat(parts).flatten(0, 1)
        mean_d = given.get("act_mean", x_nd.mean(dim=0)).to(x_nd)
        deviation = (x_nd - mean_d).norm(dim=1).mean() / len(mean_d) ** 0.5
        norm = float(given.get("act_norm", deviation))
        as_is, centred = (encoder.sae.recentred(r).scaled(mean_d, norm) for r in (False, True))
        chosen, sentence = saes.choose_centring(as_is, centred, x_nd)
        log.warning("%s", sentence)
        # Another kind of machine may measure otherwise: the lead's choice holds for all ranks.
        takes_centred = ranks.from_lead("centring", lambda: b"yes" if chosen is centred else b"")
        self.encoder = replace(encoder, sae=centred if takes_centred else as_is)

    def complete(self, progress: Progress = silent) -> None:
        """Computes the SAE statistics that are missing, and sets the SAE's input scaling."""
        stats = cached_stats(
            self.given_stats,
            self.encoder.sae,
            lambda: self.encoder.residuals(self.loader(self.lookup_dataset)),
            cache_folder(self.setup.cache_dir),
            progress,
        )
        self.encoder.sae.scaled(stats.act_mean, stats.act_norm)
        self.encoder = replace(self.encoder, stats=stats)


def open_split(
    setup: Setup | TrainSetup,
    vit: Backbone,
    split: str,
    n_images: int | None,
    progress: Progress = silent,
    *,
    n_classes: int | None = None,
) -> Dataset:
    """A split of the settings' dataset, as the ViT sees it."""
    assert setup.imgs.root is not None
    return open_dataset(
        setup.imgs.root,
        split,
        vit.patch_size_px,
        preprocessing=vit.preprocessing,
        n_images=n_images,
        n_classes=n_classes,
        data_format=setup.data_format,
        background=setup.background,
        skip_bad=setup.skip_bad,
        progress=progress,
    )


def make_loader(
    setup: Setup | TrainSetup, dataset: Dataset, vit: Backbone, n_latents: int = 0
) -> Loader:
    """Batches of this rank's images of a dataset for a ViT, loaded as the settings say.

    `n_latents` latents are held.
    """
    device = vit.device
    n_workers = setup.n_workers
    if n_workers is None:
        n_cores = max(1, (os.cpu_count() or 1) // ranks.n_local_ranks())
        n_workers = 0 if device.type == "cpu" else min(16, n_cores)
    pin_memory = device.type == "cuda"
    batch_size = min(setup.batch_size, vit.budget.images_held(vit.network, n_latents))
    own = ranks.shard(len(dataset))
    return Loader(dataset, batch_size, n_workers, pin_memory=pin_memory, positions=own)


def activation_cache(setup: Setup | TrainSetup) -> ActivationCache | None:
    """Where the settings keep residuals; None if they do not."""
    if setup.no_cache:
        return None
    folder = activations_folder(cache_folder(setup.cache_dir))
    return ActivationCache(folder, int(setup.cache_limit * 2**30), str(setup.vit_ckpt))


def find_class(given: str, names: Sequence[str]) -> int:
    """The id of a class given by name or id.

    Raises:
        UsageError: there is no such class.
    """
    same = [i for i, name in enumerate(names, start=1) if name.casefold() == given.casefold()]
    if same:
        return same[0]
    if given.isdecimal() and 1 <= int(given) <= len(names):
        return int(given)
    close = difflib.get_close_matches(given, names, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"choose among {', '.join(names)}."
    raise UsageError(f"The class {given!r} is not in the dataset: {hint}")


def open_session(setup: Setup, progress: Progress = silent, *, needs_head: bool = True) -> Session:
    """Loads and checks what the settings name; the lookup split is opened when it is used.

    Raises:
        SemsegError: something is missing, unreadable, or does not fit the rest.
    """
    require_inputs(setup, [name for name in INPUTS if needs_head or name != "seg_ckpt"])
    device = find_device(setup.device)
    versions = (__version__, str(torch.__version__))
    ranks.require_same("versions and kind of device", repr((*versions, device.type)))
    try_out(device)
    find_data(setup, [setup.imgs.split if needs_head else setup.lookup_split], progress)
    sae = saes.load_undecided(str(setup.sae_ckpt), device, setup.sae_format, setup.sae_centre_input)
    head = load_head(str(setup.seg_ckpt), setup.background).to(device) if needs_head else None
    vit = load_backbone(setup, device)
    sae.budget = vit.budget
    cache = activation_cache(setup)
    encoder = Encoder(vit=vit, layer=setup.vit_layer, sae=sae, cache=cache)
    if head:
        encoder = Pipeline(vit=vit, layer=setup.vit_layer, sae=sae, cache=cache, head=head)
    session = Session(setup, encoder, load_stats(setup, sae), progress)
    _require_same_parts(session)
    if sae.centres_input is None:
        session.decide_centring()
    # Opened here, so that a bad split or class is told before a run begins.
    session.classes_of(session.dataset if needs_head else session.lookup_dataset)
    return session


def _require_same_parts(session: Session) -> None:
    """Refuses models or given statistics other than those of rank 0."""
    encoder = session.encoder
    head = encoder.head.digest if isinstance(encoder, Pipeline) else None
    ranks.require_same("models", repr((encoder.vit.digest, encoder.sae.digest, head)))
    ranks.require_same("given statistics", digest_of(session.given_stats))


def find_data(
    setup: Setup | TrainSetup, splits: Sequence[str], progress: Progress = silent
) -> None:
    """Makes the demo world where it is asked for, and checks that the dataset has these splits."""
    assert setup.imgs.root is not None
    cache = cache_folder(setup.cache_dir)
    if setup.imgs.root == world_folder(cache):
        ranks.from_lead("demo world", lambda: str(ensure_world(cache, progress)).encode())
        ensure_world(cache, progress)  # on another machine it is not there yet
    for split in splits:
        check_layout(setup.imgs.root, split, setup.data_format)


def load_backbone(setup: Setup | TrainSetup, device: torch.device) -> Backbone:
    """The ViT that the settings name, checked against what they expect of it."""
    dtype = getattr(torch, setup.dtype)
    vit = load_vit(str(setup.vit_ckpt), setup.vit_family, device, dtype, setup.image_hw)
    check_expectations(setup, vit)
    vit.budget = make_budget(setup.memory_budget, device)
    return vit


def require_inputs(setup: Setup | TrainSetup, needed: Sequence[str]) -> None:
    """Refuses settings that leave out one of the needed `INPUTS`."""
    given = {**vars(setup), "imgs_root": setup.imgs.root}
    missing = [name for name in needed if given[name] is None]
    if missing:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in missing)
        raise UsageError(f"Missing {options}: name them all, or take --preset demo.")


def load_stats(setup: Setup, sae: SparseAutoencoder) -> dict[str, torch.Tensor]:
    """The statistics that the settings name, checked against the autoencoder."""
    sources = {name: getattr(setup, name) for name in NAMES}
    given = {n: load_stat(n, source) for n, source in sources.items() if source is not None}
    return own_scaling(check_stats(given, sae.d_model, sae.d_sae), sae)


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
