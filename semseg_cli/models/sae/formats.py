"""Files of sparse autoencoders: one reader per format, recognised by content."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from semseg_cli.errors import SemsegError
from semseg_cli.models.sae import (
    clipscope,
    dictionary_learning,
    msae,
    openai,
    overcomplete,
    patchsae,
    prisma,
    saelens,
    saev,
    sparsify,
    usae,
    visaebench,
)
from semseg_cli.models.sae.hub import fetch
from semseg_cli.models.sae.model import SparseAutoencoder
from semseg_cli.models.sae.source import Source, keys_found, open_source
from semseg_cli.readers import unreadable


@dataclass(frozen=True)
class Format:
    """One format: how to recognise its files, how to read them, what they are.

    `files` are what is fetched of a folder on the hub, as paths in it (`..` is one above) that may
    have a `*`; of these, configs are fetched beside a single file too.
    """

    recognises: Callable[[Source], bool]
    read: Callable[[Source], SparseAutoencoder]
    description: str
    files: tuple[str, ...] = ()


log = logging.getLogger("semseg_cli")
FORMATS = {
    "saev": Format(saev.recognises, saev.read, "sae.pt with one JSON header line", (saev.FILE,)),
    "saelens": Format(
        saelens.recognises,
        saelens.read,
        "folder with cfg.json and sae_weights.safetensors",
        (saelens.CONFIG, saelens.WEIGHTS_FILE, saelens.SPARSITY_FILE, saelens.WHITENING_FILE),
    ),
    "dictionary_learning": Format(
        dictionary_learning.recognises,
        dictionary_learning.read,
        "folder with config.json and ae.pt, or checkpoints/ae_{step}.pt",
        (
            dictionary_learning.CONFIG,
            f"../{dictionary_learning.CONFIG}",
            dictionary_learning.WEIGHTS_FILE,
            f"{dictionary_learning.STEPS}/ae_*.pt",
        ),
    ),
    "dictionary_learning_topk": Format(
        dictionary_learning.recognises_none,
        dictionary_learning.read_top_k,
        "the same of AutoEncoderTopK, where config.json is missing",
    ),
    "dictionary_learning_batchtopk": Format(
        dictionary_learning.recognises_none,
        dictionary_learning.read_batch_top_k,
        "the same of BatchTopKSAE, where config.json is missing",
    ),
    "sparsify": Format(
        sparsify.recognises,
        sparsify.read,
        "folder with cfg.json and sae.safetensors",
        (sparsify.CONFIG, sparsify.WEIGHTS_FILE),
    ),
    "visaebench": Format(
        visaebench.recognises,
        visaebench.read,
        "folder with sae.pt and config.json or .yaml that names topk, batchtopk or jumprelu",
        (*visaebench.WEIGHT_NAMES, *visaebench.CONFIGS),
    ),
    "clipscope": Format(
        clipscope.recognises, clipscope.read, "one .pt with k and model_state_dict"
    ),
    "usae": Format(
        usae.recognises,
        usae.read,
        "one .pth with overcomplete's state dict as model_state_dict, and one .yaml",
        ("config.yaml",),
    ),
    "openai": Format(openai.recognises, openai.read, "state dict with pre_bias and latent_bias"),
    "overcomplete": Format(
        overcomplete.recognises,
        overcomplete.read,
        "pickled model with a dictionary, or its state dict and one JSON file",
        ("sae.safetensors", "sae.json", "sae.pth"),
    ),
    "prisma": Format(
        prisma.recognises,
        prisma.read,
        "folder with config.json and weights.pt, or one .pt with Prisma's pickled config",
        (prisma.CONFIG, "weights.pt"),
    ),
    "patchsae": Format(
        patchsae.recognises, patchsae.read, "one .pt with cfg or config, and state_dict"
    ),
}
"""Format -> how it is read; the first that recognises the files is taken."""
FILES = tuple(dict.fromkeys(name for known in FORMATS.values() for name in known.files))


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
        log.warning(
            "%s does not say whether b_dec is subtracted before encoding (saev did so until "
            "2025-07-31): it is not; give centre_input, or measure with choose_centring.",
            path,
        )
    return sae


def load_undecided(
    path: str | Path,
    device: str | torch.device = "cpu",
    format: str = "auto",
    centre_input: str = "auto",
) -> SparseAutoencoder:
    """As `load`, without the warning: `centres_input` of the result may be None."""
    source = open_source(fetch(str(path), FILES))
    known = _format(source, format)
    try:
        sae = known.read(source)
    # Configs of other programs: whatever their values are used for, it does not fit.
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError, RuntimeError) as bad:
        reason = f"{(str(bad) or type(bad).__name__).splitlines()[0][:200]}"
        expected = f"expected {known.description}, check --sae-ckpt and --sae-format"
        raise unreadable(f"The SAE {source.path}", reason, expected) from bad
    if centre_input != "auto":
        sae = sae.recentred(centre_input == "yes")
    return sae.to(device)


def format_name(path: str | Path, format: str = "auto") -> str:
    """The name in `FORMATS` by which a file or folder would be read."""
    found = _format(open_source(fetch(str(path), FILES)), format)
    return next(name for name, known in FORMATS.items() if known is found)


def _format(source: Source, name: str) -> Format:
    if name in FORMATS:
        return FORMATS[name]
    for known in FORMATS.values():
        if known.recognises(source):
            return known
    msae.refuse(source)
    listed = "; ".join(f"{name}: {known.description}" for name, known in FORMATS.items())
    raise SemsegError(
        f"The SAE {source.path} is of no known format ({listed}); found: {keys_found(source)}; "
        "check --sae-ckpt."
    )


save = saev.save
