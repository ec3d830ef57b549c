"""`semseg-cli suite`: every method, control and baseline, and what they come to."""
