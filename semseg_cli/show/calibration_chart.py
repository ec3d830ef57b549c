"""Each class's score beside what its nulls do: one line per class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from semseg_cli.runs.rows import Row
from semseg_cli.show.chart_style import (
    INK,
    OTHER,
    PALE,
    PAPER,
    TARGET,
    add_title,
    name_rows,
    new_figure,
    save_plot,
    short_name,
    tidy,
)

PEERS = PALE
NULLS = (("peers", "value", PEERS, -0.18), ("matched", "matched_value", OTHER, 0.18))
LABELS = {"peers": "peers: median to 95%", "matched": "matched peers: median to 95%"}


def forest_figure(rows: Sequence[Row], path: Path, results: Sequence[Row] = ()) -> None:
    """The scores of the classes that were judged, best first; claimed ones are filled.

    Each score stands on the line of its null, since both are taken on the same images. Between
    them is the interval of the score over all images, from the rows of class_results.csv.
    """
    judged = sorted(
        (row for row in rows if row["value"] is not None), key=lambda row: -row["value"]
    )
    figure = new_figure(7.5, 1.6 + 0.34 * max(1, len(judged)))
    axes = figure.subplots()
    tidy(axes, "x")
    for name, own, colour, shift in NULLS:
        _draw_null(axes, judged, (name, own), colour, shift)
    _draw_intervals(axes, judged, results)
    faces = [TARGET if row["claimed"] else PAPER for row in judged]
    for _, own, _, shift in NULLS:
        places = np.arange(len(judged)) + shift
        axes.scatter([row[own] for row in judged], places, 26, faces, edgecolors=TARGET, zorder=4)
    axes.scatter([], [], 26, TARGET, edgecolors=TARGET, label="the class's own, claimed")
    axes.scatter([], [], 26, PAPER, edgecolors=TARGET, label="the class's own, not claimed")
    name_rows(axes, [short_name(row["class_name"]) for row in judged])
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_xlabel("target change minus other change", fontsize=8, color=INK)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    add_title(figure, "Each class's latent among its nulls")
    save_plot(figure, path)


def _draw_null(
    axes: Axes, rows: Sequence[Row], keys: tuple[str, str], colour: str, shift: float
) -> None:
    name, _ = keys
    places = np.arange(len(rows)) + shift
    begin, end = ([row[f"{name}_{key}"] for row in rows] for key in ("median", "p95"))
    axes.hlines(places, begin, end, color=colour, linewidth=4, alpha=0.6, label=LABELS[name])
    axes.scatter(begin, places, 14, colour, marker="|", zorder=3)


def _draw_intervals(axes: Axes, rows: Sequence[Row], results: Sequence[Row]) -> None:
    known = {row["class_id"]: row for row in results if row.get("selectivity_lo") is not None}
    sure = [(i, known[row["class_id"]]) for i, row in enumerate(rows) if row["class_id"] in known]
    if not sure:
        return
    begin, end = ([row[f"selectivity_{at}"] for _, row in sure] for at in ("lo", "hi"))
    label = "95% interval over all images"
    axes.hlines([i for i, _ in sure], begin, end, color=TARGET, linewidth=1.2, label=label)
