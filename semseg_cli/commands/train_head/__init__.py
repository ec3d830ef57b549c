"""`semseg-cli train-head`: linear heads, a sweep at once."""
