"""dictionary_learning: a folder with `ae.pt` and a `config.json` with `trainer.dict_class`."""

import warnings
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from semseg_cli.errors import SemsegError
from semseg_cli.models.sae.model import WEIGHTS, SparseAutoencoder
from semseg_cli.models.sae.nonlinearities import Activation, Gated, JumpReLU, Threshold, TopK
from semseg_cli.models.sae.source import Source, as_state, read_json, read_torch, take
from semseg_cli.models.sae.weights import decoder_norms, fold_decoder_norms, gated

CONFIG = "config.json"
WEIGHTS_FILE = "ae.pt"
State = dict[str, Tensor]


def recognises(source: Source) -> bool:
    """Whether the weights have dictionary_learning's name."""
    return WEIGHTS_FILE in source.names


def read(source: Source) -> SparseAutoencoder:
    """The autoencoder in a dictionary_learning folder."""
    path = source.file(WEIGHTS_FILE)
    trainer = read_json(source.file(CONFIG)).get("trainer")
    dict_class = trainer.get("dict_class") if isinstance(trainer, dict) else None
    if dict_class not in CLASSES:
        raise SemsegError(
            f"The SAE {path} is of dict_class {dict_class!r} in {CONFIG}: {', '.join(CLASSES)} are "
            "read."
        )
    return CLASSES[dict_class](path, _state(path))


def _state(path: Path) -> State:
    found = read_torch(path)
    if isinstance(found, dict) and {"ae", "step"} <= set(found):
        raise SemsegError(
            f"{path} is a backup to resume training from (step {found['step']}): where training "
            "normalises activations its biases are not scaled back; use the ae.pt that the run "
            "wrote at its end."
        )
    return as_state(path, found)


def _linear(path: Path, state: State) -> tuple[Tensor, Tensor]:
    """W_enc and W_dec of the classes that use linear layers, which store the transposes."""
    encoder, decoder = take(path, state, ["encoder.weight", "decoder.weight"])
    return encoder.T, decoder.T


def _auto_encoder(path: Path, state: State) -> SparseAutoencoder:
    W_enc, W_dec = _linear(path, state)
    b_enc, bias = take(path, state, ["encoder.bias", "bias"])
    return _made(W_enc, b_enc, W_dec, bias, Threshold(), centres_input=True)


def _auto_encoder_new(path: Path, state: State) -> SparseAutoencoder:
    W_enc, W_dec = _linear(path, state)
    b_enc, b_dec = take(path, state, ["encoder.bias", "decoder.bias"])
    return _made(W_enc, b_enc, W_dec, b_dec, Threshold(), centres_input=False)


def _gated(path: Path, state: State) -> SparseAutoencoder:
    """Latents are multiplied by the decoder norms after encoding, and divided before decoding."""
    W_enc, W_dec = _linear(path, state)
    names = ["gate_bias", "mag_bias", "r_mag", "decoder_bias"]
    b_gate, b_mag, r_mag, b_dec = take(path, state, names)
    norms, plain = decoder_norms(W_dec), gated(b_gate, b_mag, r_mag)
    activation = Gated(plain.gain * norms, plain.shift * norms)
    W_dec = W_dec / norms[:, None]
    return _made(W_enc, b_gate, W_dec, b_dec, activation, centres_input=True)


def _top_k(path: Path, state: State) -> SparseAutoencoder:
    W_enc, W_dec = _linear(path, state)
    b_enc, b_dec, k = take(path, state, ["encoder.bias", "b_dec", "k"])
    return _made(W_enc, b_enc, W_dec, b_dec, TopK(int(k), relu=True), centres_input=True)


def _batch_top_k(path: Path, state: State) -> SparseAutoencoder:
    W_enc, W_dec = _linear(path, state)
    b_enc, b_dec = take(path, state, ["encoder.bias", "b_dec"])
    return _made(W_enc, b_enc, W_dec, b_dec, _threshold(path, state), centres_input=True)


def _matryoshka(path: Path, state: State) -> SparseAutoencoder:
    W_enc, b_enc, W_dec, b_dec = take(path, state, WEIGHTS)
    return _made(W_enc, b_enc, W_dec, b_dec, _threshold(path, state), centres_input=True)


def _jump_relu(path: Path, state: State) -> SparseAutoencoder:
    """As `_gated` about the norms; b_dec is not subtracted."""
    W_enc, b_enc, W_dec, b_dec, threshold = take(path, state, [*WEIGHTS, "threshold"])
    W_enc, b_enc, W_dec, norms = fold_decoder_norms(W_enc, b_enc, W_dec)
    return _made(W_enc, b_enc, W_dec, b_dec, JumpReLU(threshold * norms), centres_input=False)


def _threshold(path: Path, state: State) -> Threshold:
    if "threshold" not in state:
        warnings.warn(f"{path} has no BatchTopK threshold: 0 is used (ReLU).", stacklevel=2)
        return Threshold()
    return Threshold(float(state["threshold"]))  # -1 where training never set it: ReLU


def _made(
    W_enc: Tensor,
    b_enc: Tensor,
    W_dec: Tensor,
    b_dec: Tensor,
    activation: Activation,
    *,
    centres_input: bool,
) -> SparseAutoencoder:
    return SparseAutoencoder(
        W_enc,
        b_enc,
        W_dec,
        b_dec,
        activation,
        centres_input=centres_input,
        needs_scaling=False,
    )


CLASSES: dict[str, Callable[[Path, State], SparseAutoencoder]] = {
    "AutoEncoder": _auto_encoder,
    "AutoEncoderNew": _auto_encoder_new,
    "GatedAutoEncoder": _gated,
    "AutoEncoderTopK": _top_k,
    "BatchTopKSAE": _batch_top_k,
    "MatryoshkaBatchTopKSAE": _matryoshka,
    "JumpReluAutoEncoder": _jump_relu,
}
"""dict_class -> its reader."""
