"""The methods: what each needs, how its runs are named, and the union of all."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from semseg_cli.settings.base import option
from semseg_cli.settings.latent_choice import LatentChoice, Scaled

VectorMatch = Literal["none", "norm"]
LatentMatch = Literal["none", "frequency", "max"]
Removal = Literal["norm", "project"]
Control = Literal["none", "shuffled"]
MANUAL = "manual-feature"  # what auto-feat is called with latents that a user wrote down


@dataclass(frozen=True, kw_only=True)
class Intervening(LatentChoice, Scaled):
    """What every method says of itself; the properties hold for most."""

    panel: ClassVar[str] = "Intervention"
    name: ClassVar[str]  # in reports
    command: ClassVar[str]
    told: ClassVar[tuple[str, ...]] = ()  # fields that its runs are named by, where not the default

    @property
    def needs_latents(self) -> bool:
        """Whether the edits depend on each class's own latent."""
        return True

    @property
    def looks_up(self) -> bool:
        """Whether latents are chosen, on the lookup split."""
        return self.needs_latents and self.lookup is None

    @property
    def needs_statistics(self) -> bool:
        """Whether latents are read at all, which takes the statistics of the SAE."""
        return self.needs_latents

    @property
    def is_scaled(self) -> bool:
        """Whether the scale changes the edits."""
        return True

    @property
    def is_shared(self) -> bool:
        """Whether one edit serves all classes."""
        return False

    @property
    def is_on_shuffled(self) -> bool:
        """Whether the rows of the SAE's decoder are permuted first."""
        return False

    @property
    def n_draws(self) -> int:
        """How many edits are made per scale."""
        return 1

    @property
    def is_open(self) -> bool:
        """Whether the number of draws is to be found: as many as an interval needs."""
        return False

    @property
    def is_drawn_by_class(self) -> bool:
        """Whether something is drawn at random once for each class (and not for each image)."""
        return False

    def report_name(self, *, is_manual: bool) -> str:
        """The name in reports; `is_manual`: a user wrote the latents down."""
        return self.name

    def run_name(self, *, is_manual: bool) -> str:
        """What a run is called, but for its scale: the command and how it differs from the plain
        one."""
        words = [str(getattr(self, key)) for key in self.told if self._differs(key)]
        if self.looks_up and self._differs("select"):
            words.append(self.select)
        if self.looks_up and self.top_k_group > 1:
            words.append(f"top{self.top_k_group}")
        return " ".join([self.command, *words])

    def _differs(self, key: str) -> bool:
        return bool(getattr(self, key) != getattr(type(self)(), key))


@dataclass(frozen=True, kw_only=True)
class Drawn(Intervening):
    """Random controls: how many independent draws."""

    panel: ClassVar[str] = "Intervention"

    draws: int | None = option(
        None, "Independent random draws, all in one pass over the images; else as many as an "
        "interval needs (rand-feat: 6 in the label protocol, where they are cheap, and where "
        "classes are few; else 1).", ge=1,
    )  # fmt: skip

    @property
    def n_draws(self) -> int:
        """How many edits are made per scale."""
        return self.draws or 1

    @property
    def is_open(self) -> bool:
        """Whether the number of draws is to be found: as many as an interval needs."""
        return self.draws is None


@dataclass(frozen=True, kw_only=True)
class RandVec(Drawn):
    """Control: push every patch along a random direction."""

    panel: ClassVar[str] = "Intervention"
    name: ClassVar[str] = "random-vector"
    command: ClassVar[str] = "rand-vec"
    told: ClassVar[tuple[str, ...]] = ("match",)

    scale: tuple[float, ...] = option(
        (-2.0,), "Length of the random vector in raw residual units (repeatable); with "
        "--match norm, the scale of the automatic edit whose length it takes.",
    )  # fmt: skip
    match: VectorMatch = option(
        "none", "norm: as long, patch by patch, as the automatic edit of each class would be."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.match == "norm":
            Scaled(scale=self.scale)

    @property
    def needs_latents(self) -> bool:
        """Only to be as long as the automatic edit."""
        return self.match == "norm"

    @property
    def is_shared(self) -> bool:
        """A plain random vector is the same for all classes."""
        return self.match == "none"


@dataclass(frozen=True, kw_only=True)
class RandFeat(Drawn):
    """Control: set one random live latent per class."""

    panel: ClassVar[str] = "Intervention"
    name: ClassVar[str] = "random-feature"
    command: ClassVar[str] = "rand-feat"
    told: ClassVar[tuple[str, ...]] = ("match",)

    match: LatentMatch = option(
        "none",
        "Draw among the latents most like each class's own latent in firing frequency, or in "
        "maximum activation.",
    )

    @property
    def needs_latents(self) -> bool:
        """Only to draw latents like them."""
        return self.match != "none"

    @property
    def needs_statistics(self) -> bool:
        """Which latents are live, and their maxima, are statistics."""
        return True

    @property
    def is_drawn_by_class(self) -> bool:
        """Whether something is drawn at random once for each class (and not for each image)."""
        return True


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
