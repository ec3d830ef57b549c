"""From picture and mask files to batches with patch labels."""
