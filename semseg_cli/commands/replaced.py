"""The file that `--save` is going to replace is kept beside the new one."""

import filecmp
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from semseg_cli.files import keep_old
from semseg_cli.models.head_images import beside, copy_beside
from semseg_cli.show import console


@contextmanager
def keeping(path: Path, *, quiet: bool) -> Iterator[None]:
    """Runs a block that may replace the file; what was there before is kept, and said where, unless
    the file is the same byte for byte afterwards. A head is kept with the images it was made with.

    Raises:
        SemsegError: it cannot be kept.
    """
    kept = keep_old(path, "--save")
    if kept is not None:
        copy_beside(path, kept, "--save")
    try:
        yield
    finally:
        if kept is not None:
            if filecmp.cmp(path, kept, shallow=False):
                kept.unlink()
                beside(kept).unlink(missing_ok=True)
            else:
                console.say(f"{path} was there already: it is kept as {kept}.", quiet=quiet)
