"""A ViT's config.json, before anything is built of it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from semseg_cli.errors import FileError
from semseg_cli.models.weight_files import read_object

# Largest values that any published model comes near to; above, a config is taken for damaged.
MOST = {
    "num_hidden_layers": 1_000,
    "num_attention_heads": 1_000,
    "hidden_size": 100_000,
    "intermediate_size": 1_000_000,
    "image_size": 10_000,
    "patch_size": 1_000,
    "num_channels": 1_000,
    "num_register_tokens": 10_000,
}
MAY_BE_0 = ("num_register_tokens",)


def check_config(path: Path) -> None:
    """Refuses a config whose numbers no model has.

    Raises:
        FileError: a number is not finite, or a size is none, or beyond all models.
    """
    config = read_object(path)
    _check_numbers(path, config)
    vision = config.get("vision_config")
    if isinstance(vision, dict):
        _check_numbers(path, vision)


def _check_numbers(path: Path, config: Mapping[str, Any]) -> None:
    for name, value in config.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise FileError(f"{path} has {name} = {value}: expected a finite number.")
        if name in MOST and not all(_is_size(name, side) for side in _sides(value)):
            least = 0 if name in MAY_BE_0 else 1
            raise FileError(
                f"{path} has {name} = {str(value)[:40]}: expected a whole number from {least} to "
                f"{MOST[name]}."
            )
    heads, width = config.get("num_attention_heads"), config.get("hidden_size")
    if isinstance(heads, int) and isinstance(width, int) and width % heads:
        raise FileError(f"{path} has hidden_size = {width}, which {heads} heads do not divide.")


def _sides(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) and value else [value]


def _is_size(name: str, value: Any) -> bool:
    return value is None or (
        type(value) is int and (0 if name in MAY_BE_0 else 1) <= value <= MOST[name]
    )
