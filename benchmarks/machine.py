"""Where and with what something was measured."""

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import semseg_cli


def machine(device: torch.device) -> dict[str, Any]:
    """Processor, cores, memory, GPU, and how busy the machine is with all that runs on it."""
    return {
        "cpu": _of_file(Path("/proc/cpuinfo"), "model name") or platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "memory_gib": _gib(_of_file(Path("/proc/meminfo"), "MemTotal")),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "load": list(os.getloadavg()),
    }


def versions() -> dict[str, Any]:
    """Of all that computes, and how many threads it has."""
    blas = re.search(r"BLAS_INFO=([\w-]+)", torch.__config__.show())
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "semseg-cli": semseg_cli.__version__,
        "cuda": torch.version.cuda,
        "blas": blas[1] if blas else None,
        "threads": torch.get_num_threads(),
    }


def _of_file(path: Path, name: str) -> str | None:
    if not path.exists():
        return None
    found = re.search(rf"^{name}\s*:\s*(.+)$", path.read_text(), re.MULTILINE)
    return found[1].strip() if found else None


def _gib(text: str | None) -> float | None:
    return None if text is None else round(int(text.split()[0]) / 2**20, 1)
