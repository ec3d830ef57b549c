"""CLIP-Scope: one PyTorch file with `k`, `n_features`, `d_in` and `model_state_dict`."""

import re
from typing import Any

import torch

from semseg_cli.errors import SemsegError
from semseg_cli.models.sae.model import SparseAutoencoder
from semseg_cli.models.sae.nonlinearities import TopK
from semseg_cli.models.sae.source import Source, take
from semseg_cli.models.sae.trained_at import of_block
from semseg_cli.models.vit.sites import RESID_POST
from semseg_cli.models.weight_files import as_state, read_torch

STATE = "model_state_dict"
FOLDER = re.compile(r"(\d+)_resid")
"""The folder of a published file: the block, from 0."""
NAMES = ("enc", "dec", "pre_b")


def recognises(source: Source) -> bool:
    """Whether there is one PyTorch file with CLIP-Scope's names."""
    found = source.peek()
    state = found.get(STATE) if isinstance(found, dict) else None
    return isinstance(state, dict) and set(NAMES) <= set(state)


def read(source: Source) -> SparseAutoencoder:
    """The autoencoder in a file of CLIP-Scope: the k largest products, whatever their sign."""
    path = source.torch_file() or source.path
    found: Any = read_torch(path)
    if not isinstance(found, dict) or type(found.get("k")) is not int:
        raise SemsegError(f"The SAE {path} has no whole number k: it is no file of CLIP-Scope.")
    W_enc, W_dec, b_dec = take(path, as_state(path, found.get(STATE)), NAMES)
    sae = SparseAutoencoder(
        W_enc,
        torch.zeros(W_enc.shape[-1]),
        W_dec,
        b_dec,
        TopK(found["k"]),
        centres_input=True,
        needs_scaling=False,
    )
    if named := FOLDER.fullmatch(path.absolute().parent.name):
        sae.trained_at = of_block(int(named[1]), named[0], RESID_POST)
    return sae
