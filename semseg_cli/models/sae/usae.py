"""Universal SAEs: per vision transformer one `.pth` with overcomplete's state dict; a YAML config.

Trained on `(x - mean) / (std + 1e-5)`, with the mean and std (one number, or one per dimension)
that the config has for each model. That is folded into the weights, so the latents are those of x.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semseg_cli.errors import SemsegError
from semseg_cli.models.sae import overcomplete
from semseg_cli.models.sae.model import SparseAutoencoder
from semseg_cli.models.sae.overcomplete_dictionary import WEIGHTS
from semseg_cli.models.sae.source import Source, listed
from semseg_cli.models.sae.trained_at import TrainedAt
from semseg_cli.models.sae.weights import fold_whitening
from semseg_cli.models.vit.sites import NORM_OUT
from semseg_cli.models.weight_files import as_state, read_torch

STATE = "model_state_dict"
EPS = 1e-5


def recognises(source: Source) -> bool:
    """Whether there is one PyTorch file with overcomplete's state dict in it."""
    found = source.peek()
    state = found.get(STATE) if isinstance(found, dict) else None
    return isinstance(state, dict) and WEIGHTS in state


def read(source: Source) -> SparseAutoencoder:
    """The autoencoder in such a file, of x itself."""
    path = source.torch_file() or source.path
    found = read_torch(path)
    state = as_state(path, found.get(STATE) if isinstance(found, dict) else found)
    config = source.config()
    shared = _part(config.get("sae_params"))
    top_k = shared.get("top_k")
    if type(top_k) is not int:
        raise SemsegError(
            f"The SAE {path} needs its config beside it (one .yaml file with sae_params.top_k and, "
            f"in model_zoo, model_mean and model_std of each model); found {listed(config)}."
        )
    normalization = shared.get("dictionary_normalization", "l2")
    sae = overcomplete.build(path, {"top_k": top_k, "normalization": normalization}, state)
    if not _part(config.get("global")).get("standardize", True):
        return _after_norm(sae)
    own = _model(path, config)
    mean, std = (_per_dimension(path, own, name, sae.d_model) for name in ("mean", "std"))
    weights = (sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec)
    std = std + EPS
    folded = fold_whitening(
        weights, mean, torch.diag(1 / std), torch.diag(std), centres_input=False
    )
    return _after_norm(SparseAutoencoder(*folded, sae.nonlinearity, needs_scaling=False))


def _after_norm(sae: SparseAutoencoder) -> SparseAutoencoder:
    """Its training reads what overcomplete's wrappers of models give."""
    sae.trained_at = TrainedAt("USAE, tokens after the final norm", sites=(NORM_OUT,))
    return sae


def _model(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The config's entry of the model whose checkpoint has this name; else the only one."""
    models = _part(config.get("model_zoo"))
    entries = [_part(model) for model in models.values()]
    named = [m for m in entries if Path(str(m.get("checkpoint_path"))).name == path.name]
    found = named or entries
    if len(found) != 1:
        raise SemsegError(
            f"The config beside the SAE {path} has no model (of {listed(models)}) whose "
            f"checkpoint_path ends in {path.name}: its model_mean and model_std are needed."
        )
    return found[0]


def _part(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _per_dimension(path: Path, model: dict[str, Any], name: str, d_model: int) -> Tensor:
    try:
        value = torch.tensor(model[f"model_{name}"], dtype=torch.float64)
        return value.expand(d_model)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise SemsegError(
            f"The config beside the SAE {path} has no readable model_{name}: a number, or "
            f"{d_model} of them."
        ) from error
