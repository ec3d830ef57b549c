"""Files that are whole or not there."""

import contextlib
import errno
import os
import secrets
import shutil
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from semseg_cli.errors import FileError, SemsegError


def write_atomic(path: Path, data: bytes, option: str = "--dump-to") -> None:
    """Writes a file so that a reader sees the old or the new one, never half of it.

    Raises:
        SemsegError: it cannot be written; the sentence names the option to change.
    """
    partial = _aside(path)
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        raise cannot_write(path, error, option) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _aside(path: Path) -> Path:
    """A name beside the file that no other writer has."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def make_folder(path: Path, option: str = "--dump-to") -> None:
    """Makes a folder and its parents.

    Raises:
        SemsegError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error, option) from error


def make_room(path: Path, option: str) -> None:
    """Makes the folder of a file that is written later.

    Raises:
        SemsegError: the file could not be written there.
    """
    make_folder(path.parent, option)
    probe = _aside(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise cannot_write(path, error, option) from error


def keep_old(path: Path, option: str) -> Path | None:
    """Copies a file that is going to be replaced, beside itself and named by when it was made.

    Returns the copy, which is new: none is replaced. None where there is no such file.

    Raises:
        SemsegError: it cannot be copied, so that it should not be replaced.
    """
    try:
        with path.open("rb") as old:
            made = datetime.fromtimestamp(os.fstat(old.fileno()).st_mtime)
            kept, new = _made_new(path, f"{made:%Y%m%d-%H%M%S}")
            with new:
                _fill(kept, old, new)
        shutil.copystat(path, kept)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise cannot_write(path, error, option) from error
    return kept


def _made_new(path: Path, stamp: str) -> tuple[Path, BinaryIO]:
    """A file that was not there, opened: NAME.STAMP, or NAME.STAMP-2 and so on."""
    kept, number = path.with_name(f"{path.stem}.{stamp}{path.suffix}"), 1
    while True:
        try:
            return kept, kept.open("xb")
        except FileExistsError:
            number += 1
            kept = path.with_name(f"{path.stem}.{stamp}-{number}{path.suffix}")


def _fill(path: Path, old: BinaryIO, new: BinaryIO) -> None:
    """Copies a file whole, or leaves none."""
    try:
        shutil.copyfileobj(old, new)
        new.flush()
    except OSError:
        path.unlink(missing_ok=True)
        raise


def nearest_folder(path: Path) -> Path:
    """The path, or the nearest one above it that exists."""
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())


def expanded(path: Path | str) -> Path:
    """The path with the home folder that a `~` or `~name` at its beginning stands for.

    Raises:
        FileError: there is no such user, or no home folder is known.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        user = Path(path).parts[0].removeprefix("~")
        why = f"there is no user {user}" if user else "the home folder of ~ is not known"
        raise FileError(f"{path} cannot be found ({why}): give the whole path.") from error


def cache_folder(given: Path | str | None) -> Path:
    """Where computed statistics and the demo world are kept."""
    import platformdirs

    return expanded(given) if given else Path(platformdirs.user_cache_dir("semseg-cli"))


def cannot_write(path: Path, error: OSError, option: str) -> SemsegError:
    """The sentence for a file or folder that cannot be written."""
    advice = "free some space or give" if error.errno == errno.ENOSPC else "give"
    return SemsegError(
        f"Cannot write {path} ({error.strerror or error}): {advice} another {option}."
    )
