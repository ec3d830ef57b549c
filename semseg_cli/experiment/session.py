"""From settings to loaded, mutually checked parts: the cheap checks first, the heavy files last."""

import logging
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from semseg_cli import __version__
from semseg_cli.data.dataset import Dataset, even_subset
from semseg_cli.data.loader import Loader
from semseg_cli.engine.manifold import N_IMAGES
from semseg_cli.errors import SemsegError
from semseg_cli.experiment.fit import NO_DOUBTS, TRIED_IMAGES, Doubts, find_doubts
from semseg_cli.experiment.given import NOTHING, Given, load_parts
from semseg_cli.experiment.images import (
    classes_of,
    find_data,
    make_loader,
    open_split,
    require_same_classes,
)
from semseg_cli.experiment.named_inputs import require_inputs
from semseg_cli.experiment.parts import (
    assemble,
    completed,
    find_device,
    load_stats,
)
from semseg_cli.experiment.place import is_site_open, warn_of_other_place
from semseg_cli.models.head import SegmentationHead
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.models.sae import SparseAutoencoder
from semseg_cli.models.sae.centring import decide_centring
from semseg_cli.models.sae.norm_choice import choose_site
from semseg_cli.models.sae.statistics import NAMES, digest_of
from semseg_cli.models.vit import Backbone
from semseg_cli.progress import Progress, silent, stage
from semseg_cli.ranks import group as ranks
from semseg_cli.ranks.collectives import try_out
from semseg_cli.settings.inputs import SaeModel, Setup
from semseg_cli.settings.toml_files import INPUTS

S = TypeVar("S", bound=SaeModel)
log = logging.getLogger("semseg_cli")
DECIDING_IMAGES = 8


@dataclass
class Session:
    """The loaded parts of an experiment. A split is opened when something needs it.

    `null_sae` is what the autoencoder is called that a control has in place of the given one.
    """

    setup: Setup
    pipeline: Pipeline
    given_stats: dict[str, torch.Tensor]
    progress: Progress = silent
    given: Given = NOTHING
    doubts: Doubts = NO_DOUBTS
    null_sae: str = ""

    @cached_property
    def dataset(self) -> Dataset:
        """The images that interventions are evaluated on."""
        return self._open(self.setup.imgs.split, self.setup.images)

    @cached_property
    def lookup_dataset(self) -> Dataset:
        """The images that statistics and latents come from."""
        return self._open(self.setup.lookup_split, self.setup.lookup_images)

    @cached_property
    def clean_dataset(self) -> Dataset | None:
        """The lookup images that show how clean residuals lie and what latents respond to; None
        where the split is missing."""
        try:
            dataset = self.lookup_dataset
        except SemsegError as error:  # found alike by all ranks; nothing else may need the split
            log.info("No clean residuals, no top images: %s", error)
            return None
        return dataset.subset(even_subset(len(dataset), min(len(dataset), N_IMAGES)))

    def _open(self, split: str, n_images: int | None) -> Dataset:
        head, vit = self.pipeline.head, self.pipeline.vit
        n_classes = head.n_classes if head else None
        dataset = open_split(
            *(self.setup, vit, split, n_images, self.progress),
            n_classes=n_classes,
            held=self.given.data,
        )
        require_same_classes(head, dataset.class_names)
        if ranks.is_joined():
            dataset.share_contents()
        return dataset

    def with_images_of(self, other: "Session") -> "Session":
        """This session, with the splits that another of the same images has opened."""
        for split in ("dataset", "lookup_dataset"):
            if split in vars(other):
                vars(self)[split] = vars(other)[split]
        return self

    def classes_of(self, dataset: Dataset) -> list[int]:
        """The ids of the classes to intervene on: those of the settings, else all.

        Raises:
            UsageError: a class is not in the dataset.
        """
        return classes_of(self.setup, dataset.class_names)

    @property
    def is_missing_stats(self) -> bool:
        """Whether SAE statistics have to be computed, or read from the cache."""
        return not all(name in self.given_stats for name in NAMES)

    def loader(self, dataset: Dataset, n_latents: int = 0) -> Loader:
        """Batches of this rank's images of a dataset, loaded as the settings say.

        `n_latents` latents are held.
        """
        return make_loader(self.setup, dataset, self.pipeline.vit, n_latents, self.pipeline.site)

    def decide(self) -> None:
        """Takes of what the SAE's files leave open what reconstructs a few images better."""
        pipeline = self.pipeline
        if is_site_open(self.setup, pipeline.sae, pipeline.vit, pipeline.layer):
            self._decide_site()
        if pipeline.sae.centres_input is None:
            self._decide_centring()
        self.setup = self.settled(self.setup)

    def settled(self, settings: S) -> S:
        """These settings with the layer and the site that are in use."""
        found: dict[str, Any] = {"vit_layer": self.pipeline.layer, "vit_site": self.pipeline.site}
        return replace(settings, **found)

    def _few_patches(self) -> Tensor:
        """What the SAE reads of a few lookup images, [n d]."""
        n_images = min(DECIDING_IMAGES, self.setup.lookup_images or DECIDING_IMAGES)
        loader = Loader(self._open(self.setup.lookup_split, n_images), self.setup.batch_size)
        pipeline = self.pipeline
        parts = [pipeline.patches(tokens_bnd) for _, tokens_bnd in pipeline.residuals(loader)]
        return torch.cat(parts).flatten(0, 1)

    @torch.inference_mode()
    def _decide_site(self) -> None:
        """For files that do not tell whether they are of before or after the final norm."""
        vit, sae = self.pipeline.vit, self.pipeline.sae
        norm = vit.family.final_norm(vit.model)
        x_nd = self._few_patches()
        site, sentence = choose_site(sae, self.given_stats, x_nd, lambda x: norm(x.to(vit.dtype)))
        log.warning("%s", sentence)
        site = ranks.from_lead("site", site.encode).decode()
        self.pipeline = replace(self.pipeline, site=site)

    @torch.inference_mode()
    def _decide_centring(self) -> None:
        """For files that do not tell whether they subtract `b_dec` from their input."""
        pipeline = self.pipeline
        sae, sentence = decide_centring(pipeline.sae, self.given_stats, self._few_patches())
        log.warning("%s", sentence)
        # Another kind of machine may measure otherwise: the lead's choice holds for all ranks.
        centres = ranks.from_lead("centring", lambda: b"yes" if sae.centres_input else b"")
        self.pipeline = replace(pipeline, sae=sae.recentred(bool(centres)))

    def judge(self, *, uses_sae: bool = True) -> None:
        """Tries the SAE and the head on a few images: `doubts` has what does not seem to fit.

        The lead does, on the same images for any number of ranks. What fails is left for the run
        to tell of.
        """
        if not ranks.is_lead():
            return
        dataset = self.dataset if self.pipeline.head else self.lookup_dataset
        few = dataset.subset(even_subset(len(dataset), TRIED_IMAGES))
        threshold, n_classes = self.setup.label_threshold, len(dataset.class_names)
        try:
            with stage("Trying whether the parts fit each other"):
                batches = list(Loader(few, min(self.setup.batch_size, len(few))))
                given = self.given_stats if uses_sae else None
                self.doubts = find_doubts(
                    self.pipeline, given, batches, threshold, dataset.split, n_classes
                )
        except SemsegError as error:
            log.info("Whether the parts fit each other was not tried: %s", error)

    def complete(self, progress: Progress = silent) -> None:
        """Computes the SAE statistics that are missing, and sets the SAE's input scaling."""
        self.pipeline = completed(
            self.setup,
            self.pipeline,
            self.given_stats,
            lambda: self.loader(self.lookup_dataset),
            progress,
        )


