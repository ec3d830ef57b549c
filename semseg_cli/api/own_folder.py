"""A folder that goes with the object that needs it."""

import shutil
import weakref
from pathlib import Path
from tempfile import mkdtemp


class OwnFolder:
    """A new temporary folder, which is removed with this object, at the latest at the exit."""

    def __init__(self) -> None:
        self.path = Path(mkdtemp(prefix="semseg-cli-"))
        self._removal = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def remove(self) -> None:
        """Removes it now."""
        self._removal()
