"""Sparse autoencoders: `load` a file or folder of any format, `save` one, and the model itself."""

from semseg_cli.models.sae.centring import choose_centring, reconstruction_error
from semseg_cli.models.sae.formats import FORMATS, format_name, load, load_undecided, save
from semseg_cli.models.sae.model import SparseAutoencoder
from semseg_cli.models.sae.nonlinearities import Gated, JumpReLU, Nonlinearity, Threshold, TopK

__all__ = [
    "FORMATS",
    "Gated",
    "JumpReLU",
    "Nonlinearity",
    "SparseAutoencoder",
    "Threshold",
    "TopK",
    "choose_centring",
    "format_name",
    "load",
    "load_undecided",
    "reconstruction_error",
    "save",
]
