"""Prisma (ViT-Prisma): `weights.pt` with `config.json` beside it, or its pickled config inside.

The tensors have SAELens' names; b_dec is always subtracted, tokens are layer-normalised unless the
config says otherwise.
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from semseg_cli.errors import SemsegError
from semseg_cli.models.sae.model import SparseAutoencoder
from semseg_cli.models.sae.patchsae import STATE, config_of, is_checkpoint
from semseg_cli.models.sae.saelens import build, upgraded
from semseg_cli.models.sae.source import Source
from semseg_cli.models.sae.trained_at import of_hook
from semseg_cli.models.weight_files import as_state, read_object, read_torch

CONFIG = "config.json"
NOT_OURS = "ae.pt"  # dictionary_learning has a config.json too
ARCHITECTURES = ("standard", "gated")
PACKAGE = "vit_prisma."


def recognises(source: Source) -> bool:
    """Whether there is one PyTorch file beside Prisma's config, or with it inside."""
    path = source.torch_file()
    if path is None or path.name == NOT_OURS:
        return False
    return CONFIG in source.names or _pickled_config(source.peek()) is not None


def _pickled_config(found: Any) -> dict[str, Any] | None:
    """The values of the config inside a file, where its class is Prisma's."""
    kind, config = config_of(found) if is_checkpoint(found) else ("", {})
    return config if kind.startswith(PACKAGE) else None


def read(source: Source) -> SparseAutoencoder:
    """The autoencoder in a Prisma folder or file; a config.json goes before a pickled config."""
    path = source.torch_file() or source.folder / source.only(".pt")
    found = read_torch(path)
    if CONFIG in source.names:
        cfg = read_object(source.folder / CONFIG)
    else:
        cfg = _pickled_config(found) or read_object(source.file(CONFIG))
    _refuse(path, cfg)
    own = {"apply_b_dec_to_input": True, "reshape_activations": "none"}
    cfg = upgraded({"normalize_activations": "layer_norm", **cfg, **own}, path)
    sae = build(path, cfg, _state(path, found))
    hook = cfg["hook_name"] or _hook(cfg)
    sae.trained_at = of_hook(hook, cls_only=bool(cfg.get("cls_token_only")))
    return sae


def _hook(cfg: dict[str, Any]) -> str | None:
    """The hook that the config's own class makes of two of its entries."""
    block, kind = cfg.get("hook_point_layer"), cfg.get("layer_subtype")
    return None if block is None or kind is None else f"blocks.{block}.{kind}"


def _state(path: Path, found: Any) -> dict[str, Tensor]:
    inside = found.get(STATE) if isinstance(found, dict) else None
    return as_state(path, found if inside is None else inside)


def _refuse(path: Path, cfg: dict[str, Any]) -> None:
    if cfg.get("is_transcoder"):
        raise SemsegError(
            f"The SAE {path} is a transcoder (is_transcoder in its config): it predicts another "
            "place of the ViT than it reads and cannot be used."
        )
    if cfg.get("architecture", "standard") not in ARCHITECTURES:
        raise SemsegError(
            f"The SAE {path} has the architecture {cfg['architecture']!r}: "
            f"{', '.join(ARCHITECTURES)} are read."
        )
