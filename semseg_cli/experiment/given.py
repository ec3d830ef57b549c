"""Parts that are in memory already, in place of those that settings name."""

from dataclasses import dataclass

import torch
from torch import nn

from semseg_cli.data.held import Data
from semseg_cli.experiment.parts import (
    check_expectations,
    load_backbone,
    read_head,
    read_sae,
)
from semseg_cli.models.head import SegmentationHead
from semseg_cli.models.memory_budget import make_budget
from semseg_cli.models.sae import SparseAutoencoder
from semseg_cli.models.sae.of_module import sae_of
from semseg_cli.models.vit import Backbone
from semseg_cli.settings.inputs import Setup


@dataclass(frozen=True)
class Given:
    """What a user has loaded; None for what the settings name."""

    vit: Backbone | None = None
    sae: nn.Module | None = None
    head: SegmentationHead | None = None
    data: Data | None = None


NOTHING = Given()


def load_parts(
    setup: Setup, device: torch.device, given: Given, *, needs_head: bool
) -> tuple[Backbone, SparseAutoencoder, SegmentationHead | None]:
    """The parts that are given, and the others read; of files the small ones come first."""
    sae = None if given.sae is not None else read_sae(setup, device)
    head = None
    if needs_head:
        head = given.head or read_head(setup, device)
    vit = given.vit or load_backbone(setup, device)
    if given.vit is not None:
        check_expectations(setup, vit)
        vit.budget = make_budget(setup.memory_budget, vit.device)
    if sae is None:
        assert given.sae is not None
        sae = sae_of(given.sae, vit.d_model)
    return vit, sae, head
