"""SAELens: a folder with `cfg.json` and `sae_weights.safetensors`.

Prisma stores the same tensors under the same names, so it shares what is below `read`.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semseg_cli.errors import FileError, SemsegError
from semseg_cli.models.sae.model import SparseAutoencoder
from semseg_cli.models.sae.nonlinearities import (
    AbsTopK,
    Gated,
    JumpReLU,
    Nonlinearity,
    Threshold,
    TopK,
)
from semseg_cli.models.sae.pursuit import StoppingPursuit
from semseg_cli.models.sae.source import Source, take
from semseg_cli.models.sae.token_norm import TOKEN_NORMS
from semseg_cli.models.sae.trained_at import of_hook
from semseg_cli.models.sae.weights import fold_decoder_norms, fold_whitening, gated
from semseg_cli.models.weight_files import read_object, read_safetensors

CONFIG = "cfg.json"
WEIGHTS_FILE = "sae_weights.safetensors"
SPARSITY_FILE = "sparsity.safetensors"
WHITENING_FILE = "activation_whitening.safetensors"
ARCHITECTURES = ("standard", "topk", "abstopk", "jumprelu", "gated", "matching_pursuit")
UNUSABLE = {
    "transcoder": "predicts the output of a module, not its own input",
    "temporal": "mixes the tokens of a sequence, so no edit of one patch can be told",
}
WHITENED = "covariance_whitening"
NEVER_FIRED = -9.9  # SAELens writes log10(frequency + 1e-10)


def recognises(source: Source) -> bool:
    """Whether the weights have SAELens' name."""
    return WEIGHTS_FILE in source.names


def read(source: Source) -> SparseAutoencoder:
    """The autoencoder in a SAELens folder, of any version."""
    path = source.file(WEIGHTS_FILE)
    cfg = read_object(source.file(CONFIG))
    whitening = None
    if cfg.get("normalize_activations") == WHITENED:
        beside = source.folder / WHITENING_FILE
        whitening = beside if beside.is_file() else None
    sae = build(path, upgraded(cfg, path.with_name(CONFIG)), read_safetensors(path), whitening)
    if SPARSITY_FILE in source.names:
        (log10,) = take(path, read_safetensors(source.folder / SPARSITY_FILE), ["sparsity"])
        sae.firing_frequency = frequencies(log10)
    return sae


def frequencies(log10: Tensor) -> Tensor:
    """Firing frequencies from SAELens' logarithms; latents that never fired get 0."""
    return torch.where(log10 < NEVER_FIRED, 0.0, 10.0**log10)


def upgraded(cfg: dict[str, Any], path: Path) -> dict[str, Any]:
    """A config in the names of version 6, whose metadata older versions kept flat."""
    cfg = {**cfg, **_part(cfg, "metadata", path)}
    kwargs = _part(cfg, "activation_fn_kwargs", path)
    activation = cfg.get("activation_fn_str") or cfg.get("activation_fn") or "relu"
    normalise = cfg.get("normalize_activations") or "none"
    if activation == "topk":
        cfg["architecture"] = "topk"
    return {
        **cfg,
        "architecture": cfg.get("architecture", "standard"),
        "activation": activation,
        "k": kwargs.get("k", cfg.get("k")),
        "hook_name": cfg.get("hook_name") or cfg.get("hook_point"),
        "normalize_activations": "expected_average_only_in" if normalise is True else normalise,
    }


