"""The class-to-class change matrix as a picture: its largest flows."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from semseg_cli.runs.rows import Row
from semseg_cli.show.chart_style import (
    BRIGHT,
    GRID,
    INK,
    PALE,
    TARGET,
    add_title,
    name_rows,
    new_figure,
    save_plot,
    short_name,
)


def flow_figure(
    flows: Sequence[Row], n_patches: Mapping[int, int], path: Path, n_most: int = 16
) -> None:
    """The largest flows from class to class, as shares of the class they leave. Classes that trade
    patches stand beside each other.

    Args:
        flows: rows of change_matrix.parquet.
        n_patches: predicted patches of each class before the edit.
        path: the file to write.
        n_most: classes on either side, at most; those of the largest flows.
    """
    origins, targets = (grouped(flows, n_patches, ids) for ids in _largest(flows, n_most))
    names = {flow["class_id"]: flow["class_name"] for flow in flows}
    names |= {flow["new_class_id"]: flow["new_class_name"] for flow in flows}
    figure = new_figure(max(7.0, 3.2 + 0.46 * len(targets)), 2.0 + 0.34 * len(origins))
    axes = figure.subplots()
    _draw_shares(axes, _shares(flows, n_patches, origins, targets))
    name_rows(axes, [short_name(names[i]) for i in origins])
    axes.set_ylim(max(len(origins), 1) - 0.5, -0.5)
    axes.set_xticks(
        range(len(targets)), [short_name(names[i], 18) for i in targets], parse_math=False,
        rotation=45, ha="left", rotation_mode="anchor",
    )  # fmt: skip
    axes.xaxis.tick_top()
    axes.tick_params(colors=INK, labelsize=8, length=0)
    axes.set_xlabel(_coverage(flows, origins, targets), fontsize=8, color=INK)
    add_title(figure, "Where changed patches go: from row to column, in % of the row's patches")
    save_plot(figure, path)


def _shares(
    flows: Sequence[Row],
    n_patches: Mapping[int, float],
    origins: Sequence[int],
    targets: Sequence[int],
) -> np.ndarray:
    """Share of each origin's patches that went to each target; NaN where none did."""
    n_moved = {(flow["class_id"], flow["new_class_id"]): flow["n_patches"] for flow in flows}
    cells = [[n_moved.get((i, j), math.nan) / n_patches[i] for j in targets] for i in origins]
    return np.array(cells, dtype=float).reshape(len(origins), len(targets))


def _coverage(flows: Sequence[Row], origins: Sequence[int], targets: Sequence[int]) -> str:
    n_all = sum(flow["n_patches"] for flow in flows)
    n_shown = sum(
        flow["n_patches"]
        for flow in flows
        if flow["class_id"] in origins and flow["new_class_id"] in targets
    )
    if not n_all:
        return "no patch of any class changed"
    return f"{100 * n_shown / n_all:.0f}% of the {n_all} changed patches are shown"


def _largest(flows: Sequence[Row], n_most: int) -> tuple[list[int], list[int]]:
    """The classes that the largest flows leave and enter, at most `n_most` of either."""
    origins: dict[int, None] = {}
    targets: dict[int, None] = {}
    for flow in sorted(flows, key=lambda flow: -flow["n_patches"]):
        origin, target = flow["class_id"], flow["new_class_id"]
        if (origin in origins or len(origins) < n_most) and (
            target in targets or len(targets) < n_most
        ):
            origins.setdefault(origin)
            targets.setdefault(target)
    return list(origins), list(targets)


def grouped(
    flows: Sequence[Row], n_patches: Mapping[int, int], class_ids: Sequence[int]
) -> list[int]:
    """Classes in the order of their groups: by average linkage, those are close between which a
    large share of either's patches goes; the order does not depend on that of the flows."""
    every = sorted({*class_ids, *(f[key] for f in flows for key in ("class_id", "new_class_id"))})
    if len(every) < 3:
        return [i for i in every if i in class_ids]
    known = {i: n_patches.get(i, 0) for i in every}
    shares = np.nan_to_num(
        _shares(flows, {i: n or math.nan for i, n in known.items()}, every, every)
    )
    far = 1 - np.maximum(shares, shares.T).clip(max=1)
    np.fill_diagonal(far, 0)
    tree = linkage(squareform(far), "average", optimal_ordering=True)
    return [every[i] for i in leaves_list(tree) if every[i] in class_ids]


def _draw_shares(axes: Axes, shares: np.ndarray) -> None:
    axes.spines[:].set_visible(False)
    if not shares.size:
        return
    darkest = max(0.2, float(np.nanmax(shares)))
    n_rows, n_columns = shares.shape
    axes.set_xlim(-0.5, n_columns - 0.5)
    axes.set_xticks(np.arange(n_columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(n_rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=GRID, linewidth=1)
    axes.tick_params(which="minor", length=0)
    # Cells lie inside the axes: what is laid out are names and titles alone.
    for (row, column), share in np.ndenumerate(shares):
        if not math.isnan(share):
            # See-through colour, so that a cell is as strong on a dark page as on a light one.
            colour = (*to_rgb(TARGET), min(1.0, 0.04 + 0.96 * share / darkest))
            place = (column - 0.5, row - 0.5)
            axes.add_artist(Rectangle(place, 1, 1, facecolor=colour, in_layout=False))
            text = f"{100 * share:.0f}" if share >= 0.005 else "<1"
            ink = BRIGHT if share > 0.5 * darkest else INK if share >= 0.005 else PALE
            axes.text(
                column, row, text, ha="center", va="center", fontsize=7.5, color=ink,
                in_layout=False,
            )  # fmt: skip
