"""A vision transformer from an alias, a Hugging Face id or a local folder."""

from pathlib import Path
from typing import Any

import torch

from semseg_cli.data.preprocessing import Preprocessing, Size, fitted, from_published
from semseg_cli.errors import SemsegError
from semseg_cli.models.vit.backbone import Backbone
from semseg_cli.models.vit.config_file import CONFIG, check_config, check_folder
from semseg_cli.models.vit.families import FAMILIES, to_side
from semseg_cli.models.vit.fitting import check_weights
from semseg_cli.models.weight_files import read_object

# The file, and the entry of it that describes the images; the first that is there counts.
PROCESSOR_FILES = {"processor_config.json": "image_processor", "preprocessor_config.json": None}


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
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        name = _find(ckpt, family)
        if config_file := _file_of(name, CONFIG):
            check_config(config_file)
        model, info = _load(name, ckpt, family, dtype)
        unused = check_weights(ckpt, model, info)
        preprocessing = _preprocessing(name, family, model.config)
        patch_size_px = to_side(model.config.patch_size)
    except SemsegError:
        raise
    except Exception as error:  # transformers, safetensors and the hub client each have their own
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        aliases = f"an alias ({', '.join(FAMILIES[family].aliases)}), "
        raise SemsegError(
            f"The ViT {ckpt} cannot be loaded ({first}): give "
            f"{aliases if FAMILIES[family].aliases else ''}a Hugging Face id that this machine can "
            "reach or has cached, or a local folder."
        ) from error
    preprocessing = fitted(preprocessing, image_size, patch_size_px)
    return Backbone(model.to(device), family, preprocessing, unused)


def _find(ckpt: str, family: str) -> str:
    """What transformers is to load: a hub id, or the path of a folder that looks like a model."""
    owners = [name for name, row in FAMILIES.items() if ckpt in row.aliases]
    if owners and family not in owners:
        raise SemsegError(
            f"The ViT {ckpt} is of the family {owners[0]}, not {family}: use --vit-family "
            f"{owners[0]}."
        )
    name = FAMILIES[family].aliases.get(ckpt, ckpt)
    local = Path(name).expanduser()
    if local.is_dir():
        check_folder(local)
        return str(local)
    if local.exists() or name.startswith(("/", "./", "../", "~")):
        raise SemsegError(
            f"The ViT folder {ckpt} does not exist or is no folder: check --vit-ckpt."
        )
    return name


def _load(name: str, ckpt: str, family: str, dtype: torch.dtype) -> tuple[Any, dict[str, Any]]:
    """The vision model, and how its file fits it."""
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    if config.model_type not in FAMILIES[family].model_types:
        raise SemsegError(_wrong_family(ckpt, config.model_type, family))
    config = getattr(config, "vision_config", config)  # of a model that also reads text
    model, info = AutoModel.from_pretrained(
        name,
        config=config,
        dtype=dtype,
        weights_only=True,
        trust_remote_code=False,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # told by `check_weights`
    )
    return model, info


def _wrong_family(ckpt: str, model_type: str, family: str) -> str:
    right = [name for name, row in FAMILIES.items() if model_type in row.model_types]
    hint = f"use --vit-family {right[0]}" if right else "check --vit-ckpt and --vit-family"
    return (
        f"The ViT {ckpt} is a {model_type!r} model, the family {family} has "
        f"{' and '.join(FAMILIES[family].model_types)}: {hint}."
    )


def _preprocessing(name: str, family: str, config: Any) -> Preprocessing:
    """The checkpoint's own preprocessing, or its family's where it comes without."""
    row = FAMILIES[family]
    own = row.preprocessing(config)
    for filename, entry in PROCESSOR_FILES.items():
        path = _file_of(name, filename)
        if path is None:
            continue
        try:
            whole = read_object(path)
            published = whole.get(entry) if entry else whole
            if published:
                return from_published(published, own, only_normalisation=row.only_normalisation)
        except (AttributeError, TypeError, ValueError, ArithmeticError) as error:
            raise SemsegError(
                f"The preprocessing in {path} cannot be used ({error}): correct the file."
            ) from error
    return own


def _file_of(name: str, filename: str) -> Path | None:
    """The file of a folder or repository; None if it has none, or none is cached offline."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    if Path(name).is_dir():
        path = Path(name) / filename
        return path if path.exists() else None
    try:
        return Path(hf_hub_download(name, filename))
    except EntryNotFoundError:
        return None
