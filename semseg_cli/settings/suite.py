"""Settings of the suite: which nulls a claim has to stand above."""

from dataclasses import dataclass
from typing import ClassVar

from semseg_cli.settings.base import Settings, option


@dataclass(frozen=True, kw_only=True)
class Nulls(Settings):
    """How many nulls each class stands among."""

    panel: ClassVar[str] = "Nulls"

    peers: int = option(
        199, "Random live latents, each set by the same rule; one edit serves all classes.", ge=1
    )
    matched: int = option(
        39, "Random live latents per class, each edit as long as the class's own, patch by patch.",
        ge=1,
    )  # fmt: skip
    matched_images: int = option(
        16, "Images per class, with patches of it, on which matched peers are tried.", ge=1
    )
