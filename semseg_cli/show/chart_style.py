"""What all pictures share: colours, names, axes, and writing the file.

Only matplotlib's object interface is used, so nothing is left behind in the process.
"""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from semseg_cli.errors import SemsegError
from semseg_cli.files import make_folder, write_atomic

SUFFIXES = (".png", ".pdf", ".svg")
DPI = 120
TARGET, OTHER = "#0072B2", "#D55E00"  # told apart with every kind of colour blindness
INK, FAINT = "#222222", "#BBBBBB"
NAME_LENGTH = 26


def save_figure(figure: Figure, path: Path, option: str = "--dump-to") -> None:
    """Writes a picture; its suffix says in which format.

    Raises:
        SemsegError: the suffix names no format, or the file cannot be written; the sentence names
            the option to change.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise SemsegError(
            f"{path} cannot be drawn: give a file name that ends in {', '.join(SUFFIXES)}."
        )
    data = _drawn(figure, path.suffix.lower()[1:])
    make_folder(path.parent, option)
    write_atomic(path, data, option)


def _drawn(figure: Figure, format: str) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        # A sign that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(file, format=format, dpi=DPI)
    return file.getvalue()


class Picture(Figure):
    """A figure that a notebook shows by itself, without pyplot."""

    def _repr_png_(self) -> bytes:
        return _drawn(self, "png")


def short_name(name: Any, length: int = NAME_LENGTH) -> str:
    """A name on one line, cut where it is long."""
    text = " ".join(str(name).split())
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure, in inches, that makes room for its labels."""
    return Picture(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")


def tidy(axes: Axes, grid: Literal["x", "y", "both"]) -> None:
    """Quiet axes: a faint grid behind, no frame."""
    axes.set_axisbelow(True)
    axes.grid(axis=grid, color="#E4E4E4", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=8, length=0)


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Names the lines 0, 1, ... from the top down."""
    # Names are no formulas: a "$" stays one.
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)


def add_title(figure: Figure, text: str) -> None:
    """The title of the whole picture."""
    figure.suptitle(text, fontsize=10, color=INK, parse_math=False)
