"""Known failures. Their message is one sentence: what was wrong, what was expected, what to try."""

import unicodedata

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
