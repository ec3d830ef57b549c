"""Files of sparse autoencoders: one reader per format, recognised by content."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from semseg_cli.errors import SemsegError
from semseg_cli.models.sae import dictionary_learning, overcomplete, prisma, saelens, saev, sparsify
from semseg_cli.models.sae.hub import fetch
from semseg_cli.models.sae.model import SparseAutoencoder
from semseg_cli.models.sae.source import Source, keys_found, open_source


@dataclass(frozen=True)
class Format:
    """One format: how to recognise its files, how to read them, what they are."""

    recognises: Callable[[Source], bool]
    read: Callable[[Source], SparseAutoencoder]
    description: str


FORMATS = {
    "saev": Format(saev.recognises, saev.read, "sae.pt with one JSON header line"),
    "saelens": Format(
        saelens.recognises, saelens.read, "folder with cfg.json and sae_weights.safetensors"
    ),
    "dictionary_learning": Format(
        dictionary_learning.recognises,
        dictionary_learning.read,
        "folder with config.json and ae.pt",
    ),
    "sparsify": Format(
        sparsify.recognises, sparsify.read, "folder with cfg.json and sae.safetensors"
    ),
    "overcomplete": Format(
        overcomplete.recognises,
        overcomplete.read,
        "safetensors export with dictionary._weights, and one JSON file",
    ),
    "prisma": Format(prisma.recognises, prisma.read, "folder with config.json and weights.pt"),
}


def load(
    path: str | Path,
    device: str | torch.device = "cpu",
    format: str = "auto",
    centre_input: str = "auto",
) -> SparseAutoencoder:
    """The autoencoder in a file or folder, in float32.

    Args:
        path: local, or `hf://owner/repo/path` on the Hugging Face hub.
        device: where to put it.
        format: a name in `FORMATS`; auto looks inside.
        centre_input: whether b_dec is subtracted before encoding: yes, no, or auto for what the
            format says. A file that does not say is read as no, with a warning.

    Raises:
        SemsegError: the file is missing, truncated, of an unknown format, or its weights are bad.
    """
    sae = load_undecided(path, device, format, centre_input)
    if sae.centres_input is None:
        warnings.warn(
            f"{path} does not say whether b_dec is subtracted before encoding (saev did so until "
            "2025-07-31): it is not; give centre_input, or measure with choose_centring.",
            stacklevel=2,
        )
    return sae


def load_undecided(
    path: str | Path,
    device: str | torch.device = "cpu",
    format: str = "auto",
    centre_input: str = "auto",
) -> SparseAutoencoder:
    """As `load`, without the warning: `centres_input` of the result may be None."""
    source = open_source(fetch(str(path)))
    sae = _format(source, format).read(source)
    if centre_input != "auto":
        sae = sae.recentred(centre_input == "yes")
    return sae.to(device)


def format_name(path: str | Path, format: str = "auto") -> str:
    """The name in `FORMATS` by which a file or folder would be read."""
    found = _format(open_source(fetch(str(path))), format)
    return next(name for name, known in FORMATS.items() if known is found)


def _format(source: Source, name: str) -> Format:
    if name in FORMATS:
        return FORMATS[name]
    for known in FORMATS.values():
        if known.recognises(source):
            return known
    listed = "; ".join(f"{name}: {known.description}" for name, known in FORMATS.items())
    raise SemsegError(
        f"The SAE {source.path} is of no known format ({listed}); found: {keys_found(source)}; "
        "check --sae-ckpt."
    )


save = saev.save
