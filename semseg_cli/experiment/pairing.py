"""Which autoencoder is used at which layer: one that says its layer there alone, others at each."""

import glob
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from semseg_cli.errors import SemsegError, UsageError
from semseg_cli.experiment.images import find_data
from semseg_cli.experiment.named_inputs import MEASURED, PATTERN, require_inputs
from semseg_cli.experiment.parts import (
    find_device,
    load_backbone,
    read_head,
    read_sae,
)
from semseg_cli.experiment.place import AUTO, place_of
from semseg_cli.experiment.session import Session, session_of
from semseg_cli.files import expanded
from semseg_cli.models.sae import SparseAutoencoder
from semseg_cli.models.sae.statistics import place_in
from semseg_cli.models.vit import Backbone
from semseg_cli.progress import Progress, silent
from semseg_cli.settings.base import narrow
from semseg_cli.settings.inputs import Setup
from semseg_cli.settings.suite import SuiteSetup
from semseg_cli.settings.toml_files import INPUTS

log = logging.getLogger("semseg_cli")
GIVEN_PER_LAYER = ("act_mean", "act_norm")
OF_ONE_SAE = ("stats", "sparsity", "top_values")


@dataclass(frozen=True)
class Paired:
    """An autoencoder at a layer: its name, and the session with it."""

    name: str
    session: Session

    @property
    def layer(self) -> int:
        """The block whose residuals it reads."""
        return self.session.pipeline.layer


def sources_of(given: Sequence[str]) -> list[tuple[str, bool]]:
    """The files and folders that are named, and whether a pattern found them; each once.

    Raises:
        UsageError: a pattern fits nothing.
    """
    found: dict[str, bool] = {}
    for source in given:
        path = expanded(source)
        if "://" in source or path.exists() or not any(sign in source for sign in PATTERN):
            found[source] = False
            continue
        fitting = sorted(glob.glob(str(path)))
        if not fitting:
            raise UsageError(f"--sae-ckpt {source!r} fits no file: check the folder")
        for path_found in fitting:
            found.setdefault(path_found, True)
    return list(found.items())


def is_one(base: SuiteSetup) -> bool:
    """Whether at most one autoencoder and one layer are named."""
    return len(sources_of(base.sae_ckpt)) < 2 and len(base.vit_layer) < 2


def setup_of_one(base: SuiteSetup) -> Setup:
    """The settings of a suite of one autoencoder."""
    named: dict[str, Any] = {
        "sae_ckpt": next((source for source, _ in sources_of(base.sae_ckpt)), None),
        "vit_layer": next(iter(base.vit_layer), None),
    }
    for name in GIVEN_PER_LAYER:
        values = getattr(base, name)
        if len(values) > 1:
            raise UsageError(f"{_flag(name)} is given several times: one SAE has one, name one")
        named[name] = values[0] if values else None
    return narrow(base, Setup, **named)


def open_pairs(base: SuiteSetup, progress: Progress = silent) -> list[Paired]:
    """Every autoencoder at the layers that it fits, on one ViT, head and set of images.

    Raises:
        UsageError: no autoencoder fits a layer, or it is not clear which statistics are whose.
        SemsegError: something is missing, unreadable, or does not fit the rest.
    """
    if given := [name for name in OF_ONE_SAE if getattr(base, name) is not None]:
        raise UsageError(
            f"{_flag(given[0])} belongs to one SAE: leave it out of a suite of several"
        )
    common = narrow(base, Setup, sae_ckpt="", vit_layer=None, act_mean=None, act_norm=None)
    require_inputs(common, INPUTS)
    device = find_device(common.device)
    find_data(common, [common.imgs.split], progress)
    head, vit = read_head(common, device), load_backbone(common, device)
    saes = _read_all(base, common, device)
    setups = _without_twins([one for sae in saes for one in _placed(base, common, sae, vit)])
    del saes  # each is read again where its input scaling is set
    if not setups:
        raise UsageError("No SAE of --sae-ckpt fits the ViT and --vit-layer: name others")
    layers = sorted({one.layer for one in setups})
    _warn_of_unused(base, layers)
    found: list[Paired] = []
    for one in sorted(setups, key=lambda one: one.layer):
        mean, norm = (_statistic(base, name, one.layer, layers) for name in GIVEN_PER_LAYER)
        setup = replace(one.setup, act_mean=mean, act_norm=norm)
        session = session_of(setup, vit, read_sae(setup, device), head, progress)
        if found:
            session.with_images_of(found[0].session)
        _ = session.dataset, session.lookup_dataset
        found.append(Paired(one.name, session))
    return found


