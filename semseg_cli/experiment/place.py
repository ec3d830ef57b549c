"""Where the autoencoder reads: what the user says, else what its files say."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from torch import nn

from semseg_cli.errors import SemsegError
from semseg_cli.experiment.named_inputs import MEASURED, stats_file
from semseg_cli.models.sae import SparseAutoencoder
from semseg_cli.models.sae.statistics import NAMES, place_in, statistics_in
from semseg_cli.models.sae.trained_at import TrainedAt
from semseg_cli.models.vit import Backbone
from semseg_cli.models.vit.sites import NORM_OUT, RESID_POST
from semseg_cli.settings.inputs import SaeModel, VitSite

log = logging.getLogger("semseg_cli")
AUTO = "auto"
USUAL_LAYER = 11


@dataclass(frozen=True)
class Place:
    """A layer and a site, and sentences where something about them is doubtful."""

    layer: int
    site: str
    notes: tuple[str, ...] = ()


def place_of(setup: SaeModel, trained: TrainedAt, n_layers: int) -> Place:
    """Where the autoencoder is to read.

    Options win over what its files say; a contradiction is noted.
    """
    given_site = None if setup.vit_site == AUTO else str(setup.vit_site)
    given_layer = setup.vit_layer
    places = trained.places(n_layers)
    for layer, site in places:
        if given_site in (None, site) and (given_layer is None or layer in (None, given_layer)):
            known = layer or given_layer
            return Place(known or _usual(site, n_layers), site, _untold(known, site))
    site = given_site or trained.site or RESID_POST
    known = given_layer or trained.layer(n_layers)
    layer = known or _usual(site, n_layers)
    notes = _notes(trained, places, f"{site} of layer {layer}")
    return Place(layer, site, (*notes, *_untold(known, site)))


def _untold(layer: int | None, site: str) -> tuple[str, ...]:
    """That nobody says the layer, where there are several to take."""
    if layer is not None or site == NORM_OUT:
        return ()
    return (
        f"Neither --vit-layer nor the SAE's file says at which layer it reads: {USUAL_LAYER} is "
        "taken.",
    )


def _usual(site: str, n_layers: int) -> int:
    return n_layers if site == NORM_OUT else USUAL_LAYER


def _notes(
    trained: TrainedAt, places: Sequence[tuple[int | None, str]], where: str
) -> tuple[str, ...]:
    """What the files say against the place in use."""
    if places:
        told = " or ".join(f"{site} of layer {layer or 'unknown'}" for layer, site in places)
        said = f"The SAE's file says {trained.said} ({told})"
        return (f"{said}; your options win: it reads {where}.",)
    if trained.is_elsewhere:
        sites = ", ".join(one for one in get_args(VitSite) if one != AUTO)
        said = f"The SAE's file says {trained.said}, which is none of the sites ({sites})"
        return (f"{said}: it reads {where} instead.",)
    return ()


def require_patches(setup: SaeModel, sae: SparseAutoencoder) -> str:
    """A warning, where an autoencoder of CLS tokens is used all the same; else nothing.

    Raises:
        SemsegError: its files say that it was trained on CLS alone, and nothing allows that.
    """
    if setup.allow_cls_sae:
        return (
            "--allow-cls-sae: the SAE was trained on CLS tokens alone; what its latents do on "
            "patches has not been shown by anyone."
        )
    if sae.trained_at.cls_only:
        raise SemsegError(
            f"The SAE {setup.sae_ckpt} was trained on CLS tokens alone, as its config says, and "
            "patches are edited here: take one of patches or of all tokens, or add --allow-cls-sae."
        )
    return ""


def find_place(setup: SaeModel, sae: SparseAutoencoder, vit: Backbone) -> Place:
    """Where the autoencoder reads in this ViT; what is doubtful about it is said.

    Raises:
        SemsegError: it was trained on CLS alone.
    """
    place = place_of(setup, sae.trained_at, vit.n_layers)
    warning = require_patches(setup, sae)
    for sentence in (*place.notes, *filter(None, [warning])):
        log.warning("%s", sentence)
    return place


def stat_sources(setup: SaeModel) -> dict[str, float | str]:
    """Where each given statistic comes from: its own option, else the file of several; those that
    are asked to be `MEASURED` come from nowhere."""
    file = stats_file(setup.stats)
    held = [] if file is None else statistics_in(file)
    named = {name: getattr(setup, name) for name in NAMES}
    of_file = {name: file if name in held else None for name in NAMES}
    sources = {name: of_file[name] if own is None else own for name, own in named.items()}
    return {
        name: str(source) if isinstance(source, Path) else source
        for name, source in sources.items()
        if source not in (None, MEASURED)
    }


def warn_of_other_place(setup: SaeModel, layer: int, site: str) -> None:
    """Says so where a file of statistics was made at another layer or site."""
    sources: dict[str, str] = {}
    for name, source in stat_sources(setup).items():
        is_own = getattr(setup, name) is not None
        sources.setdefault(str(source), name.replace("_", "-") if is_own else "stats")
    for source, option in sources.items():
        told = place_in(source)
        if told not in (None, (layer, site)):
            log.warning(
                "--%s is of %s of layer %d, as its file says, and the SAE reads %s of layer %d: "
                "leave it out to have it computed.",
                *(option, told[1], told[0], site, layer),
            )


def is_site_open(setup: SaeModel, sae: SparseAutoencoder, vit: Backbone, layer: int) -> bool:
    """Whether it has to be measured if the autoencoder reads before or after the final norm."""
    has_norm = not isinstance(vit.family.final_norm(vit.model), nn.Identity)
    fits_both = {RESID_POST, NORM_OUT} <= set(sae.trained_at.sites)
    return setup.vit_site == AUTO and fits_both and layer == vit.n_layers and has_norm
