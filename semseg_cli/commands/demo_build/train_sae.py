"""Trains the demo's sparse autoencoder: TopK on the residual stream, with an auxiliary loss.

Training is centred (the decoder bias is taken off the input, as in Gao et al. 2024) and works
on inputs of mean norm 3, so that activations spread over the tool's thresholds. The result is
folded into plain weights: `f = topk(z @ W_enc + b_enc)` and `z_hat = f @ W_dec + b_dec` for the
tool's own scaling of `z`.
"""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from semseg_cli.models.sae import SparseAutoencoder, TopK
from semseg_cli.progress import Advance


@dataclasses.dataclass(frozen=True)
class SaeRecipe:
    """Everything that shapes the SAE; the defaults made the shipped weights."""

    n_latents: int = 768
    top_k: int = 8
    n_steps: int = 300
    batch: int = 1024
    lr: float = 2e-3
    input_norm: float = 3.0
    n_auxiliary: int = 16
    """Dead latents that explain the residual error of a batch."""
    dead_after: int = 30
    """Steps without firing after which a latent counts as dead."""


def train_sae(acts: Tensor, recipe: SaeRecipe, seed: int, advance: Advance) -> SparseAutoencoder:
    """A trained SAE from scaled residual vectors `[n d]` (mean 0, mean norm sqrt(d))."""
    d_model = acts.shape[1]
    shrink = recipe.input_norm / d_model**0.5
    acts = acts * shrink
    trainer = _Trainer(d_model, recipe, seed, float(acts.pow(2).sum(1).mean()))
    rng = torch.Generator().manual_seed(seed + 1)
    for step in range(recipe.n_steps):
        picked = torch.randint(len(acts), (recipe.batch,), generator=rng)
        trainer.step(acts[picked], _pace(step, recipe.n_steps))
        advance(1)
    return trainer.folded(shrink)


def _pace(step: int, n_steps: int) -> float:
    """Warm-up over 20 steps, decay to zero over the last 30%."""
    return min(1.0, (step + 1) / 20) * min(1.0, (n_steps - step) / (0.3 * n_steps))


class _Trainer:
    """The parameters, their optimiser, and how long each latent has been silent."""

    def __init__(self, d_model: int, recipe: SaeRecipe, seed: int, variance: float) -> None:
        rng = torch.Generator().manual_seed(seed)
        directions = F.normalize(torch.randn(recipe.n_latents, d_model, generator=rng), dim=1)
        self.recipe = recipe
        self.variance = variance
        self.w_dec = directions.clone().requires_grad_()
        self.w_enc = directions.clone().requires_grad_()
        self.b_enc = torch.zeros(recipe.n_latents, requires_grad=True)
        self.b_dec = torch.zeros(d_model, requires_grad=True)
        parameters = [self.w_dec, self.w_enc, self.b_enc, self.b_dec]
        self.optimiser = torch.optim.Adam(parameters, lr=recipe.lr, betas=(0.9, 0.99))
        self.silent = torch.zeros(recipe.n_latents)

    def step(self, acts: Tensor, pace: float) -> None:
        self.optimiser.param_groups[0]["lr"] = self.recipe.lr * pace
        self.optimiser.zero_grad()
        self._loss(acts).backward()
        self._project_gradient()
        self.optimiser.step()
        with torch.no_grad():
            self.w_dec.copy_(F.normalize(self.w_dec, dim=1))

    def _loss(self, acts: Tensor) -> Tensor:
        pre_acts = (acts - self.b_dec) @ self.w_enc.T + self.b_enc
        latents = _keep_top(pre_acts, self.recipe.top_k)
        error = acts - latents @ self.w_dec - self.b_dec
        loss = error.pow(2).sum(1).mean() / self.variance
        self.silent = torch.where((latents > 0).any(0), 0.0, self.silent + 1)
        dead = self.silent > self.recipe.dead_after
        if dead.sum() > self.recipe.n_auxiliary:
            revived = _keep_top(pre_acts.masked_fill(~dead, -1e9), self.recipe.n_auxiliary)
            missed = (error.detach() - revived @ self.w_dec).pow(2).sum(1).mean()
            loss = loss + missed / self.variance / 32
        return loss

    def _project_gradient(self) -> None:
        """Decoder rows keep unit length: only the tangential part of their gradient counts."""
        gradient = self.w_dec.grad
        assert gradient is not None
        rows = self.w_dec.detach()
        gradient -= (gradient * rows).sum(1, keepdim=True) * rows

    @torch.no_grad()
    def folded(self, shrink: float) -> SparseAutoencoder:
        """The SAE for inputs that are not yet multiplied by `shrink`."""
        return SparseAutoencoder(
            W_enc=self.w_enc.T * shrink,
            b_enc=self.b_enc - self.w_enc @ self.b_dec,
            W_dec=self.w_dec / shrink,
            b_dec=self.b_dec / shrink,
            nonlinearity=TopK(self.recipe.top_k),
        )


def _keep_top(pre_acts: Tensor, k: int) -> Tensor:
    values, latents = pre_acts.topk(k, dim=1)
    return torch.zeros_like(pre_acts).scatter(1, latents, values.relu())
