"""overcomplete: a safetensors export of a model's state dict with a small JSON beside it.

The library itself only pickles whole models. The decoder has no bias.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semseg_cli.errors import SemsegError
from semseg_cli.models.sae.model import SparseAutoencoder
from semseg_cli.models.sae.nonlinearities import Activation, JumpReLU, Threshold, TopK
from semseg_cli.models.sae.source import Source, listed, take
from semseg_cli.models.weight_files import read_json, read_safetensors, safetensors_keys

DICTIONARY = "dictionary._weights"
ENCODERS = ("encoder.final_block.0", "encoder.0", "encoder")  # MLPEncoder, Sequential, Linear
L2_EPS = 1e-8
BATCH_NORM_EPS = 1e-5


def recognises(source: Source) -> bool:
    """Whether there is one safetensors file that holds overcomplete's dictionary."""
    found = source.matching(".safetensors")
    if len(found) != 1:
        return False
    return any(key.startswith("dictionary.") for key in safetensors_keys(source.folder / found[0]))


def read(source: Source) -> SparseAutoencoder:
    """The autoencoder in an export of overcomplete."""
    path = source.folder / source.only(".safetensors")
    own = f"{path.stem}.json"
    cfg = read_json(source.folder / (own if own in source.names else source.only(".json")))
    state = read_safetensors(path)
    if DICTIONARY not in state and any(key.startswith("dictionary.") for key in state):
        raise SemsegError(
            f"The SAE file {path} lacks {DICTIONARY}; it holds {listed(state)}: for an archetypal "
            f"dictionary export sae.get_dictionary() under that name, with normalization identity."
        )
    W_dec = _dictionary(path, cfg, state)
    W_enc, b_enc = _encoder(path, state)
    return SparseAutoencoder(
        W_enc,
        b_enc,
        W_dec,
        torch.zeros(W_dec.shape[1]),
        _activation(path, cfg, state),
        needs_scaling=False,
    )


def _dictionary(path: Path, cfg: dict[str, Any], state: dict[str, Tensor]) -> Tensor:
    (weights,) = take(path, state, [DICTIONARY])
    normalization = cfg.get("normalization", "l2")
    if normalization not in ("l2", "identity"):
        raise SemsegError(
            f"The SAE {path} has the normalization {normalization!r}: l2, or export "
            "sae.get_dictionary() with normalization identity."
        )
    if normalization == "l2":
        weights = weights / (weights.norm(dim=1, keepdim=True) + L2_EPS)
    return weights * torch.exp(state.get("dictionary.multiplier", torch.zeros(())).float())


def _encoder(path: Path, state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """W_enc and b_enc of a linear encoder, with or without batch normalisation."""
    found = [name for name in ENCODERS if f"{name}.weight" in state]
    if not found or any(key.startswith("encoder.mlp_blocks") for key in state):
        raise SemsegError(
            f"The SAE file {path} has no linear encoder; it holds {listed(state)}: deeper encoders "
            "cannot be used."
        )
    weight, bias = take(path, state, [f"{found[0]}.weight", f"{found[0]}.bias"])
    norm = f"{found[0].removesuffix('0')}1"
    if f"{norm}.running_var" in state:
        names = [f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        gain, shift, mean, variance = take(path, state, names)
        gain = gain / torch.sqrt(variance + BATCH_NORM_EPS)
        return (weight * gain[:, None]).T, (bias - mean) * gain + shift
    if f"{norm}.weight" in state:
        raise SemsegError(
            f"The SAE file {path} normalises all latents of a token together (layer norm in the "
            "encoder): it cannot be used."
        )
    return weight.T, bias


def _activation(path: Path, cfg: dict[str, Any], state: dict[str, Tensor]) -> Activation:
    top_k, threshold = cfg.get("top_k"), cfg.get("threshold")
    if "thresholds" in state:
        return JumpReLU(torch.exp(state["thresholds"].float()))
    if top_k is not None and threshold is not None:
        raise SemsegError(f"The JSON beside {path} has top_k and threshold: give one of them.")
    if top_k is not None:
        if not isinstance(top_k, int):
            raise SemsegError(f"The JSON beside {path} has no whole number top_k: {top_k!r}.")
        return TopK(top_k, relu=True)
    return Threshold(float(threshold or 0.0))
