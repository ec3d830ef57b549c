"""From settings to loaded parts, chosen latents, outcomes, result files."""
