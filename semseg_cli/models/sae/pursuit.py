"""Encoders that choose latents one after another, by what the ones before leave unexplained.

They have no weights but the decoder's. An edit still adds `(v - f) * W_dec`: the other latents of
the token keep the values that they were encoded with.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from semseg_cli.models.sae.nonlinearities import Nonlinearity

TINY = 1e-8


class Pursuit(Nonlinearity):
    """Base of the encoders that iterate."""

    is_elementwise: ClassVar[bool] = False

    def encode(self, z_nd: Tensor, W_dec: Tensor) -> Tensor:
        """Latents [n, s] of the centred input."""
        raise NotImplementedError


@dataclass(frozen=True)
class MatchingPursuit(Pursuit):
    """k times the latent with the largest product with the residual, by that product.

    The largest can be below 0, and a latent can be chosen again. Source: overcomplete's MpSAE.
    """

    k: int

    def encode(self, z_nd: Tensor, W_dec: Tensor) -> Tensor:
        """Latents [n, s] of the centred input."""
        residual, f = z_nd, z_nd.new_zeros(len(z_nd), len(W_dec))
        for _ in range(self.k):
            values, which = (residual @ W_dec.T).max(dim=1, keepdim=True)
            f.scatter_add_(1, which, values)
            residual = residual - values * W_dec[which[:, 0]]
        return f


@dataclass(frozen=True)
class StoppingPursuit(Pursuit):
    """As `MatchingPursuit` with products above 0, until a token's residual is short.

    A token is also done once a step brings no new latent, where `stops_on_repeat`. Source: SAELens'
    matching_pursuit.
    """

    residual_threshold: float = 1e-2
    max_iterations: int | None = None
    stops_on_repeat: bool = True

    def encode(self, z_nd: Tensor, W_dec: Tensor) -> Tensor:
        """Latents [n, s] of the centred input; at most d steps, unless `max_iterations`."""
        residual, f = z_nd, z_nd.new_zeros(len(z_nd), len(W_dec))
        done = torch.zeros(len(z_nd), 1, dtype=torch.bool, device=z_nd.device)
        n_steps = W_dec.shape[1] if self.max_iterations is None else self.max_iterations
        for _ in range(n_steps):
            values, which = torch.relu(residual @ W_dec.T).max(dim=1, keepdim=True)
            values = values.masked_fill(done, 0.0)
            before = f.gather(1, which)
            f.scatter_add_(1, which, values)
            residual = residual - values * W_dec[which[:, 0]]
            if self.stops_on_repeat:
                done = done | ((before != 0) | (values == 0))
            if self.residual_threshold > 0:
                done = done | (residual.norm(dim=1, keepdim=True) < self.residual_threshold)
            if bool(done.all()):
                break
        return f


@dataclass(frozen=True)
class OrthogonalPursuit(Pursuit):
    """k times the best latent not yet chosen; after each, all chosen ones are fitted anew, above 0.

    The fit is `n_steps` projected gradient steps from the values before. Source: overcomplete's
    OMPSAE, which stops earlier where the gradient over a whole batch is below 1e-5.
    """

    k: int
    n_steps: int = 10

    def encode(self, z_nd: Tensor, W_dec: Tensor) -> Tensor:
        """Latents [n, s] of the centred input."""
        residual, f = z_nd, z_nd.new_zeros(len(z_nd), len(W_dec))
        chosen = torch.zeros(len(z_nd), 0, dtype=torch.int64, device=z_nd.device)
        for _ in range(self.k):
            products = (residual @ W_dec.T).scatter(1, chosen, -torch.inf)
            chosen = torch.cat([chosen, products.argmax(dim=1, keepdim=True)], dim=1)
            fitted = self._fitted(z_nd, W_dec[chosen], f.gather(1, chosen))
            f = f.scatter(1, chosen, fitted)
            residual = z_nd - f @ W_dec
        return f

    def _fitted(self, z_nd: Tensor, rows_nkd: Tensor, start_nk: Tensor) -> Tensor:
        """Values [n, k] of the chosen rows that come near to z."""
        gram_nkk = rows_nkd @ rows_nkd.transpose(1, 2)
        products_nk = (rows_nkd @ z_nd[:, :, None])[:, :, 0]
        rate_n1 = 1 / (gram_nkk.square().sum(dim=(1, 2))[:, None].sqrt() + TINY)
        values_nk = start_nk
        for _ in range(self.n_steps):
            gradient = (gram_nkk @ values_nk[:, :, None])[:, :, 0] - products_nk
            values_nk = torch.relu(values_nk - rate_n1 * gradient)
        return values_nk
