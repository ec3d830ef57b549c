"""OpenAI's sparse_autoencoder: a state dict with `pre_bias`, `latent_bias` and an activation."""

from pathlib import Path
from typing import Any

from torch import Tensor

from semseg_cli.errors import SemsegError
from semseg_cli.models.sae.model import SparseAutoencoder
from semseg_cli.models.sae.nonlinearities import Nonlinearity, Threshold, TopK
from semseg_cli.models.sae.source import Source, take
from semseg_cli.models.torch_files import is_small
from semseg_cli.models.weight_files import read_torch

NAMES = ("encoder.weight", "latent_bias", "pre_bias")
DECODER = "decoder.weight"  # absent where the decoder is the encoder, transposed


def recognises(source: Source) -> bool:
    """Whether there is one PyTorch file with these names."""
    found = source.peek()
    return isinstance(found, dict) and set(NAMES) <= set(found)


def read(source: Source) -> SparseAutoencoder:
    """The autoencoder in such a file; those with TopK normalise each token first."""
    path = source.torch_file() or source.path
    found = read_torch(path)
    if not isinstance(found, dict):
        raise SemsegError(f"The SAE file {path} is no state dict.")
    state = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    encoder, b_enc, b_dec = take(path, state, NAMES)
    W_dec = take(path, state, [DECODER])[0].T if DECODER in state else encoder
    nonlinearity = _nonlinearity(path, found)
    return SparseAutoencoder(
        encoder.T,
        b_enc,
        W_dec,
        b_dec,
        nonlinearity,
        token_norm="layer_norm" if isinstance(nonlinearity, TopK) else "none",
        centres_input=True,
        needs_scaling=False,
    )


def _nonlinearity(path: Path, found: dict[str, Any]) -> Nonlinearity:
    name, values = found.get("activation", "ReLU"), found.get("activation_state_dict", {})
    if not is_small([name, values]):
        raise SemsegError(f"The SAE file {path} has no readable activation: it is bad.")
    if name == "ReLU":
        return Threshold()
    k = values.get("k") if isinstance(values, dict) else None
    after = values.get("postact_fn", "ReLU") if isinstance(values, dict) else None
    if name != "TopK" or type(k) is not int or after not in ("ReLU", "Identity"):
        raise SemsegError(
            f"The SAE file {path} has the activation {name!r} (k {k!r}, {after!r}): ReLU, or TopK "
            "with ReLU or Identity."
        )
    return TopK(k, relu=after == "ReLU")
