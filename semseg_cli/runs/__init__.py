"""The run folder and the form of its files, reports and inference on counts; no torch."""
