"""Sparse autoencoders: `load` a file, `save` one, and the model itself."""

from semseg_cli.sae.formats import FORMATS, load, save
from semseg_cli.sae.model import SparseAutoencoder, Threshold, TopK

__all__ = ["FORMATS", "SparseAutoencoder", "Threshold", "TopK", "load", "save"]
