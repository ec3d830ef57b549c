"""What the checks look at: the settings, and the parts that earlier checks loaded."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from semseg_cli.commands.doctor.findings import Finding, NotApplicableError
from semseg_cli.data.batches import Batch
from semseg_cli.data.dataset import Dataset, even_subset
from semseg_cli.data.loader import Loader
from semseg_cli.errors import SemsegError
from semseg_cli.experiment.named_inputs import given_inputs
from semseg_cli.experiment.parts import assemble
from semseg_cli.experiment.place import Place, place_of
from semseg_cli.experiment.session import Session
from semseg_cli.files import cache_folder
from semseg_cli.models.head import SegmentationHead
from semseg_cli.models.sae import SparseAutoencoder
from semseg_cli.models.sae.trained_at import TrainedAt
from semseg_cli.models.vit import Backbone
from semseg_cli.progress import Progress
from semseg_cli.settings.inputs import Setup
from semseg_cli.settings.output import Checkup

EVALUATION, LOOKUP = "evaluation split", "lookup split"


@dataclass
class Patient:
    """Settings, and parts as checks load them; a check names those it needs as its needs.

    `images_bchw` are the first probe images of the lookup split, `x_nd` the patch residuals of all
    of them at the layer and site; `site` is the one that was measured to fit better.
    """

    setup: Setup
    checkup: Checkup
    progress: Progress
    device: torch.device = field(init=False)
    datasets: dict[str, Dataset] = field(default_factory=dict)
    vit: Backbone = field(init=False)
    sae: SparseAutoencoder = field(init=False)
    head: SegmentationHead | None = None
    site: str | None = None
    given_stats: dict[str, Tensor] = field(init=False)
    images_bchw: Tensor = field(init=False)
    x_nd: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.cache = cache_folder(self.setup.cache_dir)

    def given(self, name: str) -> Any:
        """An input of the settings; a check without it cannot be made."""
        value = given_inputs(self.setup)[name]
        if value is None:
            raise NotApplicableError(f"--{name.replace('_', '-')}")
        return value

    @property
    def place(self) -> Place:
        """Where the SAE is to read, once the ViT is known."""
        sae = getattr(self, "sae", None)
        trained = sae.trained_at if sae is not None else TrainedAt()
        found = place_of(self.setup, trained, self.vit.n_layers)
        return found if self.site is None else replace(found, site=self.site)

    @property
    def settled(self) -> Setup:
        """The settings with the layer and site in use, where the ViT is known."""
        if not hasattr(self, "vit"):
            return self.setup
        found: dict[str, Any] = {"vit_layer": self.place.layer, "vit_site": self.place.site}
        return replace(self.setup, **found)

    @property
    def fitting_head(self) -> SegmentationHead | None:
        """The head, if there is one that reads the ViT's width."""
        is_fitting = self.head is not None and self.head.in_features == self.vit.d_model
        return self.head if is_fitting else None

    def probe(self, role: str) -> Iterator[Batch]:
        """A few images of a split, spread evenly, as the ViT sees them."""
        dataset = self.seen(role)
        few = dataset.subset(even_subset(len(dataset), self.checkup.probe_images))
        yield from Loader(few, min(self.setup.batch_size, len(few)))

    def seen(self, role: str) -> Dataset:
        """A split as the ViT sees it."""
        vit = self.vit
        return replace(
            self.datasets[role], patch_size_px=vit.patch_size_px, preprocessing=vit.preprocessing
        )

    def session(self) -> Session:
        """The loaded parts as commands use them, in small batches."""
        few = min(self.setup.batch_size, self.checkup.probe_images)
        setup = replace(self.settled, batch_size=few)
        pipeline = assemble(setup, self.vit, self.sae, self.fitting_head)
        session = Session(setup, pipeline, self.given_stats)
        session.dataset, session.lookup_dataset = self.seen(EVALUATION), self.seen(LOOKUP)
        return session

    def digests(self) -> dict[str, str]:
        """Digests of the parts that could be loaded, by the names in run.json."""
        parts = {name: getattr(self, name, None) for name in ("sae", "vit", "head")}
        return {name: part.digest for name, part in parts.items() if part is not None}


def good(found: str, **values: float) -> Finding:
    """A check that passed."""
    return Finding("pass", found, values=values)


def doubtful(found: str, advice: str, **values: float) -> Finding:
    """Something that a run survives, and that may make its numbers worthless."""
    return Finding("warn", found, advice, values)


def kept(found: str, require: Callable[[], object], broken: str) -> Finding:
    """Whether a rule that a run keeps to is kept; what is found if not."""
    try:
        require()
    except SemsegError as error:
        return bad(broken, str(error))
    return good(found)


def bad(found: str, advice: str, **values: float) -> Finding:
    """Something that stops a run, or makes its numbers worthless for sure."""
    return Finding("fail", found, advice, values)
