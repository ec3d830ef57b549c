"""Several processes that share a command."""
