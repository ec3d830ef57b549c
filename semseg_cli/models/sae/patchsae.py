"""PatchSAE, ConceptScope and others after HugoFry: one PyTorch file of `cfg` and `state_dict`."""

from typing import Any

from semseg_cli.errors import SemsegError
from semseg_cli.models.sae.model import WEIGHTS, SparseAutoencoder
from semseg_cli.models.sae.source import Source, take
from semseg_cli.models.sae.trained_at import of_block
from semseg_cli.models.torch_files import Record, is_small
from semseg_cli.models.vit.sites import RESID_POST
from semseg_cli.models.weight_files import as_state, read_torch

STATE = "state_dict"
CONFIGS = ("cfg", "config")


def recognises(source: Source) -> bool:
    """Whether there is one PyTorch file with a config and a state dict."""
    return is_checkpoint(source.peek())


def is_checkpoint(found: Any) -> bool:
    """Whether a value is a dict of a config and the state dict of an SAE."""
    state = found.get(STATE) if isinstance(found, dict) else None
    return isinstance(state, dict) and "W_enc" in state and any(name in found for name in CONFIGS)


def config_of(found: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The class of a checkpoint's config, and its plain values; a dict has no class."""
    config = next((found[name] for name in CONFIGS if name in found), None)
    kind = config.kind if isinstance(config, Record) else ""
    values = config.state() if isinstance(config, Record) else config
    if not isinstance(values, dict):
        return kind, {}
    return kind, {name: value for name, value in values.items() if is_small(value)}


def read(source: Source) -> SparseAutoencoder:
    """The autoencoder in such a file: b_dec is subtracted, then ReLU."""
    path = source.torch_file() or source.path
    found = read_torch(path)
    if not is_checkpoint(found):
        raise SemsegError(f"The SAE {path} lacks a config and a state dict of its own.")
    _, config = config_of(found)
    if config.get("gated_sae"):
        raise SemsegError(
            f"The SAE {path} is gated (gated_sae in its config), which its own code leaves "
            "unfinished: it cannot be used."
        )
    W_enc, b_enc, W_dec, b_dec = take(path, as_state(path, found[STATE]), WEIGHTS)
    sae = SparseAutoencoder(W_enc, b_enc, W_dec, b_dec, centres_input=True, needs_scaling=False)
    if config.get("module_name", "resid") == "resid":
        block = config.get("block_layer")
        sae.trained_at = of_block(block, f"block_layer {block}", RESID_POST)
    return sae
