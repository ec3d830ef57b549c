"""What every method says of itself."""

from dataclasses import dataclass
from typing import ClassVar

from semseg_cli.settings.base import option
from semseg_cli.settings.choosing import LatentChoice, Scaled


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

    draws: int = option(1, "Independent random draws, all in one pass over the images.", ge=1)

    @property
    def n_draws(self) -> int:
        """How many edits are made per scale."""
        return self.draws
