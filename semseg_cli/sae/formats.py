"""Files of sparse autoencoders: one reader per format, recognised by content.

Nothing is unpickled: PyTorch files are read with `weights_only=True`.
"""

import hashlib
import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semseg_cli.errors import SemsegError
from semseg_cli.sae.model import SparseAutoencoder, Threshold, TopK

WEIGHTS = ("W_enc", "b_enc", "W_dec", "b_dec")
SCHEMA = 5


@dataclass(frozen=True)
class Format:
    """One format: how to recognise it in the first bytes of a file, and how to read it."""

    recognises: Callable[[bytes], bool]
    read: Callable[[Path, bytes], SparseAutoencoder]
    description: str


def load(
    path: str | Path, device: str | torch.device = "cpu", format: str = "auto"
) -> SparseAutoencoder:
    """The autoencoder in a file, in float32.

    Raises:
        SemsegError: the file is missing, truncated, of an unknown format, or its weights are bad.
    """
    path = Path(path).expanduser()
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SemsegError(
            f"The SAE file {path} cannot be read ({error.strerror}): check --sae-ckpt."
        ) from error
    for name, known in FORMATS.items():
        if format == name or (format == "auto" and known.recognises(data)):
            sae = known.read(path, data)
            sae.digest = hashlib.blake2b(data, digest_size=16).hexdigest()
            return sae.to(device)
    listed = "; ".join(f"{name}: {known.description}" for name, known in FORMATS.items())
    raise SemsegError(f"The SAE file {path} is of no known format ({listed}): check --sae-ckpt.")


def save(path: str | Path, sae: SparseAutoencoder) -> None:
    """Writes an autoencoder as a saev file of the newest schema."""
    activation = sae.activation
    params: dict[str, Any] = {"key": "relu"}
    state = {name: getattr(sae, name).cpu() for name in WEIGHTS}
    if isinstance(activation, TopK):
        kind, params = "TopK", {"key": "top-k", "top_k": activation.k}
    elif activation.value:
        kind, params = "BatchTopK", {"key": "batch-top-k"}
        state["activation.threshold"] = torch.tensor(activation.value)
    else:
        kind = "Relu"
    cfg = {
        "d_model": sae.d_model,
        "d_sae": sae.d_sae,
        "activation": {"cls": kind, "params": params},
    }
    header = {"schema": SCHEMA, "cfg": cfg, "commit": "unknown", "lib": "semseg-cli"}
    with Path(path).open("wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
        torch.save(state, file)


def read_header(path: Path, data: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON object in the first line of a file, and the bytes after that line."""
    line, _, rest = data.partition(b"\n")
    try:
        header = json.loads(line)
    except ValueError as error:
        raise SemsegError(
            f"{path} does not begin with a JSON header line: the file is of another format or cut."
        ) from error
    if not isinstance(header, dict):
        raise SemsegError(f"The first line of {path} is no JSON object: the file is bad.")
    return header, rest


def read_state(path: Path, data: bytes) -> dict[str, Tensor]:
    """The state dict in the bytes of a PyTorch file, read without unpickling anything else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a cut file warns before it fails
            state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        ValueError,
        EOFError,
        zipfile.BadZipFile,
    ) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise SemsegError(
            f"{path} holds no readable tensors ({first}): it is cut, or needs unpickling, which is "
            "refused; save a plain state dict."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise SemsegError(f"{path} holds something other than a plain state dict of tensors.")
    return state


def _read_saev(path: Path, data: bytes) -> SparseAutoencoder:
    header, rest = read_header(path, data)
    schema = header.get("schema")
    if schema not in (None, SCHEMA):
        raise SemsegError(
            f"The SAE file {path} has saev schema {schema}: schema {SCHEMA} and files without a "
            "schema are read."
        )
    state = read_state(path, rest)
    missing = [name for name in WEIGHTS if name not in state]
    if missing:
        raise SemsegError(
            f"The SAE file {path} lacks {', '.join(missing)}; it holds {', '.join(sorted(state))}."
        )
    W_enc, b_enc, W_dec, b_dec = (state[name].float() for name in WEIGHTS)
    if schema is None:
        sae = SparseAutoencoder(W_enc, b_enc, W_dec, b_dec)  # checks the shapes
        # These files subtract b_dec before encoding: folded into b_enc, the rule is the same.
        sae.b_enc -= sae.b_dec @ sae.W_enc
        return sae
    return SparseAutoencoder(W_enc, b_enc, W_dec, b_dec, _activation(path, header, state))


def _activation(path: Path, header: dict[str, Any], state: dict[str, Tensor]) -> Threshold | TopK:
    try:
        spec = header["cfg"]["activation"]
        kind, params = spec["cls"], spec["params"]
        if kind == "TopK":
            return TopK(int(params["top_k"]))
    except (KeyError, TypeError, ValueError) as error:
        raise SemsegError(f"The header of {path} has no readable activation ({error}).") from error
    if kind == "Relu":
        return Threshold()
    if kind == "BatchTopK":
        threshold = state.get("activation.threshold")
        if threshold is None:
            warnings.warn(f"{path} has no BatchTopK threshold: 0 is used (ReLU).", stacklevel=2)
        return Threshold(0.0 if threshold is None else float(threshold))
    raise SemsegError(f"The SAE file {path} has the activation {kind!r}: Relu, TopK, BatchTopK.")


FORMATS = {
    "saev": Format(
        recognises=lambda data: data[:1] == b"{",
        read=_read_saev,
        description="sae.pt with one JSON header line",
    )
}
