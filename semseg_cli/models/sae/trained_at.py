"""Where in its model an autoencoder was trained, as far as its files say."""

import re
from dataclasses import dataclass
from typing import Any

from semseg_cli.models.vit.sites import (
    ATTN_OUT,
    MLP_OUT,
    NORM_OUT,
    RESID_MID,
    RESID_POST,
    RESID_PRE,
)

BLOCK = re.compile(r"(?:blocks|resblocks|layers?|h)\.(-?\d+)")
PATTERNS = {
    r"resid_pre$": RESID_PRE,
    r"resid_mid$": RESID_MID,
    r"resid_post$": RESID_POST,
    r"(?:mlp_out|\.mlp)$": MLP_OUT,
    r"(?:attn_out|\.(?:attn|self_attn|attention))$": ATTN_OUT,
    rf"{BLOCK.pattern}$": RESID_POST,
    r"^(?:ln_final\.hook_normalized|(?:.*\.)?(?:layernorm|post_layernorm|norm|ln_post))$": NORM_OUT,
}
"""The end of a hook's or module's name -> the site that it is; the first that fits is taken."""


@dataclass(frozen=True)
class TrainedAt:
    """A layer and a site of some tokens.

    Args:
        said: the words of the files; empty where they say nothing.
        block: the block's index from 0, or from -1 backwards; None where it is not said.
        sites: the sites that fit what is said; of several the better one has to be found out.
        cls_only: whether the files say that it saw CLS tokens alone.
    """

    said: str = ""
    block: int | None = None
    sites: tuple[str, ...] = ()
    cls_only: bool = False

    def layer(self, n_layers: int) -> int | None:
        """The layer, counted from 1, of a model with so many blocks."""
        if self.sites == (NORM_OUT,):
            return n_layers
        if self.block is None:
            return None
        return self.block + 1 if self.block >= 0 else n_layers + 1 + self.block

    @property
    def site(self) -> str | None:
        """The site, where one alone fits."""
        return self.sites[0] if len(self.sites) == 1 else None

    def places(self, n_layers: int) -> list[tuple[int | None, str]]:
        """Layers with sites that fit, under all their names; a layer may be unknown."""
        layer = self.layer(n_layers)
        found: list[tuple[int | None, str]] = [(layer, site) for site in self.sites]
        if layer is not None and self.site == RESID_PRE and layer > 1:
            found.append((layer - 1, RESID_POST))
        if layer is not None and self.site == RESID_POST and layer < n_layers:
            found.append((layer + 1, RESID_PRE))
        return found

    @property
    def is_elsewhere(self) -> bool:
        """Whether the files name a place that is none of the sites."""
        return bool(self.said) and not self.sites


def of_hook(name: Any, *, cls_only: bool = False) -> TrainedAt:
    """The place that the name of a hook or module says."""
    if not name or not isinstance(name, str):
        return TrainedAt(cls_only=cls_only)
    block = BLOCK.search(name)
    site = next((site for pattern, site in PATTERNS.items() if re.search(pattern, name)), None)
    return TrainedAt(name, int(block[1]) if block else None, (site,) if site else (), cls_only)


def of_block(block: Any, said: str, *sites: str) -> TrainedAt:
    """The place by a block's index from 0, where it is one; by default the stream after it."""
    if type(block) is not int:
        return TrainedAt()
    return TrainedAt(said, block, sites or (RESID_POST,))
