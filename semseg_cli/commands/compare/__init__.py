"""`semseg-cli compare`: runs side by side."""
