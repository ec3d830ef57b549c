"""The methods that take a class out, and the union of all."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from semseg_cli.settings.base import option
from semseg_cli.settings.controls import RandFeat, RandVec
from semseg_cli.settings.intervening import Intervening

Removal = Literal["norm", "project"]
Control = Literal["none", "shuffled"]
MANUAL = "manual-feature"  # what auto-feat is called with latents that a user wrote down


@dataclass(frozen=True, kw_only=True)
class AutoFeat(Intervening):
    """Suppress each class's own latent and count what changes."""

    panel: ClassVar[str] = "Intervention"
    name: ClassVar[str] = "automatic-feature"
    command: ClassVar[str] = "auto-feat"
    told: ClassVar[tuple[str, ...]] = ("control",)

    control: Control = option(
        "none", "shuffled: the same, on a dictionary whose decoder rows are permuted."
    )

    @property
    def is_on_shuffled(self) -> bool:
        """Whether the rows of the SAE's decoder are permuted first."""
        return self.control == "shuffled"

    def report_name(self, *, is_manual: bool) -> str:
        """The name in reports; `is_manual`: a user wrote the latents down."""
        return MANUAL if is_manual else self.name

    def run_name(self, *, is_manual: bool) -> str:
        """What a run is called, but for its scale."""
        called = super().run_name(is_manual=is_manual)
        return called.replace(self.command, "manual", 1) if is_manual else called


@dataclass(frozen=True, kw_only=True)
class MeanDiff(Intervening):
    """Supervised baseline: take out each class's difference of means."""

    panel: ClassVar[str] = "Intervention"
    name: ClassVar[str] = "mean-difference"
    command: ClassVar[str] = "mean-diff"
    told: ClassVar[tuple[str, ...]] = ("match",)

    match: Removal = option(
        "norm",
        "norm: move along the difference as far as the automatic edit would. project: set each "
        "patch's component along it to the mean of the other classes (no --scale).",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.match == "project" and len(self.scale) > 1:
            raise ValueError("scale is given several times: a projection has none, leave it out")
        if self.match == "project" and self.lookup is not None:
            raise ValueError("lookup is given: a projection uses no latents, leave it out")

    @property
    def needs_latents(self) -> bool:
        """Only to move as far as the automatic edit."""
        return self.match == "norm"

    @property
    def needs_differences(self) -> bool:
        """They are what is taken out."""
        return True

    @property
    def is_scaled(self) -> bool:
        """A projection has no scale."""
        return self.match == "norm"


# To add a method: its settings class here, its edits in engine/methods, its entry in MLproject.
Method = RandVec | RandFeat | AutoFeat | MeanDiff
METHODS: tuple[type[Method], ...] = get_args(Method)
