"""A vision transformer from an alias, a Hugging Face id or a local folder."""

import difflib
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from semseg_cli.data.preprocessing import Size, fitted
from semseg_cli.errors import SemsegError, library_error
from semseg_cli.models.named_files import CONFIG, vit_folder
from semseg_cli.models.vit import open_clip, timm_models
from semseg_cli.models.vit.backbone import Backbone
from semseg_cli.models.vit.config_file import check_config
from semseg_cli.models.vit.families import ALIASES, FAMILIES
from semseg_cli.models.vit.fitting import check_weights
from semseg_cli.models.vit.geometry import to_side
from semseg_cli.models.vit.hub_files import hub_file
from semseg_cli.models.vit.processor import preprocessing_of
from semseg_cli.progress import importing

WINDOWED = "its tokens are no one list of patches (windows, a grid), which sites and edits need"
UNUSABLE = {
    "sam": WINDOWED,
    "radio": "it has several summary tokens and norms of its own, which no family here knows",
}
"""The beginning of a `model_type` -> why such models are not read."""


def load_vit(
    ckpt: str,
    family: str = "dinov2",
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    image_size: Size | None = None,
) -> Backbone:
    """The backbone of an alias (`dinov2_vitb14_reg`), a Hugging Face id or a local folder.

    `image_size` is the height and width that the network sees, instead of the checkpoint's own.

    Raises:
        SemsegError: it cannot be found or read, is of another family, lacks weights, or the image
            size does not hold whole patches.
    """
    with importing():
        from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        name = _find(ckpt, family)
        if config_file := hub_file(name, CONFIG):
            check_config(config_file)
        with importing():  # of the model's own module, too
            model, info = _load(name, ckpt, family, dtype)
        unused = check_weights(ckpt, model, info)
        preprocessing = preprocessing_of(name, FAMILIES[family], model.config)
        patch_size_px = to_side(model.config.patch_size)
    except SemsegError:
        raise
    except Exception as error:  # transformers, safetensors and the hub client each have their own
        if (failure := library_error(error)) is not None:
            raise failure from error
        first = _reason(error)
        aliases = f"an alias ({', '.join(FAMILIES[family].aliases)}), "
        raise SemsegError(
            f"The ViT {ckpt} cannot be loaded ({first}): give "
            f"{aliases if FAMILIES[family].aliases else ''}a Hugging Face id that this machine can "
            "reach or has cached, or a local folder."
        ) from error
    preprocessing = fitted(preprocessing, image_size, patch_size_px)
    return Backbone(model.to(device), family, preprocessing, unused)


def _reason(error: Exception) -> str:
    """Why a model cannot be loaded, without advice for programmers that is not ours."""
    if isinstance(error, SafetensorError):
        return "its weights are cut, or no safetensors file"
    if isinstance(error, pickle.UnpicklingError):
        return "its weights are cut, damaged, or hold more than tensors, which is not run"
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _find(ckpt: str, family: str) -> str:
    """What transformers is to load: a hub id, or the path of a folder that looks like a model."""
    owners = [name for name, row in FAMILIES.items() if ckpt in row.aliases]
    if owners and family not in owners:
        raise SemsegError(
            f"The ViT {ckpt} is of the family {owners[0]}, not {family}: use --vit-family "
            f"{owners[0]}."
        )
    is_word = "/" not in ckpt and ckpt not in ALIASES and not Path(ckpt).exists()
    if is_word and (close := difflib.get_close_matches(ckpt, ALIASES, n=1, cutoff=0.85)):
        raise SemsegError(f"There is no ViT {ckpt}: did you mean {close[0]}?")
    name = FAMILIES[family].aliases.get(ckpt, ckpt)
    return str(vit_folder(name, ckpt) or name)


def _load(name: str, ckpt: str, family: str, dtype: torch.dtype) -> tuple[Any, dict[str, Any]]:
    """The vision model, and how its file fits it."""
    from transformers import AutoConfig, AutoModel

    row = FAMILIES[family]
    if family == "clip" and open_clip.is_only(name):
        return open_clip.load(name, ckpt, dtype)
    _refuse_unusable(name, ckpt)
    config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    if config.model_type not in row.model_types:
        raise SemsegError(_wrong_family(ckpt, config.model_type, family))
    config = getattr(config, "vision_config", config)  # of a model that also reads text
    row.prepare(config)
    model, info = AutoModel.from_pretrained(
        name,
        config=config,
        dtype=dtype,
        weights_only=True,
        trust_remote_code=False,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # told by `check_weights`
        **row.model_options,
    )
    row.complete(model)
    return model, info


def _refuse_unusable(name: str, ckpt: str) -> None:
    """Refuses models by what config.json says, before transformers asks for their code or timm."""
    from transformers import PretrainedConfig

    raw, _ = PretrainedConfig.get_config_dict(name)
    model_type = str(raw.get("model_type") or "")
    known = {one for row in FAMILIES.values() for one in row.model_types}
    names = {model_type.lower(), *(str(one).lower() for one in raw.get("architectures") or [])}
    for kind, reason in UNUSABLE.items():
        if any(one.startswith(kind) for one in names):
            raise SemsegError(
                f"The ViT {ckpt} is a {kind.upper()} model: {reason}; take one of the families "
                f"{', '.join(FAMILIES)}."
            )
    if "auto_map" in raw and model_type not in known:
        raise SemsegError(
            f"The ViT {ckpt} needs code of its own repository, which is not run: take a model that "
            f"transformers knows, of the families {', '.join(FAMILIES)}."
        )
    if "pretrained_cfg" in raw:
        timm_models.require_timm()


def _wrong_family(ckpt: str, model_type: str, family: str) -> str:
    right = [name for name, row in FAMILIES.items() if model_type in row.model_types]
    hint = f"use --vit-family {right[0]}" if right else "check --vit-ckpt and --vit-family"
    return (
        f"The ViT {ckpt} is a {model_type!r} model, the family {family} has "
        f"{' and '.join(FAMILIES[family].model_types)}: {hint}."
    )
