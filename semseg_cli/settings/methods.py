"""Choosing latents, and the union of methods."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from semseg_cli.settings.base import Settings, option

Select = Literal["f1", "causal"]
VectorMatch = Literal["none", "norm"]
LatentMatch = Literal["none", "frequency", "max"]
Removal = Literal["norm", "project"]
Control = Literal["none", "shuffled"]


@dataclass(frozen=True, kw_only=True)
class Selection(Settings):
    """How each class gets its latent."""

    panel: ClassVar[str] = "Choice of latents"

    select: Select = option(
        "f1",
        "f1: the latent with the best F1. causal: of the --top-k best by F1, the one whose own "
        "edit has the largest target minus other change.",
    )
    top_k: int = option(3, "Latents listed per class, and candidates of the causal rule.", ge=1)
    top_k_group: int = option(1, "Set this many of a class's best latents together.", ge=1)
    select_images: int = option(
        200, "Causal rule: images with the class, and as many without it, at most.", ge=1
    )
    threshold: tuple[float, ...] = option(
        (0.0, 0.05, 0.1, 0.2, 0.3, 0.5),
        "A latent detects a patch above this share of its maximum; each class takes the best of "
        "these (repeatable).",
        ge=0.0,
        le=0.99,
    )
    max_freq: float = option(
        0.01, "Latents that fire on a larger share of patches are no candidates.", gt=0.0, le=1.0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_distinct("threshold", self.threshold)


def _require_distinct(name: str, values: tuple[float, ...]) -> None:
    if not values:
        raise ValueError(f"{name} is empty: give at least one number")
    if len(set(values)) < len(values):
        raise ValueError(f"{name} is {values}: give each number once")


@dataclass(frozen=True, kw_only=True)
class LatentChoice(Selection):
    """A choice of latents, made now or reused."""

    lookup: str | None = option(
        None, "Reuse latents: a lookup.csv, a run folder or a run id of the store.", path=True
    )


@dataclass(frozen=True, kw_only=True)
class Scaled(Settings):
    """Scales in units of a latent's maximum observed activation."""

    panel: ClassVar[str] = "Intervention"

    scale: tuple[float, ...] = option(
        (-2.0,), "Set the latent to this many times its maximum (repeatable).", ge=-10.0, le=10.0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_distinct("scale", self.scale)


@dataclass(frozen=True, kw_only=True)
class Drawn(Settings):
    """Random controls: how many independent draws."""

    panel: ClassVar[str] = "Intervention"

    draws: int = option(1, "Independent random draws, all in one pass over the images.", ge=1)


@dataclass(frozen=True, kw_only=True)
class RandVec(LatentChoice, Drawn, Scaled):
    """Control: push every patch along a random direction."""

    panel: ClassVar[str] = "Intervention"
    name: ClassVar[str] = "random-vector"
    command: ClassVar[str] = "rand-vec"

    scale: tuple[float, ...] = option(
        (-2.0,), "Length of the random vector in raw activation units (repeatable); with "
        "--match norm, the scale of the automatic edit whose length it takes.",
    )  # fmt: skip
    match: VectorMatch = option(
        "none", "norm: as long, patch by patch, as the automatic edit of each class would be."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.match == "norm":
            Scaled(scale=self.scale)


@dataclass(frozen=True, kw_only=True)
class RandFeat(LatentChoice, Drawn, Scaled):
    """Control: set one random live latent per class."""

    panel: ClassVar[str] = "Intervention"
    name: ClassVar[str] = "random-feature"
    command: ClassVar[str] = "rand-feat"

    match: LatentMatch = option(
        "none",
        "Draw among the latents most like each class's own latent in firing frequency, or in "
        "maximum activation.",
    )


@dataclass(frozen=True, kw_only=True)
class AutoFeat(LatentChoice, Scaled):
    """Set each class's own latent."""

    panel: ClassVar[str] = "Intervention"
    name: ClassVar[str] = "automatic-feature"
    command: ClassVar[str] = "auto-feat"

    control: Control = option(
        "none", "shuffled: the same, on a dictionary whose decoder rows are permuted."
    )


@dataclass(frozen=True, kw_only=True)
class MeanDiff(LatentChoice, Scaled):
    """Supervised baseline: take out each class's difference of means."""

    panel: ClassVar[str] = "Intervention"
    name: ClassVar[str] = "mean-difference"
    command: ClassVar[str] = "mean-diff"

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


@dataclass(frozen=True, kw_only=True)
class Choose(Selection, Scaled):
    """Choose latents without intervening; the causal rule tries each at the given scale."""


Method = RandVec | RandFeat | AutoFeat | MeanDiff
METHODS: tuple[type[Method], ...] = get_args(Method)
MANUAL = "manual-feature"  # what auto-feat is called with latents that a user wrote down
