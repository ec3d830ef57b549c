"""Looks at picture files."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

SVG = "{http://www.w3.org/2000/svg}"


def picture(path: Path) -> np.ndarray:
    """The pixels of a PNG, [h, w, 3]; it must be whole and not of one colour."""
    assert path.read_bytes().startswith(b"\x89PNG"), path
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.std() > 1, f"{path} is blank"
    return pixels


def drawing(path: Path) -> ElementTree.Element:
    """An SVG as a tree; it must be well-formed, run nothing and fetch nothing."""
    tree = ElementTree.parse(path).getroot()
    assert tree.tag == f"{SVG}svg", path
    for element in tree.iter():
        assert element.tag not in (f"{SVG}script", f"{SVG}image", f"{SVG}foreignObject"), path
        assert not [name for name in element.attrib if name.startswith("on")], path
        links = [value for name, value in element.attrib.items() if name.endswith("href")]
        assert all(link.startswith("#") for link in links), path
    return tree


def has_colour(pixels: np.ndarray, colour: str, at_least: int = 20) -> bool:
    """Whether that many pixels have the colour, given as #rrggbb; rounding is forgiven."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((abs(pixels.astype(int) - wanted) <= 2).all(axis=2).sum()) >= at_least
