"""Which latent, which edit, what changed."""
