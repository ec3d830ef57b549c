"""Which images a head was trained and chosen on, by their contents: kept with its file.

A `.safetensors` file has them among its metadata. A `.pt` file, whose first line others read as two
numbers, has them in a file beside it, which also names the head that it belongs to.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from semseg_cli.errors import FileError
from semseg_cli.files import write_atomic
from semseg_cli.models.weight_files import read_metadata
from semseg_cli.readers import parse_json, read_json

KEY = "images"
EXPECTED = "expected the images of a head"


def beside(path: Path) -> Path:
    """The file that has the images of a `.pt` head: beside the file, not beside a link to it."""
    path = path.resolve()
    return path.with_name(f"{path.name}.images.json")


def write_beside(path: Path, digest: str, seen: Sequence[str], option: str) -> None:
    """Writes the images of the `.pt` head with that digest."""
    text = json.dumps({"head": digest, KEY: list(seen)})
    write_atomic(beside(path), text.encode(), option)


def copy_beside(path: Path, copy: Path, option: str) -> None:
    """Gives a copy of a `.pt` head the images of that head, where they are known."""
    if beside(path).is_file():
        write_atomic(beside(copy), beside(path).read_bytes(), option)


def metadata(seen: Sequence[str]) -> dict[str, str]:
    """The images as metadata of a safetensors file."""
    return {KEY: json.dumps(list(seen))} if seen else {}


def images_of(path: Path, digest: str) -> frozenset[str]:
    """The images of the head in a file; none where nothing is known of them."""
    try:
        if path.suffix == ".safetensors":
            found = parse_json(read_metadata(path).get(KEY, "[]"), str(path), EXPECTED)
        else:
            kept = read_json(beside(path), str(beside(path)), EXPECTED)
            found = kept[KEY] if kept["head"] == digest else []
        return frozenset(map(str, found))
    except (FileError, KeyError, TypeError):
        return frozenset()  # what is said beside the weights never stops a run
