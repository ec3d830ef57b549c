"""What all pictures share: colours, names, axes, and writing the file.

Only matplotlib's object interface is used, so nothing is left behind in the process.
"""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from semseg_cli.errors import SemsegError
from semseg_cli.files import make_folder, write_atomic

SUFFIXES = (".png", ".pdf", ".svg")
DPI = 150
TARGET, OTHER = "#0072B2", "#D55E00"  # told apart with every kind of colour blindness
INK, FAINT, GRID, PALE, PAPER = "#222222", "#BBBBBB", "#E4E4E4", "#999999", "#FFFFFF"
BRIGHT = "#FEFEFE"  # white on a colour, light or dark
NAME_LENGTH = 26
# What colours are on a dark page. Whoever shows no dark ones gets the picture as it was drawn.
DARK = {
    INK: "#E6E9EC",
    FAINT: "#59636D",
    GRID: "#343C44",
    PALE: "#98A2AC",
    PAPER: "#1E2429",
    TARGET: "#4BA3DC",
    OTHER: "#F0843C",
}


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
    drawn = _drawn(figure, path.suffix.lower()[1:])
    make_folder(path.parent, option)
    write_atomic(path, drawn, option)


def save_plot(figure: Figure, path: Path) -> None:
    """Writes a picture of a run twice: pixels (.png) and lines (.svg), whatever suffix is given."""
    with _laid_out(figure):
        for suffix in (".png", ".svg"):
            save_figure(figure, path.with_suffix(suffix))


@contextmanager
def _laid_out(figure: Figure) -> Iterator[None]:
    """Draws a figure whose parts are placed once, as pixels have it: else that is done for each
    file, and all is drawn once more for it."""
    engine = figure.get_layout_engine()
    with warnings.catch_warnings():
        # A sign that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        if engine is None or not figure.axes:
            yield
            return
        engine.execute(figure)
        figure.set_layout_engine(None)
        try:
            yield
        finally:
            figure.set_layout_engine(engine)


def _drawn(figure: Figure, form: str) -> bytes:
    drawn = io.BytesIO()
    # Text stays text, and the same figure is always the same file.
    style = rc_context({"svg.fonttype": "none", "svg.hashsalt": "semseg-cli"})
    with _laid_out(figure), style:
        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form)
        figure.savefig(drawn, format=form, dpi=DPI, metadata=metadata)
    return themed(drawn.getvalue()) if form == "svg" else drawn.getvalue()


def themed(svg: bytes) -> bytes:
    """The drawing with the colours that it takes on a dark page."""
    rules = "".join(
        f'[style*="{what}: {light.lower()}"]{{{what}:{dark}!important}}'
        for light, dark in DARK.items()
        for what in ("fill", "stroke")
    )
    rules += f"text{{fill:{DARK[INK]}}}"  # legends name no colour
    style = f"<style>@media (prefers-color-scheme: dark) {{{rules}}}</style>\n</svg>"
    head, _, tail = svg.rpartition(b"</svg>")
    return head + style.encode() + tail


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
    return Picture(figsize=(width, height), dpi=DPI, layout="constrained", facecolor=PAPER)


def tidy(axes: Axes, grid: Literal["x", "y", "both"]) -> None:
    """Quiet axes: a faint grid behind, no frame."""
    axes.set_axisbelow(True)
    axes.grid(axis=grid, color=GRID, linewidth=0.8)
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
