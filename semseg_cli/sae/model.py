"""The sparse autoencoder: encode, decode, single latents, and the direction that a latent writes.

x is a raw residual, z the autoencoder's input `(clamp(x) - act_mean) / act_norm`, f the latents.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from semseg_cli.errors import SemsegError
from semseg_cli.typed import typed

CLAMP = 1e5  # symmetric: the reference's lower bound of -1e-5 zeroed almost every negative value
CHUNK_ELEMENTS = 2**26  # activations held at once while encoding: 256 MiB in float32


@dataclass(frozen=True)
class Threshold:
    """Keeps a pre-activation that is above the threshold; 0 is ReLU, BatchTopK has its own."""

    value: float = 0.0

    def __call__(self, pre: Tensor) -> Tensor:
        return torch.where(pre > max(self.value, 0.0), pre, 0.0)


@dataclass(frozen=True)
class TopK:
    """Keeps the k largest pre-activations of each token, whatever their sign."""

    k: int

    def __call__(self, pre: Tensor) -> Tensor:
        values, where = pre.topk(self.k, dim=-1)
        return torch.zeros_like(pre).scatter(-1, where, values)


class SparseAutoencoder(nn.Module):
    """A frozen autoencoder: f = activation(z @ W_enc + b_enc), z' = f @ W_dec + b_dec."""

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    act_mean: Tensor
    act_norm: Tensor

    def __init__(
        self,
        W_enc: Tensor,
        b_enc: Tensor,
        W_dec: Tensor,
        b_dec: Tensor,
        activation: Threshold | TopK | None = None,
    ) -> None:
        super().__init__()
        self.activation = activation or Threshold()
        if W_enc.ndim != 2:
            raise SemsegError(f"The SAE's W_enc has shape {tuple(W_enc.shape)}, expected two axes.")
        self.d_model, self.d_sae = W_enc.shape
        parts = {"W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec, "b_dec": b_dec}
        self._check(parts)
        parts |= {"act_mean": torch.zeros_like(b_dec), "act_norm": torch.ones_like(b_dec[0])}
        for name, tensor in parts.items():
            self.register_buffer(name, tensor.detach().contiguous())

    def _check(self, parts: dict[str, Tensor]) -> None:
        d, s = self.d_model, self.d_sae
        shapes = {"W_enc": (d, s), "b_enc": (s,), "W_dec": (s, d), "b_dec": (d,)}
        for name, tensor in parts.items():
            if tuple(tensor.shape) != shapes[name]:
                raise SemsegError(
                    f"The SAE's {name} has shape {tuple(tensor.shape)}, expected {shapes[name]}."
                )
            if not bool(torch.isfinite(tensor).all()):
                raise SemsegError(
                    f"The SAE's {name} holds NaN or infinite weights: the file is bad."
                )
        if isinstance(self.activation, TopK) and not 1 <= self.activation.k <= s:
            raise SemsegError(f"The SAE keeps {self.activation.k} of {s} latents: the file is bad.")

    @cached_property
    def digest(self) -> str:
        """A digest of weights and activation; `load` replaces it by the file's."""
        digest = hashlib.blake2b(repr(self.activation).encode(), digest_size=16)
        for tensor in (self.W_enc, self.b_enc, self.W_dec, self.b_dec):
            digest.update(repr((tensor.dtype, tuple(tensor.shape))).encode())
            digest.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    @typed
    def scaled(self, act_mean: Float[Tensor, " d"], act_norm: float) -> "SparseAutoencoder":
        """This autoencoder with the input scaling set; it changes in place and is returned."""
        self.act_mean = act_mean.to(self.act_mean)
        self.act_norm = torch.tensor(act_norm).to(self.act_norm)
        return self

    @typed
    def scale(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """The autoencoder's input for a raw residual."""
        return (x.to(self.act_mean.dtype).clamp(-CLAMP, CLAMP) - self.act_mean) / self.act_norm

    @typed
    def encode(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch s"]:
        """Latents of the autoencoder's input."""
        return self.activation(x @ self.W_enc + self.b_enc)

    @typed
    def decode(self, f_x: Float[Tensor, "*batch s"]) -> Float[Tensor, "*batch d"]:
        """The reconstruction, in the autoencoder's input space."""
        return f_x @ self.W_dec + self.b_dec

    @typed
    def forward(
        self, x: Float[Tensor, "*batch d"]
    ) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch s"], Float[Tensor, ""]]:
        """The reconstruction, the latents and the mean squared reconstruction error."""
        f_x = self.encode(x)
        x_hat = self.decode(f_x)
        return x_hat, f_x, (x_hat - x).square().mean()

    @torch.inference_mode()
    @typed
    def columns(
        self, x: Float[Tensor, "*batch d"], latents_k: Int64[Tensor, " k"]
    ) -> Float[Tensor, "*batch k"]:
        """Activations of some latents at raw residuals.

        An element-wise activation needs these columns of W_enc alone; TopK has to see all latents
        to know which are active.
        """
        latents_k = latents_k.to(self.W_enc.device)
        if not len(latents_k):
            return x.new_zeros(*x.shape[:-1], 0)
        if not isinstance(self.activation, TopK):
            pre = self.scale(x) @ self.W_enc[:, latents_k] + self.b_enc[latents_k]
            return self.activation(pre)
        rows = x.reshape(-1, self.d_model)
        chunks = rows.split(self.chunk_rows)
        kept = torch.cat([self.encode(self.scale(chunk))[:, latents_k] for chunk in chunks])
        return kept.reshape(*x.shape[:-1], len(latents_k))

    @property
    def chunk_rows(self) -> int:
        """How many tokens to encode at once, so that memory stays bounded."""
        return max(64, CHUNK_ELEMENTS // self.d_sae)

    @typed
    def directions(self, latents_k: Int64[Tensor, " k"]) -> Float[Tensor, "k d"]:
        """What one unit of each latent adds to the raw residual."""
        return self.W_dec[latents_k.to(self.W_dec.device)] * self.act_norm
