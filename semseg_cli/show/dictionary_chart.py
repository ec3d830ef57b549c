"""Scores of autoencoders by layer, and by how they reconstruct."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from semseg_cli.runs.rows import Row
from semseg_cli.show.chart_style import (
    FAINT,
    INK,
    OTHER,
    PAPER,
    TARGET,
    add_title,
    new_figure,
    save_plot,
    short_name,
    tidy,
)

AXES = {
    "score_by_layer": ("layer", "layer"),
    "score_by_l0": ("l0", "active latents per patch (L0)"),
    "score_by_explained_variance": ("explained_variance", "explained variance"),
}
SPREAD = 0.4  # of the distance of two layers, for the dictionaries of one


def score_figures(rows: Sequence[Row], folder: Path) -> None:
    """One picture for each of `AXES`, from the rows of dictionaries.csv; rows without a score, or
    without the other number, are left out."""
    for name, (key, said) in AXES.items():
        known = [row for row in rows if None not in (row["score"], row[key])]
        if known:
            _draw(_placed(known) if key == "layer" else known, key, said, folder / f"{name}.png")


def _placed(rows: Sequence[Row]) -> list[Row]:
    """The rows with dictionaries of one layer beside each other."""
    found: list[Row] = []
    for layer in sorted({row["layer"] for row in rows}):
        own = [row for row in rows if row["layer"] == layer]
        step = SPREAD / max(1, len(own) - 1)
        shift = SPREAD / 2 if len(own) > 1 else 0.0
        found += [{**row, "layer": layer - shift + step * i} for i, row in enumerate(own)]
    return found


def _draw(rows: Sequence[Row], key: str, said: str, path: Path) -> None:
    figure = new_figure(7.5, 4.2)
    axes = figure.subplots()
    tidy(axes, "y")
    for is_null, colour, what in ((False, TARGET, "given"), (True, OTHER, "null SAEs")):
        own = [row for row in rows if bool(row["null_sae"]) == is_null]
        _draw_points(axes, own, key, colour, what)
    if key == "layer":
        axes.set_xticks(sorted({round(row["layer"]) for row in rows}))
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xlabel(said, fontsize=8, color=INK)
    axes.set_ylabel("score beyond matched peers", fontsize=8, color=INK)
    axes.legend(frameon=False, fontsize=8)
    add_title(figure, f"Score by {said}")
    save_plot(figure, path)


def _draw_points(axes: Axes, rows: Sequence[Row], key: str, colour: str, what: str) -> None:
    if not rows:
        return
    sure = [row for row in rows if row["score_lo"] is not None]
    places = [row[key] for row in sure]
    ends = [[row[f"score_{end}"] for row in sure] for end in ("lo", "hi")]
    axes.vlines(places, ends[0], ends[1], color=colour, linewidth=1.2)
    axes.scatter([row[key] for row in rows], [row["score"] for row in rows], 26, colour, label=what)
    for row in rows:
        axes.annotate(
            short_name(row["dictionary"], 18),
            (row[key], row["score"]),
            textcoords="offset points",
            xytext=(5, 3),
            fontsize=6,
            color=INK,
            parse_math=False,
            bbox={"boxstyle": "square,pad=0.1", "fc": PAPER, "ec": FAINT, "lw": 0, "alpha": 0.6},
        )
