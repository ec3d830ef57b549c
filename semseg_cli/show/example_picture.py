"""The picture of one example: an image, its labels, its predictions before and after an edit."""

import math
from collections.abc import Mapping, Sequence
from colorsys import hls_to_rgb
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from semseg_cli.show.chart_style import DPI, INK, OTHER, TARGET, save_figure, short_name

# The first after Okabe and Ito, without those that say target and other.
COLOURS = ("#E69F00", "#009E73", "#CC79A7", "#F0E442", "#56B4E9", "#8C510A", "#882255")
GOLDEN = (math.sqrt(5) - 1) / 2
REST = "#FFFFFF"
N_NAMED = 7
OPACITY = 0.65


@dataclass(frozen=True)
class Example:
    """One image and one class. Grids hold class ids by patch, [rows, columns]; 0 is no label."""

    image_hwc: np.ndarray
    truth: np.ndarray
    before: np.ndarray
    after: np.ndarray
    class_id: int
    title: str

    @property
    def changed(self) -> np.ndarray:
        """1 where a patch of the class changed, 2 where another one did, else 0."""
        kind = np.where(self.before == self.class_id, 1, 2)
        return np.where(self.before != self.after, kind, 0)


def example_figure(example: Example, class_names: Sequence[str], path: Path) -> None:
    """Image, true labels, prediction before, prediction after, changed patches; one PNG."""
    figure = Figure(figsize=(12, 3.15), dpi=DPI, facecolor="white")
    axes = figure.subplots(1, 5)
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.1, top=0.84, wspace=0.02)
    colours = class_colours(example)
    painted = [
        ("image", None),
        ("true labels, by patch", _paint(example.truth, colours)),
        ("prediction before", _paint(example.before, colours)),
        ("prediction after", _paint(example.after, colours)),
        ("changed patches", _paint(example.changed, {1: TARGET, 2: OTHER})),
    ]
    for one, (title, overlay) in zip(axes, painted, strict=True):
        _show(one, title, example.image_hwc, overlay)
    names = {i: short_name(class_names[i - 1], 18) for i in colours}
    _legend(figure, _class_entries(example, names, colours), "lower left", 0.003)
    _legend(figure, _changed_entries(example, names[example.class_id]), "lower right", 0.997)
    figure.suptitle(example.title, y=0.985, fontsize=11, color=INK, parse_math=False)
    save_figure(figure, path)


def colour_of(class_id: int) -> str:
    """The class's colour in every picture of every run; beyond the first few, neighbours by id are
    far apart on the colour wheel."""
    if class_id <= len(COLOURS):
        return COLOURS[class_id - 1]
    lightness, saturation = ((0.42, 0.85), (0.66, 0.75), (0.3, 0.65))[class_id % 3]
    return to_hex(hls_to_rgb((GOLDEN * class_id + 0.2) % 1, lightness, saturation))


def class_colours(example: Example) -> dict[int, str]:
    """The class in question and the largest other ones, each with its colour."""
    ids, n_patches = np.unique(_all_ids(example), return_counts=True)
    by_size = ids[np.argsort(-n_patches, kind="stable")].tolist()
    others = [i for i in by_size if i not in (0, example.class_id)]
    return {i: colour_of(i) for i in [example.class_id, *others][:N_NAMED]}


def _all_ids(example: Example) -> np.ndarray:
    return np.stack([example.truth, example.before, example.after])


def _class_entries(
    example: Example, names: Mapping[int, str], colours: Mapping[int, str]
) -> dict[str, str]:
    entries = {names[i]: colour for i, colour in colours.items()}
    is_whole = set(_all_ids(example).flatten().tolist()) <= {0, *colours}
    return entries if is_whole else {**entries, "other classes": REST}


def _changed_entries(example: Example, name: str) -> dict[str, str]:
    n_own = int((example.before == example.class_id).sum())
    n_others = example.before.size - n_own
    return {
        f"{name}: {(example.changed == 1).sum()} of {n_own}": TARGET,
        f"others: {(example.changed == 2).sum()} of {n_others}": OTHER,
    }


def _paint(grid: np.ndarray, colours: Mapping[int, str]) -> np.ndarray:
    """The grid as colours with opacity; 0 is transparent."""
    painted = np.zeros((*grid.shape, 4))
    painted[grid != 0] = (*to_rgb(REST), OPACITY)
    for class_id, colour in colours.items():
        painted[grid == class_id] = (*to_rgb(colour), OPACITY)
    return painted


def _show(axes: Axes, title: str, image_hwc: np.ndarray, overlay: np.ndarray | None) -> None:
    height, width, _ = image_hwc.shape
    whole = (0, width, height, 0)
    axes.set_title(title, fontsize=9, color=INK, pad=4)
    axes.set_axis_off()
    if overlay is None:
        axes.imshow(image_hwc, extent=whole)
        return
    axes.imshow(image_hwc.mean(axis=2), cmap="gray", vmin=0, vmax=1, extent=whole)
    axes.imshow(overlay, extent=whole, interpolation="nearest")


def _legend(
    figure: Figure,
    entries: Mapping[str, str],
    place: Literal["lower left", "lower right"],
    x: float,
) -> None:
    handles = [
        Patch(facecolor=(*to_rgb(colour), 0.85), edgecolor="#777777", linewidth=0.6, label=label)
        for label, colour in entries.items()
    ]
    legend = figure.legend(
        handles=handles, loc=place, bbox_to_anchor=(x, 0.0), ncols=len(entries), frameon=False,
        fontsize=8.5, handlelength=1.2, columnspacing=1.2, borderaxespad=0.3,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
