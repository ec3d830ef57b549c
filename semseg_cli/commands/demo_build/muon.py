"""Muon in float32: momentum whose matrix update is made (nearly) orthogonal."""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

_MOMENTUM = 0.9
_WEIGHT_DECAY = 0.05
_N_ITERATIONS = 4
# The quintic Newton-Schulz iteration of Jordan et al. 2024, "Muon".
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Muon for two-dimensional parameters; matrices of one shape are updated as one batch.

    `torch.optim.Muon` iterates in bfloat16, which takes four times as long on a CPU.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        super().__init__(list(parameters), {"lr": lr})
        self._by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for parameter in self.param_groups[0]["params"]:
            self._by_shape[parameter.shape].append(parameter)
        self._momenta: dict[torch.Size, Tensor] = {}

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        lr = self.param_groups[0]["lr"]
        for shape, parameters in self._by_shape.items():
            gradients = torch.stack([p.grad for p in parameters if p.grad is not None])
            momentum = self._momenta.setdefault(shape, torch.zeros_like(gradients))
            momentum.lerp_(gradients, 1 - _MOMENTUM)
            updates = _orthogonalise(gradients.lerp(momentum, _MOMENTUM))
            step_size = lr * max(1.0, shape[0] / shape[1]) ** 0.5
            for parameter, update in zip(parameters, updates, strict=True):
                parameter.mul_(1 - _WEIGHT_DECAY * lr).add_(update, alpha=-step_size)


def _orthogonalise(matrices: Tensor) -> Tensor:
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2).contiguous() if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-12)
    linear, cubic, quintic = _COEFFICIENTS
    for _ in range(_N_ITERATIONS):
        gram = x @ x.transpose(1, 2)
        x = linear * x + (cubic * gram + quintic * gram @ gram) @ x
    return x.transpose(1, 2) if tall else x
