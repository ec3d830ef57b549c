"""`env`: what a bug report should say of the machine and of what is installed."""

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from semseg_cli import __version__
from semseg_cli.errors import SemsegError
from semseg_cli.files import cache_folder
from semseg_cli.show import console
from semseg_cli.show.tables import Column, Table
from semseg_cli.tracking.store_address import public, resolve_uri

PACKAGES = (
    "torch", "transformers", "mlflow", "huggingface-hub", "safetensors", "numpy", "scipy",
    "pandas", "pyarrow", "pillow", "matplotlib", "typer", "rich", "timm", "open-clip-torch",
    "psutil",
)  # fmt: skip
COLUMNS = (Column("what", "what", "text"), Column("value", "value", "text", elastic=True))
GIB = 2**30


def print_environment(format: str, cache_dir: Path | None, tracking_uri: str | None) -> None:
    """Prints a row per fact; addresses come without their secrets."""
    facts = {**software(), **hardware(), **places(cache_dir, tracking_uri)}
    rows = tuple({"what": what, "value": value} for what, value in facts.items())
    console.show(Table("Environment", COLUMNS, rows), format)


def software() -> dict[str, str]:
    """What is installed, and where."""
    return {
        "semseg-cli": f"{__version__} in {Path(__file__).parents[1]}",
        "python": f"{platform.python_version()} at {sys.executable}",
        "system": platform.platform(),
        **{name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def hardware() -> dict[str, str]:
    """Processors, torch's threads, and the GPUs that torch sees."""
    n_gpus = torch.cuda.device_count()
    gpus = {f"cuda:{i}": _gpu(torch.cuda.get_device_properties(i)) for i in range(n_gpus)}
    return {
        "processors": f"{os.cpu_count()} ({platform.machine()})",
        "torch threads": str(torch.get_num_threads()),
        "CUDA": torch.version.cuda or "torch is a build without CUDA",
        **(gpus or {"GPUs": "none"}),
    }


def _gpu(properties: Any) -> str:
    return f"{properties.name}, {properties.total_memory / GIB:.0f} GiB"


def places(cache_dir: Path | None, tracking_uri: str | None) -> dict[str, str]:
    """Where things are kept, and the variables that change what commands do."""
    try:
        store = public(resolve_uri(tracking_uri))
    except SemsegError as error:
        store = f"none: {error}"
    return {
        "folder": str(Path.cwd()),
        "cache": str(cache_folder(cache_dir)),
        "settings file": os.environ.get("SEMSEG_CONFIG", "none (SEMSEG_CONFIG)"),
        "tracking store": store,
        "variables": ", ".join(sorted(filter(_is_ours, os.environ))) or "none",
    }


def _is_ours(name: str) -> bool:
    """Names alone: values may hold passwords."""
    return name.startswith(("SEMSEG_", "MLFLOW_", "HF_", "CUDA_VISIBLE", "OMP_NUM"))
