"""The sparse autoencoder: encode, decode, single latents, and the direction that a latent writes.

x is a raw residual, z the autoencoder's input `(clamp(x) - act_mean) / act_norm`, f the latents.
What a file's format does to z before encoding (subtract b_dec, normalise each token) belongs to the
model: `encode` takes z.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Self

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from semseg_cli.errors import SemsegError
from semseg_cli.models.memory_budget import Budget, in_passes
from semseg_cli.models.sae.nonlinearities import Nonlinearity, Threshold
from semseg_cli.models.sae.pursuit import Pursuit
from semseg_cli.models.sae.scaling import MEAN_LENGTH
from semseg_cli.models.sae.token_norm import TOKEN_NORMS
from semseg_cli.models.sae.trained_at import TrainedAt
from semseg_cli.models.weight_files import bad_place
from semseg_cli.typed import typed

CLAMP = 1e5  # symmetric: the reference's lower bound of -1e-5 zeroed almost every negative value
WEIGHTS = ("W_enc", "b_enc", "W_dec", "b_dec")


class SparseAutoencoder(nn.Module):
    """A frozen autoencoder: f = act(norm(z) @ W_enc + b_enc), norm(z)' = f @ W_dec + b_dec.

    z is a raw residual and z' its reconstruction, act the nonlinearity.

    Args:
        W_enc: [d, s].
        b_enc: [s], as the file has it.
        W_dec: [s, d].
        b_dec: [d].
        nonlinearity: ReLU by default.
        token_norm: a name in `TOKEN_NORMS`: how each token is normalised before encoding.
        centres_input: whether b_dec is subtracted before encoding (it is folded into b_enc); None
            where the file does not say, and then it is not.
        needs_scaling: whether act_mean and act_norm come from statistics of the data; False where
            the format brings its own normalisation, or none.
        norm_kind: what of the data act_norm is then, a name in `scaling.NORM_KINDS`.
    """

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    act_mean: Tensor
    act_norm: Tensor

    firing_frequency: Tensor | None = None
    """Share of training tokens on which each latent fired, where the file says so."""
    trained_at: TrainedAt = TrainedAt()
    """Where in its model the autoencoder was trained, where the file says so."""
    is_scaled_by_data: bool = False
    """Whether statistics of the data scale its input although its format says nothing of that."""
    budget: Budget = Budget()
    """Decides how many patches are encoded at once."""

    def __init__(
        self,
        W_enc: Tensor,
        b_enc: Tensor,
        W_dec: Tensor,
        b_dec: Tensor,
        nonlinearity: Nonlinearity | None = None,
        *,
        token_norm: str = "none",
        centres_input: bool | None = False,
        needs_scaling: bool = True,
        norm_kind: str = MEAN_LENGTH,
    ) -> None:
        super().__init__()
        self.nonlinearity = nonlinearity or Threshold()
        self.token_norm = token_norm
        self.centres_input = centres_input
        self.needs_scaling, self.norm_kind = needs_scaling, norm_kind
        if W_enc.ndim != 2:
            raise SemsegError(f"The SAE's W_enc has shape {tuple(W_enc.shape)}, expected two axes.")
        self.d_model, self.d_sae = W_enc.shape
        parts = {"W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec, "b_dec": b_dec}
        self._check(parts)
        if centres_input:
            parts["b_enc"] = b_enc - _shift(b_dec, W_enc)
        parts |= {"act_mean": torch.zeros_like(b_dec), "act_norm": torch.ones_like(b_dec[0])}
        for name, tensor in parts.items():
            self.register_buffer(name, tensor.detach().contiguous())

    def _check(self, parts: dict[str, Tensor]) -> None:
        d, s = self.d_model, self.d_sae
        shapes = {"W_enc": (d, s), "b_enc": (s,), "W_dec": (s, d), "b_dec": (d,)}
        per_latent = self.nonlinearity.tensors()
        for name, tensor in {**parts, **per_latent}.items():
            shape = shapes.get(name, (s,))
            if tuple(tensor.shape) != shape:
                raise SemsegError(
                    f"The SAE's {name} has shape {tuple(tensor.shape)}, expected {shape}."
                )
            if place := bad_place(tensor):
                raise SemsegError(
                    f"The SAE's {name} holds NaN or infinite weights ({place}): the file is bad."
                )
        k = getattr(self.nonlinearity, "k", 1)
        if not 1 <= k <= s:
            raise SemsegError(f"The SAE keeps {k} of {s} latents: the file is bad.")
        if (
            isinstance(self.nonlinearity, Threshold)
            and self.nonlinearity.value != self.nonlinearity.value
        ):
            raise SemsegError("The SAE's threshold is NaN: the file is bad.")

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Moves the nonlinearity's values along with the weights."""
        super()._apply(fn, recurse)
        self.nonlinearity = self.nonlinearity.mapped(fn)
        return self

    @cached_property
    def digest(self) -> str:
        """A digest of what the autoencoder computes: weights, nonlinearity, normalisation.

        The input scaling is not part of it, but whether statistics have to give one is.
        """
        digest = hashlib.blake2b(digest_size=16)
        per_latent = self.nonlinearity.tensors()
        kind = repr(self.nonlinearity) if not per_latent else type(self.nonlinearity).__name__
        measured = "" if self.norm_kind == MEAN_LENGTH else self.norm_kind
        digest.update(repr((kind, self.token_norm, measured or self.needs_scaling)).encode())
        for tensor in (*(getattr(self, name) for name in WEIGHTS), *per_latent.values()):
            digest.update(repr((tensor.dtype, tuple(tensor.shape))).encode())
            digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def recentred(self, centres_input: bool) -> "SparseAutoencoder":
        """The same autoencoder, with or without b_dec subtracted before encoding."""
        if centres_input == self.centres_input:
            return self
        b_enc = self.b_enc
        if self.centres_input:
            b_enc = b_enc + _shift(self.b_dec, self.W_enc)
        made = SparseAutoencoder(
            self.W_enc,
            b_enc,
            self.W_dec,
            self.b_dec,
            self.nonlinearity,
            token_norm=self.token_norm,
            centres_input=centres_input,
            needs_scaling=self.needs_scaling,
            norm_kind=self.norm_kind,
        )
        made.firing_frequency, made.trained_at = self.firing_frequency, self.trained_at
        made.is_scaled_by_data, made.budget = self.is_scaled_by_data, self.budget
        return made.scaled(self.act_mean, float(self.act_norm))

    @typed
    def scaled(self, act_mean: Float[Tensor, " d"], act_norm: float) -> "SparseAutoencoder":
        """This autoencoder with the input scaling set; it changes in place and is returned."""
        self.act_mean = act_mean.to(self.act_mean)
        self.act_norm = torch.tensor(act_norm).to(self.act_norm)
        return self

    @contextmanager
    def rescaled(self, act_mean: Float[Tensor, " d"], act_norm: float) -> Iterator[None]:
        """Has another input scaling for the length of a block."""
        own = self.act_mean, float(self.act_norm)
        try:
            self.scaled(act_mean, act_norm)
            yield
        finally:
            self.scaled(*own)

    @typed
    def scale(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """The autoencoder's input for a raw residual."""
        return (x.to(self.act_mean.dtype).clamp(-CLAMP, CLAMP) - self.act_mean) / self.act_norm

    @typed
    def encode(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch s"]:
        """Latents of the autoencoder's input."""
        if isinstance(self.nonlinearity, Pursuit):
            z = self._normalised(x) - (self.b_dec if self.centres_input else 0.0)
            f = self.nonlinearity.encode(z.reshape(-1, self.d_model), self.W_dec)
            return f.reshape(*x.shape[:-1], self.d_sae)
        return self.nonlinearity(self._pre(x, self.W_enc, self.b_enc))

    def _pre(self, z: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Pre-activations; as one fused operation, since they are as large as the latents."""
        return torch.nn.functional.linear(self._normalised(z), weight.T, bias)

    def _normalised(self, z: Tensor) -> Tensor:
        norm = TOKEN_NORMS[self.token_norm]
        return z if norm is None else norm.normalise(z)

    @typed
    def decode(self, f_x: Float[Tensor, "*batch s"]) -> Float[Tensor, "*batch d"]:
        """The reconstruction, in the autoencoder's input space.

        Where each token is normalised it is the reconstruction of the normalised token, since the
        latents do not know the token's size; `restore` carries it back.
        """
        return f_x @ self.W_dec + self.b_dec

    @typed
    def restore(
        self, x_hat: Float[Tensor, "*batch d"], x: Float[Tensor, "*batch d"]
    ) -> Float[Tensor, "*batch d"]:
        """A decoded token in the units of the autoencoder's input x that it was encoded from."""
        norm = TOKEN_NORMS[self.token_norm]
        return x_hat if norm is None else norm.restore(x_hat, x)

    @typed
    def forward(
        self, x: Float[Tensor, "*batch d"]
    ) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch s"], Float[Tensor, ""]]:
        """The reconstruction, the latents and the mean squared reconstruction error."""
        f_x = self.encode(x)
        x_hat = self.restore(self.decode(f_x), x)
        return x_hat, f_x, (x_hat - x).square().mean()

    @torch.inference_mode()
    @typed
    def columns(
        self, x: Float[Tensor, "*batch d"], latents_k: Int64[Tensor, " k"]
    ) -> Float[Tensor, "*batch k"]:
        """Activations of some latents at raw residuals.

        An element-wise nonlinearity needs these columns of W_enc alone; TopK has to see all latents
        to know which are active.
        """
        latents_k = latents_k.to(self.W_enc.device)
        if not len(latents_k):
            return x.new_zeros(*x.shape[:-1], 0)
        if self.nonlinearity.is_elementwise:
            weight, bias = self.W_enc[:, latents_k], self.b_enc[latents_k]
            nonlinearity = self.nonlinearity.select(latents_k)

            def encode(x_nd: Tensor) -> Tensor:
                return nonlinearity(self._pre(self.scale(x_nd), weight, bias))
        else:

            def encode(x_nd: Tensor) -> Tensor:
                return self.encode(self.scale(x_nd))[:, latents_k]

        kept = in_passes(encode, x.reshape(-1, self.d_model), self.chunk_rows)
        return kept.reshape(*x.shape[:-1], len(latents_k))

    @property
    def chunk_rows(self) -> int:
        """How many tokens to encode at once, so that memory stays within the budget."""
        return self.budget.patches_encoded(self.d_sae)

    @typed
    def directions(self, latents_k: Int64[Tensor, " k"]) -> Float[Tensor, "k d"]:
        """What one unit of each latent adds to the raw residual, per unit of `token_scale`."""
        return self.W_dec[latents_k.to(self.W_dec.device)] * self.act_norm

    @torch.inference_mode()
    @typed
    def token_scale(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"] | None:
        """By what each raw residual's own size multiplies `directions`; None is 1 everywhere."""
        norm = TOKEN_NORMS[self.token_norm]
        if norm is None:
            return None
        rows = x.reshape(-1, self.d_model)
        scales = in_passes(lambda x_nd: norm.scale(self.scale(x_nd))[:, 0], rows, self.chunk_rows)
        return scales.reshape(x.shape[:-1])


def _shift(b_dec: Tensor, W_enc: Tensor) -> Tensor:
    """What subtracting b_dec from the input takes off the pre-activations; exact to float32."""
    return (b_dec.double() @ W_enc.double()).to(W_enc.dtype)
