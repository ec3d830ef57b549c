"""User names and passwords of store addresses: kept in memory, never shown and never written.

The program knows a store by its public address; only what opens it asks for the whole one.
"""

import re
from urllib.parse import unquote

_whole: dict[str, str] = {}  # by public address


def public(uri: str) -> str:
    """The address without user name, password and query; texts that are none stay as they are."""
    if uri.startswith("sqlite:"):
        return uri
    head, equals, address = uri.rpartition("=") if uri.startswith("--") else ("", "", uri)
    scheme, mark, rest = address.rpartition("://") if "://" in address else ("", "", address)
    if not mark and not re.match(r"[^/@\s]*:[^@\s]*@", rest):
        return uri
    place = rest.rpartition("@")[2] if _holds_password(rest) else rest
    return head + equals + scheme + mark + re.split(r"[?#]", place)[0]


def _holds_password(rest: str) -> bool:
    """Whether what stands before an @ is a password: it may hold a / that nobody encoded."""
    host, slash, path = rest.partition("/")
    is_host = re.fullmatch(r"(\[[\w:.]*\]|[^:]*)(:\d*)?", host) is not None
    return "@" in host or (bool(slash) and "@" in path and not is_host)


def keep(uri: str) -> str:
    """The public address; from now on `whole` gives this one for it."""
    shown = public(uri)
    if shown != uri:
        _whole[shown] = uri
    return shown


def whole(uri: str) -> str:
    """The address with the user name and the password that this process was given for it."""
    return _whole.get(uri, uri)


def scrubbed(text: str) -> str:
    """A text without the user names and passwords that this process was given."""
    for uri in _whole.values():
        text = text.replace(uri, public(uri))
        for secret in _secrets(uri):
            text = text.replace(secret, "***")
    return text


def _secrets(uri: str) -> list[str]:
    """User and password as they are written together, the password, the user in quotes."""
    rest = uri.partition("://")[2]
    together = rest.rpartition("@")[0]
    if not together or not _holds_password(rest):
        return []
    user, _, password = together.partition(":")
    quoted = [f'"{unquote(user)}"', f"'{unquote(user)}'"] if user else []
    words = {password, unquote(password)}
    return [together, *sorted((w for w in words if len(w) > 3), key=len, reverse=True), *quoted]
