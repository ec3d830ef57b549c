"""PyTorch files, read without running them: no class or function that a file names is imported."""

from semseg_cli.models.torch_files.container import read_torch_file
from semseg_cli.models.torch_files.records import (
    BadPickle,
    Name,
    Record,
    is_module,
    is_small,
    module_tensors,
)

__all__ = [
    "BadPickle",
    "Name",
    "Record",
    "is_module",
    "is_small",
    "module_tensors",
    "read_torch_file",
]
