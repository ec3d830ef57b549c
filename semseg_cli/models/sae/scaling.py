"""What is measured on the data to scale an autoencoder's input: `(x - mean) / norm`."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from semseg_cli.typed import typed

MEAN_LENGTH, ROOT_MEAN_SQUARE = "mean_length", "root_mean_square"
NORM_KINDS = (MEAN_LENGTH, ROOT_MEAN_SQUARE)
"""How saev and how VISAEBench average the lengths of x - mean; both divide by sqrt(d)."""


@typed
def norm_terms(centred_nd: Float[Tensor, "n d"], kind: str) -> Float[Tensor, " n"]:
    """Per row, what has to be averaged for the norm."""
    lengths_n = centred_nd.norm(dim=1).double()
    return lengths_n if kind == MEAN_LENGTH else lengths_n.square()


@typed
def norm_of(mean_term: Float[Tensor, ""], kind: str, d_model: int) -> Float[Tensor, ""]:
    """The norm, from the mean of `norm_terms` over all rows; 1 where no row has a length."""
    length = mean_term if kind == MEAN_LENGTH else mean_term.sqrt()
    return torch.where(length > 0, length / d_model**0.5, 1.0).float()


@typed
def measured_scaling(
    x_nd: Float[Tensor, "n d"], kind: str, given: Mapping[str, Tensor] | None = None
) -> tuple[Float[Tensor, " d"], float]:
    """Mean and norm: what is `given` of act_mean and act_norm, the rest from these residuals.

    The norm is measured about the mean in use.
    """
    given = given or {}
    mean_d = given["act_mean"].to(x_nd) if "act_mean" in given else x_nd.mean(dim=0)
    if "act_norm" in given:
        return mean_d, float(given["act_norm"])
    mean_term = norm_terms(x_nd - mean_d, kind).mean()
    return mean_d, float(norm_of(mean_term, kind, len(mean_d)))
