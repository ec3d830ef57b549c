"""Commands as a user types them: what is printed runs when it is pasted into a shell."""

import shlex
from pathlib import Path


def command_line(*words: str | Path) -> str:
    """A command of the program."""
    return typed("semseg-cli", *words)


def typed(*words: str | Path) -> str:
    """Words of a command, quoted; paths that begin with a dash would pass for options."""
    return " ".join(_quoted(argument(word)) for word in words)


def _quoted(word: str) -> str:
    """Double quotes where single ones are in the word and a shell reads nothing else into it."""
    is_plain = "'" in word and not set(word) & set('"$`\\!')
    return f'"{word}"' if is_plain else shlex.quote(word)


def argument(word: str | Path) -> str:
    """A word as typed, not quoted yet."""
    is_like_option = isinstance(word, Path) and str(word).startswith("-")
    return f"./{word}" if is_like_option else str(word)
