"""What every method says of itself."""

from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from semseg_cli.settings.base import narrow, option
from semseg_cli.settings.latent_choice import LatentChoice, Scaled

Control = Literal["none", "shuffled", "pca", "random"]
Direction = Literal["mean", "lda"]
LengthMatch = Literal["norm", "none"]
Measure = Literal["", "necessity", "sufficiency"]

COMMON_LENGTH = 0.5  # of the residuals' length: what edits are matched to
LENGTH_PASSES = 3  # over the lookup split, to match them: two to learn from, one to see


@dataclass(frozen=True, kw_only=True)
class Intervening(LatentChoice):
    """What every method says of itself; the properties hold for most."""

    panel: ClassVar[str] = "Intervention"
    command: ClassVar[str]  # what it is called everywhere
    told: ClassVar[tuple[str, ...]] = ()  # fields that its runs are named by, where not the default
    measure: ClassVar[Measure] = ""  # what its counts are a measure of
    edits_latents: ClassVar[bool] = True  # else directions, which owe an SAE their length at most
    protocols: ClassVar[tuple[str, ...]] = ("class", "label")  # under which it means something

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
    def needs_next_best(self) -> bool:
        """Whether each class's next best latents are used."""
        return False

    @property
    def needs_pushes(self) -> bool:
        """Whether the automatic edit's mean is measured, on the lookup split."""
        return False

    @property
    def common_length(self) -> float | None:
        """How long each class's edit is made, by the residuals; None: as its scale makes it."""
        return None

    @property
    def contrast(self) -> Direction:
        """Which differences between classes are measured, where they are."""
        return "mean"

    @property
    def n_more_passes(self) -> int:
        """How many passes over the lookup split it takes beside the choice of latents."""
        n_for_null_sae = 2 if self.has_other_latents else 0
        n_for_length = LENGTH_PASSES if self.common_length else 0
        return self.needs_differences + self.needs_pushes + n_for_length + n_for_null_sae

    @property
    def fixed_scale(self) -> float | None:
        """The scale that its results stand at; None where the user chooses."""
        return None

    @property
    def is_shared(self) -> bool:
        """Whether one edit serves all classes."""
        return False

    @property
    def null_sae(self) -> Control:
        """Which other SAE takes the place of the given one."""
        return "none"

    @property
    def has_other_latents(self) -> bool:
        """Whether that SAE has latents of its own, with statistics of their own."""
        return self.null_sae in ("pca", "random")

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

    def at(self, scale: float) -> Self:
        """These settings at one scale alone."""
        return self

    def scale_name(self, number: str) -> str:
        """A scale as its runs are named by."""
        return f"x{number}"

    def called(self, *, is_manual: bool) -> str:
        """What the method is called in tables and files; `is_manual`: a user wrote the latents
        down."""
        return self.command

    def run_name(self, *, is_manual: bool) -> str:
        """What a run is called, but for its scale: the command and how it differs from the plain
        one."""
        words = [str(getattr(self, key)) for key in self.told if self._differs(key)]
        if self.looks_up and self._differs("select"):
            words.append(self.select)
        if self.looks_up and self.top_k_group > 1:
            words.append(f"top{self.top_k_group}")
        return " ".join([self.called(is_manual=is_manual), *words])

    def _differs(self, key: str) -> bool:
        return bool(getattr(self, key) != getattr(type(self)(), key))


@dataclass(frozen=True, kw_only=True)
class Dosed(Intervening, Scaled):
    """Methods with a scale of the user's choice."""

    panel: ClassVar[str] = "Intervention"

    def at(self, scale: float) -> Self:
        """These settings at one scale alone."""
        return narrow(self, type(self), scale=(scale,))


@dataclass(frozen=True, kw_only=True)
class Drawn(Dosed):
    """Random controls: how many independent draws."""

    panel: ClassVar[str] = "Intervention"

    draws: int | None = option(
        None, "Independent random draws, all in one pass over the images; else as many as an "
        "interval needs (rand-feat: 6 in the label protocol, where they are cheap, and where "
        "classes are few; else 1).", ge=1, le=10_000,
    )  # fmt: skip

    @property
    def has_other_latents(self) -> bool:
        """Whether that SAE has latents of its own, with statistics of their own."""
        return self.null_sae in ("pca", "random")

    @property
    def n_draws(self) -> int:
        """How many edits are made per scale."""
        return self.draws or 1

    @property
    def is_open(self) -> bool:
        """Whether the number of draws is to be found: as many as an interval needs."""
        return self.draws is None
