"""The places of a block that an autoencoder can read and edit.

Tokens of a site are [b n e], and their last d columns are what is read and edited. Of what a block
adds to the residual stream (`attn-out`, `mlp-out`) the stream itself comes before it: e = 2 d.
Elsewhere e = d.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

RESID_POST, NORM_OUT, MLP_OUT = "resid-post", "norm-out", "mlp-out"
RESID_MID, ATTN_OUT, RESID_PRE = "resid-mid", "attn-out", "resid-pre"
BRANCHES = (ATTN_OUT, MLP_OUT)
INNER = (*BRANCHES, RESID_MID)
"""The sites inside a block."""


@dataclass(frozen=True)
class Parts:
    """The names of a block's parts.

    A factor is what the block multiplies its attention (1) or MLP (2) by before it adds it: a
    module, a tensor or a number; None where there is none.
    """

    attention: str
    norm_2: str
    mlp: str = "mlp"
    factor_1: str | None = None
    factor_2: str | None = None


def n_blocks_before(layer: int, site: str) -> int:
    """How many blocks run whole before a site of the layer, which counts from 1."""
    return layer - (site == RESID_PRE or site in INNER)


def tokens_at(
    block: nn.Module, parts: Parts, tokens_bnd: Tensor, site: str, inputs: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """The tokens at a site inside a block, and those after the block."""
    with _seen(block, parts) as seen:
        after_bnd = block(tokens_bnd, **inputs)
    if site == RESID_MID:
        return seen[RESID_MID], after_bnd
    stream_bnd = tokens_bnd if site == ATTN_OUT else seen[RESID_MID]
    return torch.cat([stream_bnd, seen[site]], dim=-1), after_bnd


@contextmanager
def _seen(block: nn.Module, parts: Parts) -> Iterator[dict[str, Tensor]]:
    """What is at the inner sites of a block while it runs."""
    seen: dict[str, Tensor] = {}

    def keep(site: str, found: Any) -> None:
        seen[site] = found[0] if isinstance(found, tuple) else found

    attention, norm, mlp = (
        block.get_submodule(name) for name in (parts.attention, parts.norm_2, parts.mlp)
    )
    handles = [
        attention.register_forward_hook(lambda _m, _args, out: keep(ATTN_OUT, out)),
        norm.register_forward_pre_hook(lambda _m, args: keep(RESID_MID, args)),
        mlp.register_forward_hook(lambda _m, _args, out: keep(MLP_OUT, out)),
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def after_block(
    block: nn.Module, parts: Parts, tokens_bne: Tensor, site: str, d_model: int
) -> Tensor:
    """The tokens after a block, from those at a site inside it."""
    stream_bnd = tokens_bne[..., :d_model]
    if site == MLP_OUT:
        return stream_bnd + _times(block, parts.factor_2, tokens_bne[..., d_model:])
    if site == ATTN_OUT:
        stream_bnd = stream_bnd + _times(block, parts.factor_1, tokens_bne[..., d_model:])
    added_bnd = block.get_submodule(parts.mlp)(block.get_submodule(parts.norm_2)(stream_bnd))
    return stream_bnd + _times(block, parts.factor_2, added_bnd)


def added(block: nn.Module, parts: Parts, site: str, branch: Tensor) -> Tensor:
    """What the block adds to the residual stream for what is at the site; elsewhere the same."""
    names = {ATTN_OUT: parts.factor_1, MLP_OUT: parts.factor_2}
    return _times(block, names.get(site), branch)


def _times(block: nn.Module, name: str | None, branch: Tensor) -> Tensor:
    factor: Any = getattr(block, name) if name else None
    if factor is None:
        return branch
    return factor(branch) if isinstance(factor, nn.Module) else factor * branch
