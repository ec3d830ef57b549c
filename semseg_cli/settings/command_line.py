"""Commands as a user types them: what is printed runs when it is pasted into a shell."""

import shlex
from pathlib import Path


def command_line(*words: str | Path) -> str:
    """A command of the program."""
    return typed("semseg-cli", *words)


def typed(*words: str | Path) -> str:
    """Words of a command, quoted; paths that begin with a dash would pass for options."""
    return shlex.join(argument(word) for word in words)


def argument(word: str | Path) -> str:
    """A word as typed, not quoted yet."""
    is_like_option = isinstance(word, Path) and str(word).startswith("-")
    return f"./{word}" if is_like_option else str(word)
