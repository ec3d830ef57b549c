"""dictionary_learning: `ae.pt` and a `config.json` with `trainer.dict_class`, by version 0.1.0.

Checkpoints are `checkpoints/ae_{step}.pt`, with the config one folder up.
"""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from semseg_cli.errors import SemsegError
from semseg_cli.models.sae.model import WEIGHTS, SparseAutoencoder
from semseg_cli.models.sae.nonlinearities import JumpReLU, Nonlinearity, Threshold, TopK
from semseg_cli.models.sae.source import Source, listed, take
from semseg_cli.models.sae.trained_at import TrainedAt, of_block
from semseg_cli.models.sae.weights import fold_decoder_norms, gated
from semseg_cli.models.vit.sites import ATTN_OUT, MLP_OUT, RESID_POST
from semseg_cli.models.weight_files import as_state, read_object, read_torch

log = logging.getLogger("semseg_cli")
CONFIG = "config.json"
WEIGHTS_FILE = "ae.pt"
STEPS = "checkpoints"
STEP_FILE = re.compile(r"ae_(\d+)\.pt")
SUBMODULES = {"resid": RESID_POST, "mlp": MLP_OUT, "attn": ATTN_OUT}  # the first that is in it
State = dict[str, Tensor]


def recognises(source: Source) -> bool:
    """Whether the weights have dictionary_learning's name, or that of a checkpoint."""
    return _weights(source) is not None


def _weights(source: Source) -> Path | None:
    """The weights: the path itself, `ae.pt`, or the checkpoint of the last step."""
    if source.path != source.folder:
        is_ours = source.path.name == WEIGHTS_FILE or STEP_FILE.fullmatch(source.path.name)
        return source.path if is_ours else None
    if WEIGHTS_FILE in source.names:
        return source.folder / WEIGHTS_FILE
    folders = (source.folder, source.folder / STEPS)
    found = [path for folder in folders if folder.is_dir() for path in folder.glob("ae_*.pt")]
    steps = {int(m[1]): path for path in found if (m := STEP_FILE.fullmatch(path.name))}
    return steps[max(steps)] if steps else None


def read(source: Source, dict_class: str | None = None) -> SparseAutoencoder:
    """The autoencoder in a dictionary_learning folder; of the class given, else by its config."""
    path = _weights(source) or source.file(WEIGHTS_FILE)
    configs = [folder / CONFIG for folder in (path.parent, path.parent.parent)]
    config = next((one for one in configs if one.is_file()), None)
    trainer = read_object(config).get("trainer") if config is not None else None
    trainer = trainer if isinstance(trainer, dict) else {}
    if dict_class is None and config is not None:
        dict_class = _class_in(path, trainer)
    state = _state(path)
    sae = CLASSES[dict_class or _class_of(path, state)](path, state)
    sae.trained_at = _trained_at(trainer)
    return sae


def _trained_at(trainer: dict[str, Any]) -> TrainedAt:
    """By the trainer's layer, from 0, and its submodule, a name that users choose."""
    layer, module = trainer.get("layer"), str(trainer.get("submodule_name") or "resid")
    site = next((site for part, site in SUBMODULES.items() if part in module), None)
    if type(layer) is not int or layer < 0 or site is None:
        return TrainedAt()
    return of_block(layer, f"layer {layer}, {module}", site)


def _class_in(path: Path, trainer: dict[str, Any]) -> str:
    dict_class = trainer.get("dict_class")
    if not isinstance(dict_class, str) or dict_class not in CLASSES:
        raise SemsegError(
            f"The SAE {path} is of dict_class {dict_class!r} in {CONFIG}: {', '.join(CLASSES)} are "
            "read."
        )
    return dict_class


def _class_of(path: Path, state: State) -> str:
    """The class that the tensors tell, where there is no config."""
    found = next((name for name, tensors in TOLD_BY.items() if tensors <= set(state)), None)
    if found is None:
        raise SemsegError(
            f"The SAE {path} has no {CONFIG} beside it or one folder up, and its tensors "
            f"({listed(state)}) tell no class: copy the config."
        )
    if found == "AutoEncoderTopK":
        raise SemsegError(
            f"The SAE {path} has no {CONFIG} beside it or one folder up, and its tensors may be "
            "those of AutoEncoderTopK or of BatchTopKSAE: copy the config, or give --sae-format "
            "dictionary_learning_topk or dictionary_learning_batchtopk."
        )
    return found


def read_top_k(source: Source) -> SparseAutoencoder:
    """As `read`, of AutoEncoderTopK."""
    return read(source, "AutoEncoderTopK")


def read_batch_top_k(source: Source) -> SparseAutoencoder:
    """As `read`, of BatchTopKSAE."""
    return read(source, "BatchTopKSAE")


def recognises_none(source: Source) -> bool:
    """For rows that are only taken where they are named."""
    return False


def _state(path: Path) -> State:
    found = read_torch(path)
    if isinstance(found, dict) and {"ae", "step"} <= set(found):
        raise SemsegError(
            f"{path} is a backup to resume training from (with its step): where training "
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
    W_enc, b_enc, W_dec, _ = fold_decoder_norms(W_enc, b_enc, W_dec)  # as from_pretrained does
    return _made(W_enc, b_enc, W_dec, bias, Threshold(), centres_input=True)


def _auto_encoder_new(path: Path, state: State) -> SparseAutoencoder:
    W_enc, W_dec = _linear(path, state)
    b_enc, b_dec = take(path, state, ["encoder.bias", "decoder.bias"])
    return _made(W_enc, b_enc, W_dec, b_dec, Threshold(), centres_input=False)


def _gated(path: Path, state: State) -> SparseAutoencoder:
    W_enc, W_dec = _linear(path, state)
    names = ["gate_bias", "mag_bias", "r_mag", "decoder_bias"]
    b_gate, b_mag, r_mag, b_dec = take(path, state, names)
    return _made(W_enc, b_gate, W_dec, b_dec, gated(b_gate, b_mag, r_mag), centres_input=True)


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
    W_enc, b_enc, W_dec, b_dec, threshold = take(path, state, [*WEIGHTS, "threshold"])
    return _made(W_enc, b_enc, W_dec, b_dec, JumpReLU(threshold), centres_input=False)


def _threshold(path: Path, state: State) -> Threshold:
    if "threshold" not in state:
        log.warning("%s has no BatchTopK threshold: 0 is used (ReLU).", path)
        return Threshold()
    return Threshold(float(state["threshold"]))  # -1 where training never set it: ReLU


def _made(
    W_enc: Tensor,
    b_enc: Tensor,
    W_dec: Tensor,
    b_dec: Tensor,
    nonlinearity: Nonlinearity,
    *,
    centres_input: bool,
) -> SparseAutoencoder:
    return SparseAutoencoder(
        W_enc,
        b_enc,
        W_dec,
        b_dec,
        nonlinearity,
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
    "MatroyshkaBatchTopKSAE": _matryoshka,
    "JumpReluAutoEncoder": _jump_relu,
}
"""dict_class -> its reader; sae-for-vlm spells one of them so."""
TOLD_BY = {
    "MatryoshkaBatchTopKSAE": {*WEIGHTS, "group_sizes"},
    "JumpReluAutoEncoder": {*WEIGHTS, "threshold"},
    "GatedAutoEncoder": {"encoder.weight", "r_mag"},
    "AutoEncoderTopK": {"encoder.weight", "b_dec", "k"},
    "AutoEncoderNew": {"encoder.weight", "decoder.bias"},
    "AutoEncoder": {"encoder.weight", "bias"},
}
"""Class -> tensors that tell it, tried in this order."""
