"""Frozen vision transformers: the residual stream after a block, and the rest of the network.

The models are transformers' own. A family is one row of `families.FAMILIES`.
"""

from semseg_cli.models.vit.backbone import Backbone
from semseg_cli.models.vit.families import ALIASES, FAMILIES, Family
from semseg_cli.models.vit.hooks import HookHandle, register_hook
from semseg_cli.models.vit.load import load_vit

__all__ = [
    "ALIASES",
    "FAMILIES",
    "Backbone",
    "Family",
    "HookHandle",
    "load_vit",
    "register_hook",
]
