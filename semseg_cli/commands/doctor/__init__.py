"""`semseg-cli doctor`: do the parts of a run exist, and do they fit each other?"""

from semseg_cli.commands.doctor.command import CHECKS, diagnose

__all__ = ["CHECKS", "diagnose"]
