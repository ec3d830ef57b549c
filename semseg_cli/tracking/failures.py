"""What a store's failure shows, in words: nothing there, a wrong answer, or a refusal."""

import re
from collections.abc import Iterator
from http import HTTPStatus

from semseg_cli.tracking import sqlite_file
from semseg_cli.tracking.credentials import scrubbed
from semseg_cli.tracking.patience import OutOfPatience

OTHERWISE = "give another one with --tracking-uri, or leave tracking out with --no-track"
_START = f"start the server, {OTHERWISE}"
_LOOK = f"is it an MLflow server? Look there, {OTHERWISE}"
_SIGN_IN = (
    "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD or MLFLOW_TRACKING_TOKEN, "
    f"{OTHERWISE}"
)
# A sign in the text of an error -> what is said of the store, what to try.
_SIGNS = (
    (r"CERTIFICATE_VERIFY_FAILED", "has a certificate that is not trusted",
     f"set REQUESTS_CA_BUNDLE to your authority's certificate, {OTHERWISE}"),
    (r"\[SSL|SSLError|SSLEOFError|TLS", "does not speak TLS",
     f"is it http:// instead of https://? Else {OTHERWISE}"),
    (r"Invalid [uU]rl|InvalidURL|Failed to parse: |Port could not be cast|label empty",
     "is no address", f"give http://HOST:PORT, {OTHERWISE}"),
    (r"ProxyError|Unable to connect to proxy", "cannot be reached through the proxy",
     f"check HTTPS_PROXY and NO_PROXY, {OTHERWISE}"),
    (r"NameResolutionError|Name or service not known|getaddrinfo failed|Failed to resolve",
     "cannot be found: its host has no address", f"check the name, {OTHERWISE}"),
    (r"Read timed out", "takes the connection, but sends no answer", _START),
    (r"BadStatusLine|LineTooLong|HTTPException|HTTP/0\.9|UnknownProtocol",
     "answers with something that is not HTTP", f"is it https://? {_LOOK}"),
    (r"RemoteDisconnected|Connection aborted|Connection reset|IncompleteRead|Connection broken|"
     r"InvalidChunkLength|ContentDecodingError|DecodeError|ProtocolError",
     "breaks off its answer", _LOOK),
)  # fmt: skip
_SILENCE = ("failed with exception", "failed with timeout", "Max retries", "Connection refused")
_OTHER_MLFLOW = ("out-of-date database schema", "Can't locate revision")


def sentence(uri: str, error: BaseException) -> tuple[str, str]:
    """What is wrong with the store of this public address, and what to try."""
    said, advice = _said(uri, error)
    return scrubbed(said), scrubbed(advice)


def of_artifacts(error: BaseException) -> str:
    """Why artifacts cannot be stored, and what to install where that is the reason."""
    missing = [one.name for one in _causes(error) if isinstance(one, ModuleNotFoundError)]
    if missing:
        name = "boto3" if missing[0] == "botocore" else missing[0]
        return f"the Python module {name} is not installed: run `pip install {name}`"
    said, _ = sentence("", error)
    reason = re.search(r"refuses \((.*)\)$", said, re.DOTALL)
    return reason[1] if reason else said.replace("The tracking store  ", "its server ")


def _said(uri: str, error: BaseException) -> tuple[str, str]:
    store = f"The tracking store {uri}"
    every = list(_causes(error))
    text = " ".join(dict.fromkeys(str(one) for one in every))
    for one in every:
        if isinstance(one, OutOfPatience):
            slow = "its answers are too slow, or come a few bytes at a time"
            return f"{store} has kept the command waiting for {one} s ({slow})", _START
    if (target := _redirect(every)) is not None:
        return f"{store} redirects every request to {target} (a login page?)", _LOOK
    if (status := _status(text)) is not None:
        advice = _SIGN_IN if status in (401, 403, 407) else _LOOK
        return f"{store} answers with status {_worded(status)}{_page(text)}", advice
    if "not in a valid JSON format" in text:
        kind = "an HTML page" if _page(text) else "text that is not JSON"
        return f"{store} answers with {kind}", _LOOK
    if any(type(one).__module__.startswith("google.protobuf") for one in every):
        return f"{store} answers with JSON that is not MLflow's", _LOOK
    for sign, words, advice in _SIGNS:
        if re.search(sign, text):
            return f"{store} {words}", advice
    return _refusal(uri, text)


def _refusal(uri: str, text: str) -> tuple[str, str]:
    store = f"The tracking store {uri}"
    if any(sign in text for sign in _SILENCE):
        return f"Nothing answers at the tracking store {uri}", _START
    if any(sign in text for sign in _OTHER_MLFLOW):
        advice = f"back it up and run `mlflow db upgrade {uri}`, or {OTHERWISE}"
        return f"{store} was made by another version of MLflow", advice
    if sqlite_file.is_locked(text):
        return sqlite_file.locked(uri), f"wait until that has ended and try again, or {OTHERWISE}"
    lines = text.strip().splitlines() or ["it does not say why"]
    return f"{store} refuses ({lines[0][:300].rstrip('.')})", f"correct that, or {OTHERWISE}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what it was raised from or beside, and what those carry."""
    seen: set[int] = set()
    left: list[object] = [error]
    while left:
        one = left.pop(0)
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            left += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]


def _redirect(every: list[BaseException]) -> str | None:
    """Where a chain of redirects ends up; None where it is something else."""
    for one in every:
        if type(one).__name__ == "TooManyRedirects":
            headers = getattr(getattr(one, "response", None), "headers", None) or {}
            return str(headers.get("Location", "another page"))[:200]
    return None


def _status(text: str) -> int | None:
    found = re.search(r"too many (\d{3}) error responses|failed with error code (\d{3})", text)
    found = found or re.search(r"\b(\d{3}) (?:Client|Server) Error\b", text)
    return int(next(group for group in found.groups() if group)) if found else None


def _worded(status: int) -> str:
    try:
        return f"{status} ({HTTPStatus(status).phrase})"
    except ValueError:
        return str(status)


def _page(text: str) -> str:
    is_page = re.search(r"Response (body|text): '?\s*(<!doctype|<html|<\?xml|<)", text, re.I)
    return " and an HTML page" if is_page else ""
