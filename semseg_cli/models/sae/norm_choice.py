"""Whether an autoencoder of the last layer reads before or after the final norm."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from semseg_cli.models.sae.centring import reconstruction_error
from semseg_cli.models.sae.model import SparseAutoencoder
from semseg_cli.models.sae.scaling import measured_scaling
from semseg_cli.models.vit.sites import NORM_OUT, RESID_POST


@torch.inference_mode()
def choose_site(
    sae: SparseAutoencoder,
    given: Mapping[str, Tensor],
    x_nd: Float[Tensor, "n d"],
    final_norm: Callable[[Tensor], Tensor],
) -> tuple[str, str]:
    """The site that the autoencoder reconstructs better, and a sentence that says so.

    Scaling that is not given is measured at each of the two. The autoencoder's own is left as it
    was. Ties go to the residual stream.

    Args:
        sae: the autoencoder.
        given: statistics that are known.
        x_nd: raw residuals of patches after the last block.
        final_norm: makes of them what the head reads.
    """
    before = _error(sae, given, x_nd)
    after = _error(sae, given, final_norm(x_nd).float())
    site = NORM_OUT if after < before else RESID_POST
    sentence = (
        "The SAE's file does not say whether it reads before or after the final norm: on "
        f"{len(x_nd)} patches the normalised reconstruction error is {before:.3f} before and "
        f"{after:.3f} after it, so --vit-site is {site} (give it to override this)."
    )
    return site, sentence


def _error(
    sae: SparseAutoencoder, given: Mapping[str, Tensor], x_nd: Float[Tensor, "n d"]
) -> float:
    with sae.rescaled(*measured_scaling(x_nd, sae.norm_kind, given)):
        return reconstruction_error(sae, x_nd)
