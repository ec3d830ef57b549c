"""Rewriting weights so that one rule serves formats that spell it differently."""

import torch
from torch import Tensor

from semseg_cli.models.sae.nonlinearities import Gated

TINY = 1e-12  # a latent whose decoder row is 0 writes nothing, whatever its scale


def fold_decoder_norms(
    W_enc: Tensor, b_enc: Tensor, W_dec: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """W_enc, b_enc and W_dec of the same autoencoder with unit decoder rows, and the norms [s].

    Its latents are multiplied by the norms: so formats do it that multiply after encoding and
    divide before decoding.
    """
    norms = decoder_norms(W_dec)
    return W_enc * norms, b_enc * norms, W_dec / norms[:, None], norms


def decoder_norms(W_dec: Tensor) -> Tensor:
    """The length of each latent's decoder row [s]; never 0."""
    return W_dec.norm(dim=1).clamp(min=TINY)


def gated(b_gate: Tensor, b_mag: Tensor, r_mag: Tensor) -> Gated:
    """`ReLU(exp(r_mag) * pre + b_mag)` where `pre + b_gate > 0`, for an encoder with b_gate."""
    gain = torch.exp(r_mag)
    return Gated(gain, b_mag - gain * b_gate)
