"""When a latent counts as active: above shares of its maximum, or above plain activations."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from semseg_cli.models.sae.statistics import SaeStats
from semseg_cli.settings.latent_choice import Selection
from semseg_cli.typed import typed

log = logging.getLogger("semseg_cli")
SHARES = Selection().threshold
ABSOLUTE = (0.0, 0.1, 0.3, 1.0)  # the reference's
ROUNDING = 1.001  # products of another batch size may differ by as much, and far less


@dataclass(frozen=True, eq=False)
class Thresholds:
    """Levels, ascending, that an activation has to exceed; each counted in its latent's unit.

    `unit_s` is every latent's maximum, or None where levels are activations themselves.
    """

    levels: tuple[float, ...]
    unit_s: Tensor | None = None

    @classmethod
    def shares_of_maximum(cls, shares: Sequence[float], stats: SaeStats) -> Self:
        """Shares of each latent's maximum: no unit of activations can move them."""
        return cls(tuple(sorted(shares)), stats.top_values.clamp(min=0.0))

    @classmethod
    def absolute(cls, levels: Sequence[float] = ABSOLUTE) -> Self:
        """The same activations for every latent."""
        return cls(tuple(sorted(levels)))

    def to(self, device: torch.device | str) -> "Thresholds":
        """These on a device."""
        return Thresholds(self.levels, None if self.unit_s is None else self.unit_s.to(device))

    @typed
    def in_units(self, f_p: Float[Tensor, " p"], latents_p: Tensor) -> Float[Tensor, " p"]:
        """Activations of these latents as levels count them; beyond any where a unit is 0."""
        return f_p if self.unit_s is None else f_p / self.unit_s[latents_p]

    def in_activations(self, level: int, latent: int) -> float:
        """One threshold as an activation."""
        unit = 1.0 if self.unit_s is None else float(self.unit_s[latent])
        return self.levels[level] * unit

    def share(self, level: int) -> float | None:
        """One threshold as a share of the maximum, where levels are that."""
        return None if self.unit_s is None else self.levels[level]


def warn_of_small_maxima(most: float) -> None:
    """Logs a warning where an activation exceeds the maximum known of its latent `most` times."""
    if most > ROUNDING:
        log.warning(
            "Activations on the lookup split reach %.3g times the maxima in --top-values.\n"
            "Thresholds and scales stay shares of the maxima in that file: leave it out to have\n"
            "them measured.",
            most,
        )