def _part(cfg: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    value = cfg.get(name) or {}
    if not isinstance(value, dict):
        raise FileError(f"{path} has {name} {value!r}: expected an object.")
    return value


def build(
    path: Path, cfg: dict[str, Any], state: dict[str, Tensor], whitening: Path | None = None
) -> SparseAutoencoder:
    """The autoencoder of an upgraded config and its tensors.

    Args:
        path: for messages.
        cfg: the config.
        state: the tensors.
        whitening: the file of the whitening that a training checkpoint has not folded yet.
    """
    if whitening:
        cfg = {**cfg, "normalize_activations": "none"}
    _refuse(path, cfg)
    if cfg["architecture"] == "matching_pursuit":
        return _pursuit(path, cfg, state)
    W_enc, W_dec, b_dec = take(path, state, ["W_enc", "W_dec", "b_dec"])
    b_enc, nonlinearity = _nonlinearity(path, cfg, state)
    centres_input = bool(cfg.get("apply_b_dec_to_input", True))
    if cfg["architecture"] in ("topk", "abstopk") and cfg.get("rescale_acts_by_decoder_norm"):
        W_enc, b_enc, W_dec, _ = fold_decoder_norms(W_enc, b_enc, W_dec)
    if whitening:
        affine = take(whitening, read_safetensors(whitening), ["mean", "matrix", "inverse_matrix"])
        weights = (W_enc, b_enc, W_dec, b_dec)
        W_enc, b_enc, W_dec, b_dec = fold_whitening(weights, *affine, centres_input=centres_input)
    sae = SparseAutoencoder(
        W_enc,
        b_enc,
        _finetuned(path, cfg, state, W_dec),
        b_dec,
        nonlinearity,
        token_norm=cfg["normalize_activations"],
        centres_input=centres_input,
        needs_scaling=False,
    )
    sae.trained_at = of_hook(cfg["hook_name"])
    return sae


def _pursuit(path: Path, cfg: dict[str, Any], state: dict[str, Tensor]) -> SparseAutoencoder:
    """Matching pursuit, which has no encoder and adds b_dec only where it subtracts it."""
    W_dec, b_dec = take(path, state, ["W_dec", "b_dec"])
    centres_input = bool(cfg.get("apply_b_dec_to_input", True))
    most = cfg.get("max_iterations")
    threshold = cfg.get("residual_threshold", StoppingPursuit.residual_threshold)
    if not isinstance(most, int | None) or not isinstance(threshold, int | float):
        raise SemsegError(
            f"The SAE {path} has max_iterations {most!r} and residual_threshold {threshold!r}: a "
            "whole number or null, and a number."
        )
    sae = SparseAutoencoder(
        W_dec.T,
        torch.zeros(len(W_dec)),
        W_dec,
        b_dec if centres_input else torch.zeros_like(b_dec),
        StoppingPursuit(float(threshold), most, bool(cfg.get("stop_on_duplicate_support", True))),
        token_norm=cfg["normalize_activations"],
        centres_input=centres_input,
        needs_scaling=False,
    )
    sae.trained_at = of_hook(cfg["hook_name"])
    return sae


def _refuse(path: Path, cfg: dict[str, Any]) -> None:
    architecture, normalise = cfg["architecture"], cfg["normalize_activations"]
    for kind, reason in UNUSABLE.items():
        if kind in str(architecture):
            raise SemsegError(f"The SAE {path} is a {architecture}: it {reason}; it is not read.")
    if architecture not in ARCHITECTURES:
        raise SemsegError(
            f"The SAE {path} has the architecture {architecture!r}: {', '.join(ARCHITECTURES)} are "
            "read (SAELens saves batchtopk and matryoshka for inference as jumprelu)."
        )
    if cfg["activation"] not in ("relu", "topk"):
        raise SemsegError(f"The SAE {path} has the activation {cfg['activation']!r}: relu, topk.")
    if normalise == "expected_average_only_in":
        raise SemsegError(
            f"The SAE {path} scales its input by the average norm of its training data "
            "(expected_average_only_in), a factor that the file does not hold: fold it with "
            "SAELens' sae.fold_activation_norm_scaling_factor(factor) and save the result."
        )
    if normalise == WHITENED:
        raise SemsegError(
            f"The SAE {path} whitens its input with a matrix that is not in the folder "
            f"({WHITENING_FILE}): use the model that SAELens saves at the end of training."
        )
    if not isinstance(normalise, str) or normalise not in TOKEN_NORMS:
        raise SemsegError(
            f"The SAE {path} has normalize_activations {normalise!r}: {', '.join(TOKEN_NORMS)}."
        )
    if cfg.get("reshape_activations", "none") not in ("none", None):
        raise SemsegError(
            f"The SAE {path} reads attention heads (reshape_activations "
            f"{cfg['reshape_activations']!r}), not the residual stream."
        )


def _nonlinearity(
    path: Path, cfg: dict[str, Any], state: dict[str, Tensor]
) -> tuple[Tensor, Nonlinearity]:
    """The encoder's bias and what follows it."""
    architecture = cfg["architecture"]
    if architecture == "gated":
        return _gated(path, state)
    (b_enc,) = take(path, state, ["b_enc"])
    if architecture in ("topk", "abstopk"):
        k = cfg["k"]
        if not isinstance(k, int):
            raise SemsegError(f"The SAE {path} is a topk without a whole number k: {k!r}.")
        return b_enc, TopK(k, relu=True) if architecture == "topk" else AbsTopK(k)
    if architecture == "jumprelu":
        (threshold,) = take(path, state, ["threshold"])
        return b_enc, JumpReLU(threshold)
    return b_enc, Threshold()


def _gated(path: Path, state: dict[str, Tensor]) -> tuple[Tensor, Gated]:
    b_gate, b_mag, r_mag = take(path, state, ["b_gate", "b_mag", "r_mag"])
    return b_gate, gated(b_gate, b_mag, r_mag)


def _finetuned(path: Path, cfg: dict[str, Any], state: dict[str, Tensor], W_dec: Tensor) -> Tensor:
    """W_dec times the factor per latent that versions before 6 could fine-tune."""
    factor = state.get("scaling_factor")
    if factor is None or bool(torch.all(factor == 1)):
        return W_dec
    if not cfg.get("finetuning_scaling_factor"):
        raise SemsegError(
            f"The SAE {path} holds a scaling_factor that {CONFIG} does not use: the file is bad."
        )
    return W_dec * factor.float()[:, None]
