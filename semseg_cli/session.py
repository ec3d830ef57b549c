"""From settings to loaded, mutually checked parts: the cheap checks first, the heavy files last."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from semseg_cli import console
from semseg_cli import sae as saes
from semseg_cli.config import Setup
from semseg_cli.data import Dataset, Loader, check_layout, open_dataset
from semseg_cli.demo.world import ensure_world, world_folder
from semseg_cli.errors import SemsegError, UsageError
from semseg_cli.head import SegmentationHead, load_head
from semseg_cli.pipeline import Pipeline, check_fit
from semseg_cli.presets import INPUTS, cache_folder
from semseg_cli.progress import Progress, silent
from semseg_cli.sae import SparseAutoencoder
from semseg_cli.stats import NAMES, cached_stats, check_stats, load_stat, own_scaling
from semseg_cli.vit import Backbone, load_vit

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
    return torch.device(name)


@dataclass
class Session:
    """The loaded parts of an experiment, and the ids of the classes to intervene on.

    The lookup split is opened when something needs it.
    """

    setup: Setup
    pipeline: Pipeline
    dataset: Dataset
    given_stats: dict[str, torch.Tensor]
    classes: list[int]

    @cached_property
    def lookup_dataset(self) -> Dataset:
        """The images that statistics and latents come from."""
        return _open(
            self.setup,
            self.pipeline.vit,
            self.pipeline.head,
            self.setup.lookup_split,
            self.setup.lookup_images,
        )

    @property
    def is_missing_stats(self) -> bool:
        """Whether SAE statistics have to be computed, or read from the cache."""
        return not all(name in self.given_stats for name in NAMES)

    def loader(self, dataset: Dataset) -> Loader:
        """Batches of a dataset, loaded as the settings say."""
        n_workers = self.setup.n_workers
        if n_workers is None:
            n_workers = (
                0 if self.pipeline.device.type == "cpu" else min(16, torch.get_num_threads())
            )
        return Loader(dataset, self.setup.batch_size, n_workers)

    def complete(self, progress: Progress = silent) -> None:
        """Computes the SAE statistics that are missing, and sets the SAE's input scaling."""
        stats = cached_stats(
            self.given_stats,
            self.pipeline.vit,
            self.pipeline.layer,
            self.pipeline.sae,
            lambda: self.loader(self.lookup_dataset),
            cache_folder(self.setup.cache_dir),
            progress,
        )
        self.pipeline.sae.scaled(stats.act_mean, stats.act_norm)
        self.pipeline = replace(self.pipeline, stats=stats)


def find_classes(given: Sequence[str], names: Sequence[str]) -> list[int]:
    """The ids of the classes to intervene on: those given, else all.

    Raises:
        UsageError: a class is not in the dataset.
    """
    wanted = {find_class(one, names) for one in given}
    return sorted(wanted) or list(range(1, len(names) + 1))


def find_class(given: str, names: Sequence[str]) -> int:
    """The id of a class given by name or id.

    Raises:
        UsageError: there is no such class.
    """
    if given in names:
        return list(names).index(given) + 1
    if given.isdecimal() and 1 <= int(given) <= len(names):
        return int(given)
    close = difflib.get_close_matches(given, names, n=3) or list(names[:3])
    raise UsageError(
        f"The class {given!r} is not in the dataset: did you mean {' or '.join(close)}?"
    )


def open_session(setup: Setup, progress: Progress = silent) -> Session:
    """Loads and checks everything that the settings name.

    Raises:
        SemsegError: something is missing, unreadable, or does not fit the rest.
    """
    _require_inputs(setup)
    assert setup.imgs.root is not None
    device = find_device(setup.device)
    cache = cache_folder(setup.cache_dir)
    if setup.imgs.root == world_folder(cache):
        ensure_world(cache, progress)
    check_layout(setup.imgs.root, setup.imgs.split)
    sae = saes.load_undecided(str(setup.sae_ckpt), device, setup.sae_format, setup.sae_centre_input)
    head = load_head(str(setup.seg_ckpt)).to(device)
    vit = load_backbone(setup, device)
    check_fit(vit, setup.vit_layer, sae, head)
    given = load_stats(setup, sae)
    if sae.centres_input is None:
        sae = _decide_centring(setup, vit, head, sae, given)
    dataset = _open(setup, vit, head, setup.imgs.split, setup.images)
    classes = find_classes(setup.classes, dataset.class_names)
    pipeline = Pipeline(vit=vit, layer=setup.vit_layer, sae=sae, head=head)
    return Session(setup, pipeline, dataset, given, classes)


def load_backbone(setup: Setup, device: torch.device) -> Backbone:
    """The ViT that the settings name, checked against what they expect of it."""
    vit = load_vit(str(setup.vit_ckpt), setup.vit_family, device, getattr(torch, setup.dtype))
    check_expectations(setup, vit)
    return vit


def _require_inputs(setup: Setup) -> None:
    given = {**vars(setup), "imgs_root": setup.imgs.root}
    missing = [name for name in INPUTS if given[name] is None]
    if missing:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in missing)
        raise UsageError(f"Missing {options}: name them all, or take --preset demo.")


def load_stats(setup: Setup, sae: SparseAutoencoder) -> dict[str, torch.Tensor]:
    """The statistics that the settings name, checked against the autoencoder."""
    sources = {name: getattr(setup, name) for name in NAMES}
    given = {n: load_stat(n, source) for n, source in sources.items() if source is not None}
    return own_scaling(check_stats(given, sae.d_model, sae.d_sae), sae)


@torch.inference_mode()
def _decide_centring(
    setup: Setup,
    vit: Backbone,
    head: SegmentationHead,
    sae: SparseAutoencoder,
    given: dict[str, torch.Tensor],
) -> SparseAutoencoder:
    """The encoding rule that reconstructs a few images of the lookup split better."""
    few = _open(
        setup,
        vit,
        head,
        setup.lookup_split,
        min(CENTRING_IMAGES, setup.lookup_images or CENTRING_IMAGES),
    )
    loader = Loader(few, setup.batch_size, 0)
    tokens = torch.cat([vit.prefix(batch.images_bchw, setup.vit_layer) for batch in loader])
    x_nd = tokens[:, vit.n_prefix_tokens :].reshape(-1, vit.d_model).float()
    mean_d = given.get("act_mean", x_nd.mean(dim=0)).to(x_nd)
    deviation = (x_nd - mean_d).norm(dim=1).mean() / vit.d_model**0.5
    norm = float(given.get("act_norm", deviation))
    as_is, centred = (sae.recentred(rule).scaled(mean_d, norm) for rule in (False, True))
    chosen, sentence = saes.choose_centring(as_is, centred, x_nd)
    console.say(sentence)
    return chosen


def check_expectations(setup: Setup, vit: Backbone) -> None:
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


def _open(
    setup: Setup, vit: Backbone, head: SegmentationHead, split: str, n_images: int | None
) -> Dataset:
    assert setup.imgs.root is not None
    dataset = open_dataset(
        setup.imgs.root,
        split,
        vit.patch_size_px,
        preprocessing=vit.preprocessing,
        n_images=n_images,
        n_classes=head.n_classes,
    )
    if len(dataset.class_names) != head.n_classes:
        raise SemsegError(
            f"The head knows {head.n_classes} classes (and null), the dataset "
            f"{len(dataset.class_names)}: check --seg-ckpt against --imgs-root."
        )
    return dataset
