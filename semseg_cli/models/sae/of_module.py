"""A user's own module as a sparse autoencoder: whatever has `encode` and `decode`.

Its encoder is called as it is. Its decoder is found out: an edit of one latent is a step along one
row of W_dec, so `decode(f)` has to be `f @ W_dec + b_dec`.
"""

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from semseg_cli.errors import SemsegError
from semseg_cli.models.sae.model import SparseAutoencoder
from semseg_cli.models.sae.pursuit import Pursuit

N_TRIED = 16  # tokens, and sets of latents, that it is tried with
TOLERANCE = 1e-3  # of the length of what is decoded
AT_ONCE = 2**26  # numbers in the unit vectors that are decoded at once
ROWS = ("W_dec", "w_dec", "decoder.weight", "W_dec.weight", "dec.weight")  # where rows may be kept


@dataclass(frozen=True, eq=False, repr=False)
class OwnEncoder(Pursuit):
    """The encoder of a module; `told` is by what two of them are told apart."""

    module: Any
    told: str

    def __repr__(self) -> str:
        return f"OwnEncoder({self.told})"

    def encode(self, z_nd: Tensor, W_dec: Tensor) -> Tensor:
        """Latents [n, s] of the input.

        Raises:
            SemsegError: some tensor of the module stayed behind when it was moved to a GPU.
        """
        try:
            return self.module.encode(z_nd)
        except RuntimeError as error:
            if "device" not in str(error) or isinstance(error, torch.OutOfMemoryError):
                raise
            raise SemsegError(
                f"The SAE {type(self.module).__name__} does not encode on {z_nd.device} "
                f"({str(error).splitlines()[0]}): keep its tensors as parameters, buffers or "
                "modules, so that they are moved with it."
            ) from error

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Self:
        """The same, with the module's weights moved in place: it is a copy that nobody else has."""
        self.module._apply(function)
        return self


@torch.no_grad()  # no inference mode: its tensors could not be moved later
def sae_of(given: nn.Module, d_model: int) -> SparseAutoencoder:
    """A copy of a module of the user's as an autoencoder, in float32 on the CPU.

    It takes residuals as they are: what it does to scale them belongs to its `encode` and `decode`.

    Args:
        given: what has `encode` [n, d] -> [n, s] and `decode` [n, s] -> [n, d].
        d_model: the width of the ViT.

    Raises:
        SemsegError: it lacks one of these, takes another width, or does something that no edit of
            single latents can go with; the sentence says what.
    """
    module = copy.deepcopy(given)
    if isinstance(module, SparseAutoencoder):
        return module.cpu()
    name = type(given).__name__
    for method in ("encode", "decode"):
        if not callable(getattr(module, method, None)):
            raise SemsegError(f"The SAE {name} has no method {method}: it needs encode and decode.")
    module = module.float().cpu().eval().requires_grad_(False)
    tokens_nd = _drawn(N_TRIED, d_model)
    latents_ns = _latents(module, name, tokens_nd)
    b_dec, W_dec = _decoder(module, name, latents_ns.shape[1], d_model)
    encoder = OwnEncoder(module, _told(module, latents_ns))
    no_weights = (torch.zeros(d_model, len(W_dec)), torch.zeros(len(W_dec)))
    return SparseAutoencoder(*no_weights, W_dec, b_dec, encoder, needs_scaling=False)


def _drawn(n: int, width: int) -> Tensor:
    """Normal numbers, rows of several sizes."""
    drawn = torch.randn(n, width, generator=torch.Generator().manual_seed(0))
    return drawn * torch.logspace(-1, 1, n)[:, None]


