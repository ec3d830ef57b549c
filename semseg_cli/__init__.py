"""Is this sparse-autoencoder latent really, and only, about this class?"""

__version__ = "0.1.0"
