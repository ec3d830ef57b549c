"""Known failures. Their message is one sentence: what was wrong, what was expected, what to try."""


class SemsegError(Exception):
    """A failure whose cause we know; the command line prints its sentence and exits with 1."""


class UsageError(SemsegError):
    """A wrong option or argument; the command line exits with 2."""


class FileError(SemsegError):
    """A file is not what it should be."""


class StoreError(SemsegError):
    """The MLflow tracking store cannot be reached, read or written."""


class VersionError(FileError):
    """A file or run that another version of this program wrote, in a form unknown to this one."""