def _told(module: nn.Module, latents_ns: Tensor) -> str:
    """By what a module is known again: its class, its weights, and what it does."""
    digest = hashlib.blake2b(digest_size=16)
    for key, tensor in sorted(module.state_dict().items()):
        digest.update(f"{key} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    digest.update(latents_ns.contiguous().numpy().tobytes())
    return f"{type(module).__qualname__} {digest.hexdigest()}"


# --- the encoder ------------------------------------------------------------------------------


def _latents(module: Any, name: str, tokens_nd: Tensor) -> Tensor:
    """Latents of the tried tokens, each the same whatever other tokens are there."""
    latents_ns = _called(module.encode, name, "encode", tokens_nd)
    alone_ns = torch.cat([_called(module.encode, name, "encode", x_d[None]) for x_d in tokens_nd])
    if not _is_close(latents_ns, alone_ns):
        raise SemsegError(
            f"The SAE {name} encodes a token otherwise when others are there (BatchTopK?): "
            "take the threshold that it is used with, token by token."
        )
    return latents_ns


def _called(function: Callable[[Tensor], Any], name: str, method: str, given: Tensor) -> Tensor:
    shape = tuple(given.shape)
    try:
        found = function(given)
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise SemsegError(
            f"The SAE {name} does not {method} a tensor of shape {shape} ({first}): it has to take "
            "one row per token, of the ViT's width."
        ) from error
    if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(given):
        what = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise SemsegError(
            f"The SAE {name} has a method {method} that makes {what} of shape {shape}: it has to "
            "return one tensor with a row per token; write a method that does."
        )
    return found.float()


# --- the decoder ------------------------------------------------------------------------------


def _decoder(module: Any, name: str, n_latents: int, d_model: int) -> tuple[Tensor, Tensor]:
    """The bias [d] and the rows [s, d] of a decoder."""

    def decode(f_ns: Tensor) -> Tensor:
        return _called(module.decode, name, "decode", f_ns)

    b_dec = decode(torch.zeros(1, n_latents))[0]
    if len(b_dec) != d_model:
        raise SemsegError(
            f"The SAE {name} decodes to width {len(b_dec)}, the ViT has width {d_model}: they do "
            "not belong together."
        )
    tried_ns = _tried(n_latents)
    decoded_nd = decode(tried_ns) - b_dec
    for W_dec in _kept_rows(module, n_latents, d_model):
        if _is_close(tried_ns @ W_dec, decoded_nd):
            return b_dec, W_dec
    W_dec = _decoded_rows(decode, n_latents) - b_dec
    if not _is_close(tried_ns @ W_dec, decoded_nd):
        raise SemsegError(
            f"The SAE {name} has a decode that is not linear in each latent: an edit sets one "
            "latent to a value, of either sign, and adds its row of the decoder that often, so "
            "decode(f) has to be f @ W_dec + b_dec."
        )
    return b_dec, W_dec


def _tried(n_latents: int) -> Tensor:
    """Latents to try a decoder with: single ones and some together, of either sign."""
    f_ns = _drawn(N_TRIED, n_latents)
    source = torch.Generator().manual_seed(1)
    for row in range(0, N_TRIED, 2):
        keep = int(torch.randint(n_latents, (), generator=source))
        f_ns[row, torch.arange(n_latents) != keep] = 0.0
    return f_ns


def _kept_rows(module: nn.Module, n_latents: int, d_model: int) -> list[Tensor]:
    """What a module keeps under a usual name and in the shape of decoder rows."""
    state = dict(module.state_dict())
    found = [state[key].float() for key in ROWS if key in state and state[key].ndim == 2]
    both = [tensor for kept in found for tensor in (kept, kept.T)]
    return [tensor.clone() for tensor in both if tuple(tensor.shape) == (n_latents, d_model)]


def _decoded_rows(decode: Callable[[Tensor], Tensor], n_latents: int) -> Tensor:
    """What each latent alone decodes to, [s, d]."""
    step = max(1, AT_ONCE // n_latents)
    parts = []
    for begin in range(0, n_latents, step):
        units_ks = torch.zeros(min(step, n_latents - begin), n_latents)
        units_ks[torch.arange(len(units_ks)), torch.arange(len(units_ks)) + begin] = 1.0
        parts.append(decode(units_ks))
    return torch.cat(parts)


def _is_close(found_nk: Tensor, wanted_nk: Tensor) -> bool:
    """Whether no row is off by more than a small part of its length."""
    off_n = (found_nk - wanted_nk).norm(dim=1)
    return bool((off_n <= TOLERANCE * wanted_nk.norm(dim=1).clamp(min=1e-6)).all())
