"""The file that `--save` is going to replace is kept beside the new one."""

from pathlib import Path

from semseg_cli.files import keep_old
from semseg_cli.show import console


def keep_replaced(path: Path | None, *, quiet: bool) -> None:
    """Keeps a copy of the file, where there is one, and says where.

    Raises:
        SemsegError: it cannot be kept.
    """
    if path is not None and (kept := keep_old(path, "--save")) is not None:
        console.say(f"{path} was there already: it is kept as {kept}.", quiet=quiet)
