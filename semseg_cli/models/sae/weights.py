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


def fold_whitening(
    weights: tuple[Tensor, Tensor, Tensor, Tensor],
    mean: Tensor,
    matrix: Tensor,
    inverse: Tensor,
    *,
    centres_input: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """W_enc, b_enc, W_dec and b_dec for x itself, of an autoencoder of `(x - mean) @ matrix`.

    Its reconstructions are `y @ inverse + mean`; the latents stay as they are. Where b_dec is
    subtracted before encoding the new one takes the mean off, else b_enc does.
    """
    W_enc, b_enc, W_dec, b_dec = (tensor.double() for tensor in weights)
    mean, matrix, inverse = mean.double(), matrix.double(), inverse.double()
    W_enc = matrix @ W_enc
    if not centres_input:
        b_enc = b_enc - mean @ W_enc
    return W_enc.float(), b_enc.float(), (W_dec @ inverse).float(), (b_dec @ inverse + mean).float()


def gated(b_gate: Tensor, b_mag: Tensor, r_mag: Tensor) -> Gated:
    """`ReLU(exp(r_mag) * pre + b_mag)` where `pre + b_gate > 0`, for an encoder with b_gate."""
    gain = torch.exp(r_mag)
    return Gated(gain, b_mag - gain * b_gate)
