"""The controls: what an automatic edit must beat."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from semseg_cli.settings.base import option
from semseg_cli.settings.intervening import Dosed, Drawn, LengthMatch
from semseg_cli.settings.latent_choice import Scaled

LatentMatch = Literal["norm", "none", "frequency", "max"]


@dataclass(frozen=True, kw_only=True)
class RandVec(Drawn):
    """Control: push every patch along a random direction."""

    panel: ClassVar[str] = "Intervention"
    command: ClassVar[str] = "rand-vec"
    told: ClassVar[tuple[str, ...]] = ("match",)
    edits_latents: ClassVar[bool] = False

    scale: tuple[float, ...] = option(
        (-2.0,), "Length of the random vector in raw residual units (repeatable); with "
        "--match norm, the scale of the automatic edit whose length it takes.",
        ge=-1e6, le=1e6,
    )  # fmt: skip
    match: LengthMatch = option(
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

    def scale_name(self, number: str) -> str:
        """Unmatched, the number is a length in raw residual units."""
        return super().scale_name(number) if self.match == "norm" else f"{number} raw"


@dataclass(frozen=True, kw_only=True)
class RandFeat(Drawn):
    """Control: a random live latent per class, its edit as long."""

    panel: ClassVar[str] = "Intervention"
    command: ClassVar[str] = "rand-feat"
    told: ClassVar[tuple[str, ...]] = ("match",)

    match: LatentMatch = option(
        "norm",
        "norm: along the random latent, as long, patch by patch, as the automatic edit. none: set "
        "it to --scale times its own maximum. frequency, max: the same, drawn among the latents "
        "most like each class's own in firing frequency, or in maximum activation.",
    )

    @property
    def needs_latents(self) -> bool:
        """To be like them, or as long as their edits."""
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
class Push(Dosed):
    """Control: push every patch by the automatic edit's mean."""

    panel: ClassVar[str] = "Intervention"
    command: ClassVar[str] = "push"

    @property
    def needs_pushes(self) -> bool:
        """They are what is added."""
        return True


@dataclass(frozen=True, kw_only=True)
class Exchanged(Dosed):
    """Controls that take other latents than the class's own."""

    panel: ClassVar[str] = "Intervention"
    told: ClassVar[tuple[str, ...]] = ("match",)

    match: LengthMatch = option(
        "norm",
        "norm: along the other latent, as long, patch by patch, as the automatic edit. none: set "
        "it to --scale times its own maximum.",
    )


@dataclass(frozen=True, kw_only=True)
class NextBest(Exchanged):
    """Control: each class's next-best latent by the same rule."""

    panel: ClassVar[str] = "Intervention"
    command: ClassVar[str] = "next-best"

    @property
    def needs_next_best(self) -> bool:
        """They take the place of the chosen ones."""
        return True

    @property
    def n_listed(self) -> int:
        """As many again as are chosen."""
        return max(self.top_k, 2 * self.top_k_group)


@dataclass(frozen=True, kw_only=True)
class OtherClass(Exchanged):
    """Control: each class gets the latent of another class."""

    panel: ClassVar[str] = "Intervention"
    command: ClassVar[str] = "other-class"

    @property
    def is_drawn_by_class(self) -> bool:
        """Which other class it is."""
        return True
