"""Normalisation of each token by its own statistics, as some autoencoders do before encoding."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

EPS = 1e-5  # SAELens and Prisma add it to the deviation on the way in, not on the way out
TINY = 1e-12  # a token of zeros stays zeros


@dataclass(frozen=True)
class TokenNorm:
    """`(z - centre(z)) / divisor(z)` on the way in, `y * scale(z) + centre(z)` on the way out.

    Each function gives one value per token, with a last axis of 1.
    """

    centre: Callable[[Tensor], Tensor]
    divisor: Callable[[Tensor], Tensor]
    scale: Callable[[Tensor], Tensor]

    def normalise(self, z: Tensor) -> Tensor:
        """What the encoder reads."""
        return (z - self.centre(z)) / self.divisor(z)

    def restore(self, y: Tensor, z: Tensor) -> Tensor:
        """A reconstruction of the normalised token, in the units of the token z."""
        return y * self.scale(z) + self.centre(z)


def _no_centre(z: Tensor) -> Tensor:
    return torch.zeros_like(z[..., :1])


def _rms(z: Tensor) -> Tensor:
    return z.norm(dim=-1, keepdim=True) / z.shape[-1] ** 0.5


def _mean(z: Tensor) -> Tensor:
    return z.mean(dim=-1, keepdim=True)


def _deviation(z: Tensor) -> Tensor:
    return z.std(dim=-1, keepdim=True)  # the sample deviation, with d - 1


TOKEN_NORMS = {
    "none": None,
    "constant_norm_rescale": TokenNorm(_no_centre, lambda z: _rms(z).clamp(min=TINY), _rms),
    "layer_norm": TokenNorm(_mean, lambda z: _deviation(z) + EPS, _deviation),
}
