"""The images that settings name: found, opened as the ViT sees them, loaded in batches."""

import difflib
import logging
import os
from collections.abc import Sequence

from semseg_cli.data.dataset import Dataset, open_dataset
from semseg_cli.data.held import Data
from semseg_cli.data.layouts import Layout, check_layout
from semseg_cli.data.loader import Loader
from semseg_cli.demo.world import ensure_world, world_folder
from semseg_cli.errors import SemsegError, UsageError
from semseg_cli.files import cache_folder
from semseg_cli.models.head import SegmentationHead
from semseg_cli.models.vit import Backbone
from semseg_cli.models.vit.sites import RESID_POST
from semseg_cli.progress import Progress, silent, stage
from semseg_cli.ranks import group as ranks
from semseg_cli.settings.inputs import Setup, TrainSetup

log = logging.getLogger("semseg_cli")


def find_data(
    setup: Setup | TrainSetup, splits: Sequence[str], progress: Progress = silent
) -> list[Layout]:
    """The layout of each of these splits; makes the demo world first where it is asked for.

    Raises:
        SemsegError: the dataset is in no known layout, or lacks a split.
    """
    assert setup.imgs.root is not None
    cache = cache_folder(setup.cache_dir)
    if setup.imgs.root == world_folder(cache):
        ranks.from_lead("demo world", lambda: str(ensure_world(cache, progress)).encode())
        ensure_world(cache, progress)  # on another machine it is not there yet
    return [check_layout(setup.imgs.root, split, setup.data_format)[0] for split in splits]


def open_split(
    setup: Setup | TrainSetup,
    vit: Backbone | None,
    split: str,
    n_images: int | None,
    progress: Progress = silent,
    *,
    n_classes: int | None = None,
    held: Data | None = None,
) -> Dataset:
    """A split of the settings' dataset, as the ViT sees it; without one no patch is cut yet.

    `held` is the data in memory that takes the place of the settings'.
    """
    if held is not None:
        assert vit is not None
        dataset = held.open(split, vit.patch_size_px, vit.preprocessing, n_images)
    else:
        dataset = _from_folder(setup, vit, split, n_images, progress, n_classes)
    n_there = len(dataset) + len(dataset.skipped)
    for option in ("images", "lookup_images"):
        if n_images is not None and n_there < n_images == getattr(setup, option, None):
            said = option.replace("_", "-")
            log.warning("--%s is %d: %s has %d, all are used.", said, n_images, split, n_there)
            break
    return dataset


def _from_folder(
    setup: Setup | TrainSetup,
    vit: Backbone | None,
    split: str,
    n_images: int | None,
    progress: Progress,
    n_classes: int | None,
) -> Dataset:
    assert setup.imgs.root is not None
    with stage(f"Listing the {split} images of {setup.imgs.root}"):
        return open_dataset(
            setup.imgs.root,
            split,
            vit.patch_size_px if vit else 1,
            preprocessing=vit.preprocessing if vit else None,
            n_images=n_images,
            n_classes=n_classes,
            data_format=setup.data_format,
            background=setup.background,
            skip_bad=setup.skip_bad,
            progress=progress,
        )


def make_loader(
    setup: Setup | TrainSetup,
    dataset: Dataset,
    vit: Backbone,
    n_latents: int = 0,
    site: str = RESID_POST,
) -> Loader:
    """Batches of this rank's images of a dataset for a ViT, loaded as the settings say.

    Tokens of the site and `n_latents` latents are held.
    """
    device = vit.device
    n_workers = setup.n_workers
    if n_workers is None:
        n_cores = max(1, (os.cpu_count() or 1) // ranks.n_local_ranks())
        n_workers = 0 if device.type == "cpu" else min(16, n_cores)
    pin_memory = device.type == "cuda"
    batch_size = min(setup.batch_size, vit.budget.images_held(vit.network_at(site), n_latents))
    own = ranks.shard(len(dataset))
    return Loader(dataset, batch_size, n_workers, pin_memory=pin_memory, positions=own)


def require_same_classes(head: SegmentationHead | None, names: Sequence[str]) -> None:
    """Refuses a head that knows another number of classes than the dataset.

    Raises:
        SemsegError: it does.
    """
    if head is not None and head.n_classes != len(names):
        raise SemsegError(
            f"The head knows {head.n_classes} classes (and null), the dataset {len(names)}: check "
            "--seg-ckpt against --imgs-root (and --background)."
        )


def classes_of(setup: Setup, names: Sequence[str]) -> list[int]:
    """The ids of the classes to intervene on: those of the settings, else all.

    Raises:
        UsageError: a class is not in the dataset.
    """
    wanted = {find_class(one, names) for one in setup.classes}
    return sorted(wanted) or list(range(1, len(names) + 1))


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
