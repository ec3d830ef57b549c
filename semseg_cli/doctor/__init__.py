"""`semseg-cli doctor`: do the parts of a run exist, and do they fit each other?"""

from semseg_cli.doctor.diagnose import CHECKS, diagnose

__all__ = ["CHECKS", "diagnose"]
