"""sparsify: a folder with `cfg.json` and `sae.safetensors`.

Encodes z - b_dec; of the ReLU, the k largest are kept, or (groupmax) the largest of k groups.
"""

from pathlib import Path
from typing import Any

from semseg_cli.errors import SemsegError
from semseg_cli.models.sae.model import SparseAutoencoder
from semseg_cli.models.sae.nonlinearities import GroupMax, Nonlinearity, TopK
from semseg_cli.models.sae.source import Source, take
from semseg_cli.models.weight_files import read_object, read_safetensors

CONFIG = "cfg.json"
WEIGHTS_FILE = "sae.safetensors"
REFUSED = {
    "transcode": "is a transcoder: it predicts a module's output, not its own input",
    "skip_connection": "has a skip connection, as transcoders do",
    "embed_skip": "has a skip connection from the embeddings",
    "gram_lookup": "subtracts an n-gram table that is not in the file",
    "signed": "keeps the largest magnitudes, also negative ones",
}


def recognises(source: Source) -> bool:
    """Whether the weights have sparsify's name, and its config."""
    return {CONFIG, WEIGHTS_FILE} <= source.names


def read(source: Source) -> SparseAutoencoder:
    """The autoencoder in a sparsify folder."""
    path, cfg = source.file(WEIGHTS_FILE), read_object(source.file(CONFIG))
    _refuse(path, cfg)
    names = ["encoder.weight", "encoder.bias", "W_dec", "b_dec"]
    encoder, b_enc, W_dec, b_dec = take(path, read_safetensors(path), names)
    return SparseAutoencoder(
        encoder.T,
        b_enc,
        W_dec,
        b_dec,
        _nonlinearity(path, cfg, len(b_enc)),
        centres_input=True,
        needs_scaling=False,
    )


def _refuse(path: Path, cfg: dict[str, Any]) -> None:
    for name, reason in REFUSED.items():
        if cfg.get(name):
            raise SemsegError(f"The SAE {path} {reason} ({name} in {CONFIG}): it cannot be used.")
    if not isinstance(cfg.get("k"), int):
        raise SemsegError(f"The SAE {path} has no whole number k in {CONFIG}: {cfg.get('k')!r}.")


def _nonlinearity(path: Path, cfg: dict[str, Any], n_latents: int) -> Nonlinearity:
    kind, k = cfg.get("activation", "topk"), cfg["k"]
    if kind == "topk":
        return TopK(k, relu=True)
    if kind != "groupmax":
        raise SemsegError(f"The SAE {path} has the activation {kind!r}: topk, groupmax.")
    if k < 1 or n_latents % k:
        raise SemsegError(
            f"The SAE {path} is a groupmax of k = {k} groups, into which {n_latents} latents do "
            "not go: the file is bad."
        )
    return GroupMax(k)
