"""What commands do, from Python: with files and presets, or with objects that are in memory.

`import semseg_cli` hands these names on.
"""

from semseg_cli.api.comparing import Comparison
from semseg_cli.api.lookups import Lookup
from semseg_cli.api.results import Result, Run
from semseg_cli.api.running import lookup, run
from semseg_cli.data.held import Data

__all__ = ["Comparison", "Data", "Lookup", "Result", "Run", "lookup", "run"]
