"""The decoder of overcomplete's autoencoders: normalised weights, or archetypes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semseg_cli.errors import SemsegError
from semseg_cli.models.sae.source import listed, take

WEIGHTS = "dictionary._weights"
ARCHETYPES = ("dictionary.C", "dictionary.W", "dictionary.Relax")
MULTIPLIER = "dictionary.multiplier"
EPS = 1e-8
FUSED = "fused"  # in the settings of a model that was saved in evaluation: its dictionary


def dictionary_of(path: Path, cfg: dict[str, Any], state: dict[str, Tensor]) -> Tensor:
    """W_dec [s, d] of settings and a state dict.

    A model in evaluation holds the finished one.
    """
    if isinstance(cfg.get(FUSED), Tensor):
        return cfg[FUSED].float()
    multiplier = torch.exp(state.get(MULTIPLIER, torch.zeros(())).float())
    if set(ARCHETYPES) <= set(state):
        return _archetypal(path, cfg, state) * multiplier
    if WEIGHTS not in state:
        raise SemsegError(
            f"The SAE file {path} lacks {WEIGHTS}, or all of {', '.join(ARCHETYPES)}; it holds "
            f"{listed(state)}."
        )
    name = cfg.get("normalization", "l2")
    if not isinstance(name, str) or name not in NORMALIZATIONS:
        raise SemsegError(
            f"The SAE {path} has the normalization {name!r}: {', '.join(NORMALIZATIONS)}, or "
            "export sae.get_dictionary() with normalization identity."
        )
    (weights,) = take(path, state, [WEIGHTS])
    return NORMALIZATIONS[name](weights) * multiplier


def _archetypal(path: Path, cfg: dict[str, Any], state: dict[str, Tensor]) -> Tensor:
    """Convex combinations of the points C, each moved by at most delta."""
    points, mixture, moves = take(path, state, ARCHETYPES)
    delta = cfg.get("delta", 1.0)
    if not isinstance(delta, int | float):
        raise SemsegError(f"The SAE {path} has the delta {delta!r}, which is no number.")
    mixture = torch.relu(mixture)
    mixture = mixture / (mixture.sum(dim=1, keepdim=True) + EPS)
    lengths = moves.norm(dim=1, keepdim=True)
    shortened = moves * (delta / lengths.clamp(min=torch.finfo().tiny)).clamp(max=1)
    return mixture @ points + shortened


def _longest(lengths: Tensor) -> Tensor:
    return lengths.amax(dim=0, keepdim=True)


NORMALIZATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "l2": lambda w: w / (w.norm(dim=1, keepdim=True) + EPS),
    "max_l2": lambda w: w / _longest(w.norm(dim=1, keepdim=True)),
    "l1": lambda w: w / (w.norm(p=1, dim=1, keepdim=True) + EPS),
    "max_l1": lambda w: w / _longest(w.norm(p=1, dim=1, keepdim=True)),
    "identity": lambda w: w,
}
"""As overcomplete names them."""
