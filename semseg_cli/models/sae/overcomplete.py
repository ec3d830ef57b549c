"""overcomplete: a pickled model, or its state dict with a small JSON file beside it.

A pickled model is read without being run; its class says what the JSON file says of an export. The
decoder has no bias.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semseg_cli.errors import SemsegError
from semseg_cli.models.sae.model import SparseAutoencoder
from semseg_cli.models.sae.nonlinearities import JumpReLU, Nonlinearity, Threshold, TopK, at_least
from semseg_cli.models.sae.overcomplete_dictionary import FUSED, dictionary_of
from semseg_cli.models.sae.pursuit import MatchingPursuit, OrthogonalPursuit
from semseg_cli.models.sae.source import Source, listed, take
from semseg_cli.models.torch_files import Name, Record, is_module, is_small, module_tensors
from semseg_cli.models.weight_files import (
    as_state,
    read_object,
    read_safetensors,
    read_torch,
    safetensors_keys,
)

ENCODERS = ("encoder.final_block.0", "encoder.0", "encoder")  # MLPEncoder, Sequential, Linear
DEEP = ("encoder.mlp_blocks", "encoder.attention_blocks", "encoder.resnet_blocks")
BATCH_NORM_EPS = 1e-5
CLASSES = (
    "SAE",
    "TopKSAE",
    "BatchTopKSAE",
    "JumpSAE",
    "RATopKSAE",
    "RAJumpSAE",
    "MpSAE",
    "OMPSAE",
)
THRESHOLDS = "thresholds"  # of JumpSAE, as logarithms
Settings = dict[str, Any]


def recognises(source: Source) -> bool:
    """Whether there is one file that holds overcomplete's dictionary, or a model that has one."""
    found = source.matching(".safetensors")
    if len(found) == 1:
        return _is_ours(safetensors_keys(source.folder / found[0]))
    held = source.peek()
    return _is_ours(module_tensors(held) if is_module(held) else held)


def _is_ours(names: Any) -> bool:
    return isinstance(names, dict | list) and any(
        isinstance(name, str) and name.startswith("dictionary.") for name in names
    )


def read(source: Source) -> SparseAutoencoder:
    """The autoencoder in a pickled model or an export of overcomplete."""
    path = source.torch_file()
    held = read_torch(path) if path else None
    if path and isinstance(held, Record) and is_module(held):
        return build(path, _settings_of(path, held), module_tensors(held))
    path = path or source.folder / source.only(".safetensors")
    own = f"{path.stem}.json"
    cfg = read_object(source.folder / (own if own in source.names else source.only(".json")))
    state = read_safetensors(path) if held is None else as_state(path, held)
    return build(path, cfg, state)


def build(path: Path, cfg: Settings, state: dict[str, Tensor]) -> SparseAutoencoder:
    """The autoencoder of settings and a state dict."""
    W_dec = dictionary_of(path, cfg, state)
    kind = cfg.get("class")
    if kind not in (None, *CLASSES):
        raise SemsegError(
            f"The SAE {path} is of overcomplete's class {kind!r}: {', '.join(CLASSES)} are read."
        )
    is_pursuit = kind in ("MpSAE", "OMPSAE")
    W_enc, b_enc = _no_encoder(W_dec) if is_pursuit else _encoder(path, state, W_dec)
    return SparseAutoencoder(
        W_enc,
        b_enc,
        W_dec,
        torch.zeros(W_dec.shape[1]),
        _pursuit(path, cfg) if is_pursuit else _nonlinearity(path, cfg, state),
        needs_scaling=False,
    )


def _settings_of(path: Path, model: Record) -> Settings:
    """What the JSON file beside an export says, from a model's own attributes."""
    own = model.state()
    kind = model.kind.rpartition(".")[2]
    children = own.get("_modules", {})
    encoder, dictionary = (_values(children.get(name)) for name in ("encoder", "dictionary"))
    after = encoder.get("output_activation")
    if isinstance(after, Name) and not after.text.endswith(".ReLU"):
        raise SemsegError(f"The SAE {path} ends its encoder with {after.text}: ReLU is read.")
    normalization = dictionary.get("normalization")
    settings = {
        "class": kind,
        "k": own.get("k"),
        "max_iter": own.get("max_iter"),
        "top_k": own.get("top_k") if "TopK" in kind and "Batch" not in kind else None,
        "delta": dictionary.get("delta", 1.0),
    }
    if kind == "BatchTopKSAE":
        settings["threshold"] = _running_threshold(path, own)
    if isinstance(normalization, Name):
        settings["normalization"] = normalization.text.rpartition(".normalize_")[2]
    settings = {name: value for name, value in settings.items() if is_small(value)}
    if own.get("training", True) is False:
        settings[FUSED] = dictionary.get("_fused_dictionary")
    return settings


def _values(child: Any) -> Settings:
    return child.state() if isinstance(child, Record) else {}


def _running_threshold(path: Path, own: Settings) -> float:
    value = own.get("running_threshold")
    if not isinstance(value, Tensor | float | int):
        raise SemsegError(
            f"The SAE {path} is a BatchTopKSAE that has not been trained: it has no threshold."
        )
    return float(value)


def _no_encoder(W_dec: Tensor) -> tuple[Tensor, Tensor]:
    return W_dec.T, torch.zeros(len(W_dec))


def _encoder(path: Path, state: dict[str, Tensor], W_dec: Tensor) -> tuple[Tensor, Tensor]:
    """W_enc and b_enc of a linear encoder, with or without batch normalisation."""
    zeros = torch.zeros(len(W_dec))
    if any(key.startswith("encoder.tied_to.") for key in state):
        return W_dec.T, state.get("encoder.bias", zeros).float()
    found = [name for name in ENCODERS if f"{name}.weight" in state]
    if not found or any(key.startswith(DEEP) for key in state):
        raise SemsegError(
            f"The SAE file {path} has no linear encoder; it holds {listed(state)}: deeper encoders "
            "cannot be used (of MpSAE and OMPSAE, which have none, the JSON file names the class)."
        )
    (weight,) = take(path, state, [f"{found[0]}.weight"])
    bias = state.get(f"{found[0]}.bias", zeros).float()
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


def _pursuit(path: Path, cfg: Settings) -> Nonlinearity:
    k, n_steps = cfg.get("k"), cfg.get("max_iter")
    if type(k) is not int or not isinstance(n_steps, int | None):
        raise SemsegError(f"The SAE {path} is a {cfg['class']} without a whole number k: {k!r}.")
    if cfg["class"] == "MpSAE":
        return MatchingPursuit(k)
    return OrthogonalPursuit(k, n_steps or OrthogonalPursuit.n_steps)


def _nonlinearity(path: Path, cfg: Settings, state: dict[str, Tensor]) -> Nonlinearity:
    top_k, threshold = cfg.get("top_k"), cfg.get("threshold")
    if THRESHOLDS in state:
        low = torch.tensor(-torch.inf)
        return JumpReLU(torch.nextafter(torch.exp(state[THRESHOLDS].float()), low))  # "at least"
    if top_k is not None and threshold is not None:
        raise SemsegError(f"The JSON beside {path} has top_k and threshold: give one of them.")
    if top_k is not None:
        if not isinstance(top_k, int):
            raise SemsegError(f"The JSON beside {path} has no whole number top_k: {top_k!r}.")
        return TopK(top_k, relu=True)
    return Threshold(at_least(float(threshold)) if threshold else 0.0)