def open_session(
    setup: Setup, progress: Progress = silent, *, needs_head: bool = True, given: Given = NOTHING
) -> Session:
    """Loads and checks what the settings name; the lookup split is opened when it is used.

    What is given is not loaded: the settings have a name for it.

    Raises:
        SemsegError: something is missing, unreadable, or does not fit the rest.
    """
    require_inputs(setup, [name for name in INPUTS if needs_head or name != "seg_ckpt"])
    device = find_device(setup.device)
    versions = (__version__, str(torch.__version__))
    ranks.require_same("versions and kind of device", repr((*versions, device.type)))
    try_out(device)
    first_split = setup.imgs.split if needs_head else setup.lookup_split
    if given.data is None:
        find_data(setup, [first_split], progress)
    else:
        given.data.require_split(first_split)
    vit, sae, head = load_parts(setup, device, given, needs_head=needs_head)
    session = session_of(setup, vit, sae, head, progress, given)
    # Opened here, so that a bad split or class is told before a run begins.
    session.classes_of(session.dataset if needs_head else session.lookup_dataset)
    return session


def session_of(
    setup: Setup,
    vit: Backbone,
    sae: SparseAutoencoder,
    head: SegmentationHead | None,
    progress: Progress = silent,
    given: Given = NOTHING,
) -> Session:
    """The session with these parts, once they are known to fit each other.

    Raises:
        SemsegError: they do not.
    """
    pipeline = assemble(setup, vit, sae, head)
    session = Session(setup, pipeline, load_stats(setup, sae), progress, given)
    _require_same_parts(session)
    session.decide()
    warn_of_other_place(setup, session.pipeline.layer, session.pipeline.site)
    return session


def _require_same_parts(session: Session) -> None:
    """Refuses models or given statistics other than those of rank 0."""
    pipeline = session.pipeline
    head = pipeline.head.digest if pipeline.head else None
    ranks.require_same("models", repr((pipeline.vit.digest, pipeline.sae.digest, head)))
    ranks.require_same("given statistics", digest_of(session.given_stats))
