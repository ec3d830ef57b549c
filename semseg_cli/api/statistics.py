"""Statistics of an SAE that are in memory: settings name a file of the cache in their place."""

from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as to_safetensors

from semseg_cli.errors import UsageError
from semseg_cli.files import make_folder, write_atomic
from semseg_cli.models.named_files import STATISTICS
from semseg_cli.settings.toml_files import layered_cache


def as_files(options: Mapping[str, Any], config: str | Path | None) -> dict[str, Any]:
    """The options with a file for each statistic that is a tensor, an array or a list; it lies in
    the cache folder of the options or of the settings file.

    Raises:
        UsageError: it does not hold numbers, or the settings file cannot be used.
        SemsegError: the cache cannot be written.
    """
    arrays = {n: value for n, value in options.items() if n in STATISTICS and _is_array(value)}
    if not arrays:
        return dict(options)
    cache = layered_cache(None if config is None else str(config), options)
    folder = cache / "stats" / "given"
    return {**options, **{name: _file(name, value, folder) for name, value in arrays.items()}}


def _is_array(value: Any) -> bool:
    return isinstance(value, list | tuple) or (
        isinstance(value, torch.Tensor | np.ndarray) and value.ndim > 0
    )


def _file(name: str, value: Any, folder: Path) -> Path:
    try:
        tensor = torch.as_tensor(value, dtype=torch.float32).detach().cpu().contiguous()
    except (TypeError, ValueError, RuntimeError) as error:
        said = f"{name} does not hold numbers: give a tensor, a number or a file"
        raise UsageError(said) from error
    data = to_safetensors({name: tensor})
    path = folder / f"{name}-{blake2b(data, digest_size=8).hexdigest()}.safetensors"
    make_folder(folder, "--cache-dir")
    write_atomic(path, data, "--cache-dir")
    return path
