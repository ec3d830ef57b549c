"""The methods that take a class out or put it in, and the union of all."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from semseg_cli.settings.base import option
from semseg_cli.settings.controls import Exchanged, NextBest, OtherClass, Push, RandFeat, RandVec
from semseg_cli.settings.intervening import (
    COMMON_LENGTH,
    Control,
    Direction,
    Dosed,
    Drawn,
    Intervening,
    LengthMatch,
    Measure,
)

Removal = Literal["norm", "project"]
BELOW_ZERO = "with match norm latents are suppressed, expected one below 0"
MANUAL = "manual"  # what auto-feat is called with latents that a user wrote down

AS_SUPPRESSED = (-2.0,)  # methods without a scale take the latents that auto-feat takes by default


@dataclass(frozen=True, kw_only=True)
class AutoFeat(Dosed):
    """Suppress each class's own latent and count what changes."""

    panel: ClassVar[str] = "Intervention"
    command: ClassVar[str] = "auto-feat"
    told: ClassVar[tuple[str, ...]] = ("control", "match", "length")

    match: LengthMatch = option(
        "none",
        "norm: set each class's latent to where its edit is --length long, so that other SAEs, "
        "classes and layers are compared at one length; --scale, below 0, is then only where "
        "causal rules try latents. none: set it to --scale times its own maximum.",
    )
    length: float = option(
        COMMON_LENGTH, "With --match norm: length of each class's edit, on average over the "
        "patches of the lookup split, by that of the residuals there.", gt=0.0, le=100.0,
    )  # fmt: skip
    control: Control = option(
        "none",
        "The same on a null SAE. shuffled: the rows of the decoder permuted. pca: latents along "
        "the principal directions of the residuals, both ways. random: along random directions. "
        "The last two fire as often as the SAE's latents do.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.has_other_latents and self.lookup is not None:
            raise ValueError(
                f"lookup is given: --control {self.control} has latents of its own, leave it out"
            )
        if self.match == "norm" and len(self.scale) > 1:
            raise ValueError("scale is given several times: with match norm all are as long")
        if self.match == "norm" and self.scale[0] >= 0.0:
            raise ValueError(f"scale is {self.scale[0]:g}: {BELOW_ZERO}")

    @property
    def null_sae(self) -> Control:
        """Which other SAE takes the place of the given one."""
        return self.control

    @property
    def common_length(self) -> float | None:
        """How long each class's edit is made, by the residuals; None: as its scale makes it."""
        return self.length if self.match == "norm" else None

    def called(self, *, is_manual: bool) -> str:
        """Its command, or that the latents are the user's."""
        return MANUAL if is_manual else self.command


@dataclass(frozen=True, kw_only=True)
class Ablate(Intervening):
    """Is the latent needed: set each class's own latent to zero."""

    panel: ClassVar[str] = "Intervention"
    command: ClassVar[str] = "ablate"
    measure: ClassVar[Measure] = "necessity"
    scale: ClassVar[tuple[float, ...]] = (0.0,)
    tried_at: ClassVar[tuple[float, ...]] = AS_SUPPRESSED

    @property
    def fixed_scale(self) -> float:
        """Absent."""
        return 0.0


@dataclass(frozen=True, kw_only=True)
class Insert(Intervening):
    """Is the latent enough: set it to its maximum elsewhere."""

    panel: ClassVar[str] = "Intervention"
    command: ClassVar[str] = "insert"
    measure: ClassVar[Measure] = "sufficiency"
    protocols: ClassVar[tuple[str, ...]] = ("class",)
    scale: ClassVar[tuple[float, ...]] = (1.0,)
    tried_at: ClassVar[tuple[float, ...]] = AS_SUPPRESSED

    @property
    def fixed_scale(self) -> float:
        """As strong as it was ever seen."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Directed(Dosed):
    """Supervised baselines: a direction per class that labels give, without any latent."""

    panel: ClassVar[str] = "Intervention"
    told: ClassVar[tuple[str, ...]] = ("match",)
    edits_latents: ClassVar[bool] = False

    match: Removal = option(
        "norm",
        "norm: move along the direction as far as the automatic edit would. project: set each "
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
    def fixed_scale(self) -> float | None:
        """A projection has no scale."""
        return 0.0 if self.match == "project" else None


@dataclass(frozen=True, kw_only=True)
class MeanDiff(Directed):
    """Supervised baseline: take out a class's difference of means."""

    panel: ClassVar[str] = "Intervention"
    command: ClassVar[str] = "mean-diff"
    told: ClassVar[tuple[str, ...]] = ("direction", "match")

    direction: Direction = option(
        "mean",
        "mean: from the mean of all other patches to the class's own. lda: the same, with the "
        "spread within classes divided out (linear discriminant).",
    )

    @property
    def needs_differences(self) -> bool:
        """They are what is taken out."""
        return True

    @property
    def contrast(self) -> Direction:
        """As the user chooses."""
        return self.direction


@dataclass(frozen=True, kw_only=True)
class HeadDirection(Directed):
    """Ceiling: what the head reads, its row minus the others' mean."""

    panel: ClassVar[str] = "Intervention"
    command: ClassVar[str] = "head-direction"

    @property
    def needs_differences(self) -> bool:
        """Only for the means of the other classes."""
        return self.match == "project"


# To add a method: its settings class here, its edits in engine/methods, its entry in MLproject.
Method = (
    RandVec
    | RandFeat
    | AutoFeat
    | MeanDiff
    | Ablate
    | Insert
    | Push
    | NextBest
    | OtherClass
    | HeadDirection
)
METHODS: tuple[type[Method], ...] = get_args(Method)


def is_control(method: Method) -> bool:
    """Whether a method is what the edit of each class's own latents must beat."""
    return isinstance(method, Drawn | Exchanged | Push) or method.null_sae != "none"


DRAWN = {method.command for method in METHODS if method().is_drawn_by_class}


def is_drawn(command: str, control: str) -> bool:
    """Whether a run of this command, on this null SAE, drew something at random for each class.

    A random vector is drawn for every image, so that its luck is among that of the images.
    """
    return command in DRAWN or control == "shuffled"


# What methods were called in the files and tags of earlier runs.
FORMER = {
    "random-vector": RandVec.command,
    "random-feature": RandFeat.command,
    "automatic-feature": AutoFeat.command,
    "manual-feature": MANUAL,
    "mean-difference": MeanDiff.command,
    "ablation": Ablate.command,
    "insertion": Insert.command,
    "constant-push": Push.command,
    "next-best-feature": NextBest.command,
    "other-class-feature": OtherClass.command,
}


def called_now(method: str) -> str:
    """What a method of a file or tag is called today."""
    return FORMER.get(method, method)
