"""saev's `sae.pt`: one JSON header line, then a state dict.

Files without a schema, and files of schema 1 written before 2025-07-31, encode `z - b_dec`, later
ones z; headers of schema 1 are the same for both.
"""

import json
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semseg_cli.errors import SemsegError
from semseg_cli.models.sae.model import WEIGHTS, SparseAutoencoder
from semseg_cli.models.sae.nonlinearities import Nonlinearity, Threshold, TopK
from semseg_cli.models.sae.source import Source, take
from semseg_cli.models.weight_files import first_byte, read_header, read_state
from semseg_cli.readers import read_bytes

log = logging.getLogger("semseg_cli")
FILE = "sae.pt"
SCHEMA = 5
SCHEMAS = (None, 1, 2, 3, 4, SCHEMA)
TOP_K = 32  # saev's default, for schema 1 files that do not name it
OURS = "semseg-cli"
COMMITS = {"33f4c14": True, "d991de3": True, "5fee417": False}
"""Whether b_dec is subtracted, for commits of saev that wrote schema 1 and whose code we read."""


def recognises(source: Source) -> bool:
    """Whether the file, or the folder's sae.pt, begins with a JSON object."""
    path = _file(source)
    return path.suffix != ".json" and first_byte(path) == b"{"


def _file(source: Source) -> Path:
    return source.folder / FILE if source.path == source.folder else source.path


def read(source: Source) -> SparseAutoencoder:
    """The autoencoder in a saev file."""
    path = _file(source) if source.path != source.folder else source.file(FILE)
    header, rest = read_header(path, read_bytes(path, f"The SAE file {path}", "check --sae-ckpt"))
    schema = header.get("schema")
    if schema not in SCHEMAS:
        raise SemsegError(
            f"The SAE file {path} has saev schema {schema}: 1 to {SCHEMA} and files without a "
            "schema are read."
        )
    state = read_state(path, rest)
    W_enc, b_enc, W_dec, b_dec = take(path, state, WEIGHTS)
    nonlinearity = Threshold() if schema is None else _nonlinearity(path, header, state)
    return SparseAutoencoder(
        W_enc,
        b_enc,
        W_dec,
        b_dec,
        nonlinearity,
        centres_input=_centres_input(schema, str(header.get("commit", ""))),
        needs_scaling=header.get("lib") != OURS or bool(header.get("needs_scaling", True)),
    )


def _centres_input(schema: int | None, commit: str) -> bool | None:
    if schema is None:
        return True
    if schema == 1:
        return next((rule for known, rule in COMMITS.items() if commit.startswith(known)), None)
    return False


def _nonlinearity(path: Path, header: dict[str, Any], state: dict[str, Tensor]) -> Nonlinearity:
    try:
        kind, params = _kind(header)
        top_k = int(params["top_k"]) if kind == "TopK" else 0
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise SemsegError(f"The header of {path} has no readable activation ({error}).") from error
    if kind == "Relu":
        return Threshold()
    if kind == "TopK":
        return TopK(top_k)
    if kind == "BatchTopK":
        return Threshold(_threshold(path, state))
    raise SemsegError(f"The SAE file {path} has the activation {kind!r}: Relu, TopK, BatchTopK.")


def _kind(header: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The activation's name and parameters, wherever the schema puts them."""
    cfg, cls = header["cfg"], header.get("cls", "SparseAutoencoderConfig")
    if header["schema"] == 1 and cls != "SparseAutoencoderConfig":
        return cls, {"top_k": TOP_K, **cfg}
    if header["schema"] == 1 and "activation" not in cfg:
        return "Relu", {}
    spec = cfg["activation"]
    return spec["cls"], spec["params"]


def _threshold(path: Path, state: dict[str, Tensor]) -> float:
    threshold = state.get("activation.threshold")
    if threshold is None:
        log.warning("%s has no BatchTopK threshold: 0 is used (ReLU).", path)
        return 0.0
    if threshold.numel() != 1:
        raise SemsegError(f"The SAE file {path} has {threshold.numel()} thresholds, expected one.")
    return float(threshold)


def save(path: str | Path, sae: SparseAutoencoder) -> None:
    """Writes an autoencoder as a saev file of the newest schema.

    Raises:
        SemsegError: its nonlinearity or normalisation cannot be written in that format.
    """
    kind, params, more = _spec(sae)
    cfg = {
        "d_model": sae.d_model,
        "d_sae": sae.d_sae,
        "activation": {"cls": kind, "params": params},
    }
    header = {"schema": SCHEMA, "cfg": cfg, "commit": "unknown", "lib": OURS}
    header["needs_scaling"] = sae.needs_scaling
    state = {name: getattr(sae, name).cpu() for name in WEIGHTS} | more
    with Path(path).open("wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
        torch.save(state, file)


def _spec(sae: SparseAutoencoder) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    nonlinearity = sae.nonlinearity
    if sae.token_norm == "none" and isinstance(nonlinearity, TopK) and not nonlinearity.relu:
        return "TopK", {"key": "top-k", "top_k": nonlinearity.k}, {}
    if sae.token_norm == "none" and isinstance(nonlinearity, Threshold):
        if not nonlinearity.value:
            return "Relu", {"key": "relu"}, {}
        threshold = torch.tensor(nonlinearity.value)
        return "BatchTopK", {"key": "batch-top-k"}, {"activation.threshold": threshold}
    raise SemsegError(
        f"A saev file cannot hold {nonlinearity.__class__.__name__} with token normalisation "
        f"{sae.token_norm}: keep the file in its own format."
    )
