"""Which of two encoding rules an autoencoder was trained with, where its file does not say."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from semseg_cli.models.sae.model import SparseAutoencoder
from semseg_cli.models.sae.scaling import measured_scaling
from semseg_cli.typed import typed


@torch.inference_mode()
def decide_centring(
    sae: SparseAutoencoder, given: Mapping[str, Tensor], x_nd: Float[Tensor, "n d"]
) -> tuple[SparseAutoencoder, str]:
    """The autoencoder with its input scaling and its encoding rule, and a sentence on the rule.

    Scaling that is not given is measured on these raw residuals, and so is the rule where the file
    does not say it; where it does, the sentence is empty.
    """
    mean_d, norm = measured_scaling(x_nd, sae.norm_kind, given)
    sae.scaled(mean_d, norm)
    if sae.centres_input is not None:
        return sae, ""
    return choose_centring(sae.recentred(False), sae.recentred(True), x_nd)


@typed
def choose_centring(
    sae_as_is: SparseAutoencoder,
    sae_centred: SparseAutoencoder,
    x_sample: Float[Tensor, "n d"],
) -> tuple[SparseAutoencoder, str]:
    """The one that reconstructs raw residuals better, and a sentence that says so.

    Both autoencoders must have their input scaling. Ties go to `sae_as_is`.
    """
    as_is, centred = (reconstruction_error(sae, x_sample) for sae in (sae_as_is, sae_centred))
    takes_centred = centred < as_is
    sentence = (
        "The SAE file does not say whether b_dec is subtracted before encoding: on "
        f"{len(x_sample)} patches the normalised reconstruction error is {as_is:.3f} without and "
        f"{centred:.3f} with it, so it is {'subtracted' if takes_centred else 'not subtracted'} "
        "(--sae-centre-input yes or no overrides this)."
    )
    return (sae_centred if takes_centred else sae_as_is), sentence


@torch.inference_mode()
@typed
def reconstruction_error(sae: SparseAutoencoder, x: Float[Tensor, "n d"]) -> float:
    """Squared reconstruction error over the variance of the autoencoder's input."""
    z = sae.scale(x)
    errors = [(sae(part)[0] - part).square().sum() for part in z.split(sae.chunk_rows)]
    variance = (z - z.mean(dim=0)).square().sum()
    return float(torch.stack(errors).sum() / variance)
