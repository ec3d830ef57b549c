"""Frozen ViT, autoencoders, head; residuals and their cache; memory budget."""
