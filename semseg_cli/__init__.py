"""Is this sparse-autoencoder latent really, and only, about this class?"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semseg_cli.api import Comparison, Data, Lookup, Result, Run, lookup, run

__version__ = "0.1.0"
__all__ = ["Comparison", "Data", "Lookup", "Result", "Run", "lookup", "run"]


def __getattr__(name: str) -> Any:
    """The names of `semseg_cli.api`, which loads torch: only once one is asked for."""
    if name in __all__:
        return getattr(import_module("semseg_cli.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
