"""What turns pre-activations into latents, and which of it can be computed for one latent alone."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Self

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Nonlinearity:
    """Base of all nonlinearities: frozen dataclasses whose tensors hold one value per latent."""

    is_elementwise: ClassVar[bool] = True

    def __call__(self, pre: Tensor) -> Tensor:
        """Latents from pre-activations, latents last."""
        raise NotImplementedError

    def tensors(self) -> dict[str, Tensor]:
        """The values per latent."""
        every = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in every.items() if isinstance(value, Tensor)}

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Self:
        """This nonlinearity with a function applied to its values per latent."""
        changes = {name: function(tensor) for name, tensor in self.tensors().items()}
        return replace(self, **changes) if changes else self

    def select(self, latents_k: Tensor) -> Self:
        """The nonlinearity of some latents alone, where it is element-wise."""
        return self.mapped(lambda per_latent: per_latent[latents_k])


@dataclass(frozen=True)
class Threshold(Nonlinearity):
    """Keeps a pre-nonlinearity above one threshold; 0 is ReLU, BatchTopK has its own."""

    value: float = 0.0

    def __call__(self, pre: Tensor) -> Tensor:
        return torch.nn.functional.threshold(pre, max(self.value, 0.0), 0.0)


@dataclass(frozen=True, eq=False)
class JumpReLU(Nonlinearity):
    """Keeps a pre-nonlinearity above its latent's own threshold; negative thresholds are 0."""

    threshold: Tensor

    def __call__(self, pre: Tensor) -> Tensor:
        return torch.where(pre > self.threshold.clamp(min=0.0), pre, 0.0)


@dataclass(frozen=True, eq=False)
class Gated(Nonlinearity):
    """Where the pre-nonlinearity is above 0: ReLU of `gain * pre + shift`."""

    gain: Tensor
    shift: Tensor

    def __call__(self, pre: Tensor) -> Tensor:
        return torch.where(pre > 0.0, torch.relu(self.gain * pre + self.shift), 0.0)


@dataclass(frozen=True)
class TopK(Nonlinearity):
    """Keeps the k largest pre-activations of each token: whatever their sign, or only above 0."""

    is_elementwise: ClassVar[bool] = False

    k: int
    relu: bool = False

    def __call__(self, pre: Tensor) -> Tensor:
        values, where = pre.topk(self.k, dim=-1)
        kept = torch.relu(values) if self.relu else values
        return torch.zeros_like(pre).scatter(-1, where, kept)


@dataclass(frozen=True)
class AbsTopK(Nonlinearity):
    """Keeps the k pre-activations of each token that are farthest from 0, with their sign."""

    is_elementwise: ClassVar[bool] = False

    k: int

    def __call__(self, pre: Tensor) -> Tensor:
        where = pre.abs().topk(self.k, dim=-1).indices
        return torch.zeros_like(pre).scatter(-1, where, pre.gather(-1, where))


@dataclass(frozen=True)
class GroupMax(Nonlinearity):
    """Of k groups of consecutive latents, keeps the largest of each, if above 0."""

    is_elementwise: ClassVar[bool] = False

    k: int

    def __call__(self, pre: Tensor) -> Tensor:
        groups = pre.unflatten(-1, (self.k, -1))
        values, where = torch.relu(groups).max(dim=-1, keepdim=True)
        return torch.zeros_like(groups).scatter(-1, where, values).flatten(-2)


def at_least(threshold: float) -> float:
    """The threshold for "above" that means "at least" this one, in float32."""
    value = torch.tensor(threshold, dtype=torch.float32)
    return float(torch.nextafter(value, torch.tensor(-torch.inf)))
