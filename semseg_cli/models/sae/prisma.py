"""Prisma (ViT-Prisma): a folder with `config.json` and a state dict `weights.pt`.

The tensors have SAELens' names; b_dec is always subtracted, tokens are layer-normalised unless the
config says otherwise.
"""

import warnings

from semseg_cli.errors import SemsegError
from semseg_cli.models.sae.model import SparseAutoencoder
from semseg_cli.models.sae.saelens import build, upgraded
from semseg_cli.models.sae.source import Source
from semseg_cli.models.weight_files import read_json, read_state

CONFIG = "config.json"
NOT_OURS = "ae.pt"  # dictionary_learning has a config.json too
ARCHITECTURES = ("standard", "gated")


def recognises(source: Source) -> bool:
    """Whether there is one PyTorch file beside Prisma's config."""
    return (
        CONFIG in source.names and NOT_OURS not in source.names and len(source.matching(".pt")) == 1
    )


def read(source: Source) -> SparseAutoencoder:
    """The autoencoder in a Prisma folder."""
    path, cfg = source.folder / source.only(".pt"), read_json(source.file(CONFIG))
    if cfg.get("is_transcoder"):
        raise SemsegError(
            f"The SAE {path} is a transcoder (is_transcoder in {CONFIG}): it cannot be used."
        )
    if cfg.get("architecture", "standard") not in ARCHITECTURES:
        raise SemsegError(
            f"The SAE {path} has the architecture {cfg['architecture']!r}: "
            f"{', '.join(ARCHITECTURES)} are read."
        )
    if cfg.get("cls_token_only"):
        warnings.warn(
            f"The SAE {path} was trained on CLS tokens only; here it reads patch tokens.",
            stacklevel=2,
        )
    own = {"apply_b_dec_to_input": True, "reshape_activations": "none"}
    return build(
        path, upgraded({"normalize_activations": "layer_norm", **cfg, **own}), read_state(path)
    )
