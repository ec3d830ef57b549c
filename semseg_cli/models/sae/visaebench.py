"""VISAEBench: `sae.pt` (or `model.safetensors`, `model.pt`) and a JSON or YAML config.

Trained on `(x - mean) / norm`, with one mean per dimension and one norm, the root of the mean
variance; the folder holds neither. The rules are those of the package's own wrapper.
"""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semseg_cli.errors import SemsegError
from semseg_cli.models.sae.model import SparseAutoencoder
from semseg_cli.models.sae.nonlinearities import JumpReLU, Nonlinearity, Threshold, TopK, at_least
from semseg_cli.models.sae.scaling import ROOT_MEAN_SQUARE
from semseg_cli.models.sae.source import Source, take
from semseg_cli.models.sae.trained_at import of_block
from semseg_cli.models.vit.sites import NORM_OUT, RESID_POST
from semseg_cli.models.weight_files import read_config, read_safetensors, read_state

log = logging.getLogger("semseg_cli")
WEIGHT_NAMES = ("sae.pt", "model.safetensors", "model.pt")
CONFIGS = ("config.json", "config.yaml", "config.yml")
KINDS = ("topk", "batchtopk", "jumprelu")
NAMED = ("activation", "sae_type", "architecture")  # the first of them that is there
SIMPLE = ("encoder.weight", "encoder.bias", "decoder.weight")
OVERCOMPLETE = (
    "encoder.final_block.0.weight",
    "encoder.final_block.0.bias",
    "dictionary._weights",
)
LAST_BLOCK = -1
JUMP = 0.01  # the package's own, where a file has no thresholds


def recognises(source: Source) -> bool:
    """Whether there are weights of that name, and a config that names one of the activations."""
    try:
        config = _config(source)
        is_named = any(config.get(name) for name in NAMED)
        return _weights(source) is not None and is_named and _kind(config) in KINDS
    except SemsegError:
        return False


def _weights(source: Source) -> Path | None:
    if source.path != source.folder:
        return source.path
    return next((source.folder / name for name in WEIGHT_NAMES if name in source.names), None)


def _config(source: Source) -> dict[str, Any]:
    found = next((name for name in CONFIGS if name in source.names), None)
    if found is None:
        raise SemsegError(f"The SAE {source.path} needs one of {', '.join(CONFIGS)} beside it.")
    return read_config(source.folder / found)


def _kind(config: dict[str, Any]) -> str:
    return str(next((config[name] for name in NAMED if config.get(name)), "topk")).lower()


def read(source: Source) -> SparseAutoencoder:
    """The autoencoder in a VISAEBench folder."""
    path, config = _weights(source), _config(source)
    if path is None:
        raise SemsegError(f"The SAE {source.path} needs one of {', '.join(WEIGHT_NAMES)}.")
    state = read_safetensors(path) if path.suffix == ".safetensors" else read_state(path)
    if SIMPLE[0] in state:
        encoder, b_enc, W_dec = take(path, state, SIMPLE)
    else:
        encoder, b_enc, W_dec = take(path, state, OVERCOMPLETE)
        # As the wrapper does: times the multiplier, and not normalised.
        W_dec = W_dec * torch.exp(state.get("dictionary.multiplier", torch.zeros(())).float())
    bias = state.get("decoder.bias", torch.zeros(W_dec.shape[-1])).float()
    sae = SparseAutoencoder(
        encoder.T,
        b_enc,
        W_dec,
        bias,
        _nonlinearity(path, config, state, len(W_dec)),
        norm_kind=ROOT_MEAN_SQUARE,
    )
    # All published ones are of the last block; whether before or after the norm is not known.
    block = config["layer"] if type(config.get("layer")) is int else LAST_BLOCK
    sae.trained_at = of_block(block, f"VISAEBench, block {block}", RESID_POST, NORM_OUT)
    return sae


def _nonlinearity(
    path: Path, config: dict[str, Any], state: dict[str, Tensor], n_latents: int
) -> Nonlinearity:
    """After a ReLU, which all three imply."""
    kind = _kind(config)
    if kind == "topk":
        if type(config.get("k")) is not int:
            raise SemsegError(f"The SAE {path} has no whole number k in its config.")
        return TopK(config["k"], relu=True)
    if kind == "batchtopk":
        return Threshold(_threshold(path, config, state))
    if kind != "jumprelu":
        raise SemsegError(f"The SAE {path} has the activation {kind!r}: {', '.join(KINDS)}.")
    thresholds = state.get("jump_thresholds", state.get("thresholds"))
    if thresholds is None:
        log.warning("%s has no thresholds: %s is used.", path, JUMP)
        thresholds = torch.full((n_latents,), JUMP)
    return JumpReLU(thresholds.float())


def _threshold(path: Path, config: dict[str, Any], state: dict[str, Tensor]) -> float:
    """From the config, else from the weights, else 0."""
    value = config.get("threshold", state.get("_running_threshold"))
    if value is None:
        log.warning("%s has no BatchTopK threshold: 0 is used (ReLU).", path)
        return 0.0
    try:
        return at_least(float(value))
    except (TypeError, ValueError) as error:
        raise SemsegError(f"The SAE {path} has the threshold {value!r}, no number.") from error
