"""Known failures. Their message is one sentence: what was wrong, what was expected, what to try."""

import traceback
import unicodedata
from collections.abc import Iterator
from importlib import metadata

# Control and format characters, lone surrogates, separators of lines.
COMMANDING = ("Cc", "Cf", "Cs", "Zl", "Zp")


def printable(text: str, keep: str = "") -> str:
    """A text whose control characters are spelled out, so that a name cannot command a terminal.

    Signs in `keep` stay.
    """
    return "".join(sign if sign in keep else _spelled(sign) for sign in text)


def _spelled(sign: str) -> str:
    is_plain = unicodedata.category(sign) not in COMMANDING
    return sign if is_plain else sign.encode("unicode_escape").decode()


class SemsegError(Exception):
    """A failure whose cause we know; the command line prints its sentence and exits with 1."""

    def __str__(self) -> str:
        return printable(super().__str__(), keep="\n")


class UsageError(SemsegError):
    """A wrong option or argument; the command line exits with 2."""


class FileError(SemsegError):
    """A file is not what it should be."""


class NoLatents(SemsegError):
    """No class has a latent that detects it."""


class StoreError(SemsegError):
    """The MLflow tracking store cannot be reached, read or written."""


class VersionError(FileError):
    """A file or run that another version of this program wrote, in a form unknown to this one."""


class LibraryError(SemsegError):
    """A library cannot be imported."""


class LostWorkerError(SemsegError):
    """A process that loads images has died."""


def lost_worker(said: str) -> LostWorkerError:
    """The error, with what was said of it."""
    return LostWorkerError(
        f"A process that loads images has died ({said.splitlines()[0].rstrip('. ')}): is memory "
        "short, or /dev/shm full? Give fewer --workers or a smaller --batch-size."
    )


def found_lost(error: BaseException) -> LostWorkerError | None:
    """The sentence for torch's error that a loading process has died, raised wherever the program
    is at that moment; None for another error."""
    for one in _causes(error):
        if isinstance(one, RuntimeError) and str(one).startswith("DataLoader worker (pid"):
            return lost_worker(str(one))
    return None


def library_error(error: BaseException) -> LibraryError | None:
    """The sentence for an error of a library that could not be imported; None for another error.

    Libraries that import their parts late raise errors of their own, caused by the one that counts.
    """
    name, cause = None, error
    for one in _causes(error):
        found = _first_imported(one)
        if found is not None:
            name, cause = name or found, one
    if name is None or isinstance(cause, OSError | MemoryError):
        return None
    unmet = _unmet_requirements()
    wrong = f"; installed are {', '.join(unmet)}" if unmet else ""
    said = (str(cause).strip() or type(cause).__name__).splitlines()[0]
    return LibraryError(
        f"The library {name} cannot be imported ({type(cause).__name__}: {said}){wrong}: install "
        "versions that fit with `pip install --upgrade semseg-cli`."
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it came from, the first cause last."""
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__


def _first_imported(error: BaseException) -> str | None:
    """The library that an error was raised by while it was imported, the outermost."""
    names = [
        str(frame.f_globals.get("__name__"))
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_name == "<module>"
    ]
    if isinstance(error, ImportError):
        names.append(error.name or "")
    libraries = [name.partition(".")[0] for name in names]
    ours = ("", "__main__", "builtins", __package__)
    return next((library for library in libraries if library not in ours), None)


def _unmet_requirements() -> list[str]:
    """The installed packages of other versions than ours asks for: `torch 2.6.0 (torch>=2.10)`."""
    from packaging.requirements import Requirement

    try:
        lines = metadata.requires("semseg-cli") or []
    except metadata.PackageNotFoundError:  # run from its folder
        return []
    found = []
    for line in lines:
        asked = Requirement(line)
        if asked.marker is not None and not asked.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(asked.name)
        except metadata.PackageNotFoundError:
            found.append(f"no {asked.name}")
            continue
        if not asked.specifier.contains(version, prereleases=True):
            found.append(f"{asked.name} {version} (expected {asked.specifier})")
    return found