@dataclass(frozen=True)
class _Placed:
    """An autoencoder that is to be used at a layer."""

    name: str
    digest: str
    layer: int
    setup: Setup


@dataclass(frozen=True)
class _Read:
    """An autoencoder's file, its name, and what is in it."""

    source: str
    name: str
    sae: SparseAutoencoder


def _read_all(base: SuiteSetup, common: Setup, device: torch.device) -> list[_Read]:
    """The autoencoders; a file of a pattern that holds none is left out, with a sentence."""
    sources = sources_of(base.sae_ckpt)
    found = []
    for (source, is_found), name in zip(sources, _names([s for s, _ in sources]), strict=True):
        try:
            found.append(_Read(source, name, read_sae(replace(common, sae_ckpt=source), device)))
        except SemsegError as error:
            if not is_found:
                raise
            log.warning("%s is left out: %s.", name, str(error).partition(" (")[0].rstrip("."))
    return found


def _names(sources: Sequence[str]) -> list[str]:
    """What to call them: the last part of the path, or as many as tell them apart."""
    parts = [Path(source).parts for source in sources]
    for n in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(one[-n:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return list(sources)


def _placed(base: SuiteSetup, common: Setup, one: _Read, vit: Backbone) -> list[_Placed]:
    """An autoencoder at each layer that it fits."""
    found = []
    for layer in _layers(base, one, vit.n_layers):
        setup = replace(common, sae_ckpt=one.source, vit_layer=layer)
        place = place_of(setup, one.sae.trained_at, vit.n_layers)
        found.append(_Placed(one.name, one.sae.digest, place.layer, setup))
    return found


def _layers(base: SuiteSetup, one: _Read, n_layers: int) -> list[int | None]:
    """The layers to name for an autoencoder; None leaves it to what its file says."""
    given, site = list(base.vit_layer), base.vit_site
    places = [p for p in one.sae.trained_at.places(n_layers) if site in (AUTO, p[1])]
    told = [layer for layer, _ in places if layer is not None]
    if not given or not told:
        return [*given] or [None]
    if fitting := [layer for layer in told if layer in given]:
        return [fitting[0]]
    log.warning(
        "%s is of layer %d, as its file says, which is none of --vit-layer %s: it is left out.",
        one.name, told[0], ", ".join(map(str, given)),
    )  # fmt: skip
    return []


def _without_twins(placed: Sequence[_Placed]) -> list[_Placed]:
    """Each autoencoder once at a layer, whatever its files are called."""
    found: dict[tuple[str, int], _Placed] = {}
    for one in placed:
        first = found.setdefault((one.digest, one.layer), one)
        if first is not one:
            log.warning("%s is the same SAE as %s: it is left out.", one.name, first.name)
    return list(found.values())


def _statistic(
    base: SuiteSetup, name: str, layer: int, layers: Sequence[int]
) -> float | str | None:
    """The given statistic of a layer; None where it is to be computed."""
    values: Sequence[float | str] = getattr(base, name)
    told = [(value, place_in(value)) for value in values]
    fitting = [value for value, place in told if place is not None and place[0] == layer]
    fitting = fitting or [value for value, place in told if place is None]
    if len(fitting) > 1:
        raise UsageError(f"{_flag(name)} has several that may be of layer {layer}: name one for it")
    if not fitting:
        return None
    if len(layers) > 1 and place_in(fitting[0]) is None and not _holds_anywhere(fitting[0]):
        raise UsageError(
            f"{_flag(name)} {fitting[0]} does not say its layer, and there are several: make it "
            "with `semseg-cli stats`, or leave it out"
        )
    return fitting[0]


def _holds_anywhere(value: float | str) -> bool:
    if value == MEASURED:
        return True
    try:
        float(value)
    except ValueError:
        return False
    return True


def _warn_of_unused(base: SuiteSetup, layers: Sequence[int]) -> None:
    for name in GIVEN_PER_LAYER:
        for value in getattr(base, name):
            place = place_in(value)
            if place is not None and place[0] not in layers:
                log.warning(
                    "%s %s is of layer %d, where no SAE reads: it is not used.",
                    _flag(name), value, place[0],
                )  # fmt: skip


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
