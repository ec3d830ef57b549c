"""Choosing latents, and the scales that they are set at."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from semseg_cli.settings.base import Settings, option

MOST_LATENTS = 1_000_000  # more than any SAE has
Select = Literal["f1", "causal", "cause"]


@dataclass(frozen=True, kw_only=True)
class Selection(Settings):
    """How each class gets its latent."""

    panel: ClassVar[str] = "Choice of latents"

    select: Select = option(
        "f1",
        "How each class gets its latent. f1: the one with the best F1. causal: of the --top-k best "
        "by F1, the one whose own edit has the largest target minus other change. cause: of these, "
        "and of the --top-cause latents whose edit would change most to first order, out of all.",
    )
    top_k: int = option(
        3, "Latents listed per class, and candidates of the causal rules.", ge=1, le=MOST_LATENTS
    )
    top_cause: int = option(
        5, "Candidates per class by first-order effect, for --select cause.", ge=1, le=MOST_LATENTS
    )
    top_k_group: int = option(
        1, "Set this many of a class's best latents together.", ge=1, le=MOST_LATENTS
    )
    select_images: int = option(
        200, "Causal rules: images with the class, and as many without it, at most.", ge=1
    )
    threshold: tuple[float, ...] = option(
        (0.0, 0.05, 0.1, 0.2, 0.3, 0.5),
        "A latent detects a patch above this share of its maximum; each class takes the best of "
        "these (repeatable).",
        ge=0.0,
        le=0.99,
    )
    max_freq: float = option(
        0.01, "Candidates fire on less than this share of patches.", gt=0.0, le=1.0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_distinct("threshold", self.threshold)

    @property
    def n_listed(self) -> int:
        """How many candidates are listed per class."""
        return max(self.top_k, self.top_k_group)

    @property
    def tries_edits(self) -> bool:
        """Whether candidates are tried by their own edits, which takes a head."""
        return self.select != "f1"

    @property
    def n_candidates(self) -> int:
        """How many latents are tried per class and scale, at most."""
        return self.n_listed + (self.top_cause if self.select == "cause" else 0)

    @property
    def looks_up(self) -> bool:
        """Whether latents are chosen, on the lookup split."""
        return True

    @property
    def needs_statistics(self) -> bool:
        """Whether latents are read at all, which takes the statistics of the SAE."""
        return True

    @property
    def needs_differences(self) -> bool:
        """Whether the classes' differences of means are taken, on the lookup split."""
        return False


def _require_distinct(name: str, values: tuple[float, ...]) -> None:
    if not values:
        raise ValueError(f"{name} is empty: give at least one number")
    if len(set(values)) < len(values):
        raise ValueError(f"{name} is {values}: give each number once")


@dataclass(frozen=True, kw_only=True)
class LatentChoice(Selection):
    """A choice of latents, made now or reused."""

    lookup: str | None = option(
        None, "Reuse latents: a lookup.csv, or a run by folder, name or id.", path=True
    )


@dataclass(frozen=True, kw_only=True)
class Scaled(Settings):
    """Scales in units of a latent's maximum observed activation."""

    panel: ClassVar[str] = "Intervention"

    scale: tuple[float, ...] = option(
        (-2.0,), "Set the latent to this many times its maximum (repeatable).", ge=-10.0, le=10.0
    )

    @property
    def tried_at(self) -> tuple[float, ...]:
        """At which scale the causal rule tries latents, for each scale."""
        return self.scale

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_distinct("scale", self.scale)


@dataclass(frozen=True, kw_only=True)
class Choose(Selection, Scaled):
    """Choose latents without intervening; the causal rule tries each at the given scale."""

    command: ClassVar[str] = "lookup"

    max_group: int | None = option(
        None, "Find each class's smallest group of at most this many latents that does what its "
        "best one does, and judge it on --imgs-split (groups.csv; takes a causal rule).", ge=1,
    )  # fmt: skip
