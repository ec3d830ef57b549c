"""Heads that are published at an address: fetched once, then kept in the cache folder."""

import os
import re
import urllib.error
import urllib.request
from pathlib import Path

from semseg_cli.errors import SemsegError
from semseg_cli.files import make_folder, write_atomic

SERVER = "https://dl.fbaipublicfiles.com/"
MOST_BYTES = 64 * 2**20  # the largest published linear head has one
TIMEOUT_S = 60.0
NAME = re.compile(r"[\w-]+\.pth")


def is_address(source: str) -> bool:
    """Whether a head is named by an address."""
    return "://" in source


def fetch_head(address: str, cache_dir: Path) -> Path:
    """The local copy of a published head.

    Raises:
        SemsegError: the address is none of Facebook's files, or cannot be fetched.
    """
    name = address.rpartition("/")[2]
    if not address.startswith(SERVER) or not NAME.fullmatch(name):
        raise SemsegError(
            f"The head {address} is not fetched: of addresses only DINOv2's heads below {SERVER} "
            "are; download others and give the file as --seg-ckpt."
        )
    path = cache_dir / "heads" / name
    if not path.is_file():
        make_folder(path.parent, "--cache-dir")
        write_atomic(path, _read(address, path), "--cache-dir")
    return path


def _read(address: str, path: Path) -> bytes:
    advice = f"download it elsewhere, and put it at {path} or give it as --seg-ckpt"
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "TRUE", "YES", "ON"):
        raise SemsegError(f"The head {address} is not in the cache, and HF_HUB_OFFLINE: {advice}.")
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:
            data = answer.read(MOST_BYTES + 1)
    except (OSError, urllib.error.URLError) as error:
        raise SemsegError(f"The head {address} cannot be fetched ({error}): {advice}.") from error
    if len(data) > MOST_BYTES:
        raise SemsegError(f"The head {address} is larger than {MOST_BYTES} bytes: {advice}.")
    return data
