"""`semseg-cli demo build`: the demo world trained from scratch."""
