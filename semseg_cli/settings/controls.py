"""The controls: what an automatic edit must beat."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from semseg_cli.settings.base import option
from semseg_cli.settings.choosing import Scaled
from semseg_cli.settings.intervening import Drawn

VectorMatch = Literal["none", "norm"]
LatentMatch = Literal["none", "frequency", "max"]


@dataclass(frozen=True, kw_only=True)
class RandVec(Drawn):
    """Control: push every patch along a random direction."""

    panel: ClassVar[str] = "Intervention"
    name: ClassVar[str] = "random-vector"
    command: ClassVar[str] = "rand-vec"
    told: ClassVar[tuple[str, ...]] = ("match",)

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
